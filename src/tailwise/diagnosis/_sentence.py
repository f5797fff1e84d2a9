"""The attribution in one sentence that a product manager can read."""

from tailwise.diagnosis._uncertain import Uncertain

__all__ = ["sentence"]

_ALPHA = 0.05
_WHAT = "the differences in accuracy between items"


def sentence(
    *,
    data: Uncertain,
    prior: Uncertain,
    both: Uncertain,
    p_data: float,
    p_prior: float,
    is_measurable: bool,
    is_corrected: bool,
    worth: tuple[float, float] | None = None,
) -> str:
    """Say what goes with which side, how sure that is, and what cannot be told.

    Args:
        data: Shapley share of the log.
        prior: Shapley share of the prior.
        both: Explained by both together.
        p_data: Of "the log adds nothing to the prior".
        p_prior: Of "the prior adds nothing to the log".
        is_measurable: Items differ measurably at all.
        is_corrected: The shares are corrected for the error of the prior's estimates.
        worth: Items and users of equal weight that the targets are worth, where these are too few
            for the intervals to be 95 % ones; None where they are enough.
    """
    if not is_measurable:
        return (
            "Items do not differ measurably in accuracy beyond chance, so there is no gap to explain: "
            "hold out more targets."
        )
    told_data, told_prior = p_data <= _ALPHA, p_prior <= _ALPHA
    if told_data and told_prior:
        larger, smaller = ("data", "prior") if (data.value or 0) >= (prior.value or 0) else ("prior", "data")
        first, second = (data, prior) if larger == "data" else (prior, data)
        text = (
            f"{_amount(first)} of {_WHAT} goes with {_SIDE[larger]}, {_share(second)} "
            f"with {_SIDE[smaller]}; each adds something that the other does not explain"
        )
    elif told_data:
        text = (
            f"{_amount(data)} of {_WHAT} goes with {_SIDE['data']}; {_SIDE['prior']} is given "
            f"{_share(prior)}, but what it adds to the log cannot be told from nothing (p = {p_prior:.2f})"
        )
    elif told_prior:
        text = (
            f"{_amount(prior)} of {_WHAT} goes with {_SIDE['prior']}; {_SIDE['data']} is given "
            f"{_share(data)}, but what it adds to the prior cannot be told from nothing (p = {p_data:.2f})"
        )
    elif both.low is not None and both.low > 0:
        text = (
            f"{_SIDE['data'].capitalize()} and {_SIDE['prior']} together explain {_share(both)} of {_WHAT}, "
            f"but they tell so much the same that neither adds to the other more than chance would "
            f"(p = {p_data:.2f} and {p_prior:.2f})"
        )
    else:
        text = (
            f"Neither {_SIDE['data']} nor {_SIDE['prior']} explains {_WHAT}: together {_share(both)}, "
            "which cannot be told from nothing"
        )
    if not is_corrected:
        text += "; the prior's error of measurement is not corrected, so its share may be larger"
    if worth is not None:
        text += (
            f"; the targets are worth those of only {worth[0]:.0f} items and {worth[1]:.0f} users of equal "
            "weight, so take the intervals as rough"
        )
    return text + "."


_SIDE = {"data": "the shop's own log", "prior": "the language model's prior"}


def _amount(share: Uncertain) -> str:
    """Begin a sentence with a share: "Most (62 %, 45 to 80)", "Part (30 %, 12 to 49)"."""
    value = share.value or 0.0
    word = "Most" if value > 0.5 else "Part" if value > 0.1 else "Little"
    return f"{word} ({_share(share)})"


def _share(share: Uncertain) -> str:
    """Write a share in percent with its interval, without brackets: "62 %, 45 to 80"."""
    if share.value is None:
        return "an unknown share"
    if share.low is None or share.high is None:
        return f"{100 * share.value:.0f} %"
    return f"{_percent(share.value)} %, {_percent(share.low)} to {_percent(share.high)}"


def _percent(share: float) -> str:
    """Whole percents with a true minus sign, and never a negative zero."""
    rounded = round(100 * share)
    return f"−{-rounded}" if rounded < 0 else str(rounded)
