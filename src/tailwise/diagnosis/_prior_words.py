"""What the prior side found, in words."""

from tailwise.diagnosis._uncertain import Uncertain

__all__ = ["agreement_sentence"]

_WHAT = "What the model knew beforehand"
_WORDS = ((0.1, "hardly"), (0.3, "weakly"), (0.5, "moderately"), (1.01, "strongly"))  # |Spearman| below


def agreement_sentence(spearman: Uncertain) -> str:
    """Say how far the model's knowledge and popularity in the log go together.

    Example:
        >>> agreement_sentence(Uncertain(0.21, 0.16, 0.26))
        'What the model knew beforehand agrees weakly with your log: Spearman 0.21 (0.16 to 0.26).'
    """
    value, low, high = spearman.value, spearman.low, spearman.high
    if value is None:
        return f"{_WHAT} cannot be compared with your log: too few items, or all are alike."
    if low is None or high is None:
        return f"{_WHAT} and your log have Spearman {value:.2f}; too few items for an interval."
    numbers = f"Spearman {value:.2f} ({low:.2f} to {high:.2f})"
    word = next(word for bound, word in _WORDS if abs(value) < bound)
    if low <= 0 <= high:
        return f"Whether {_WHAT[0].lower()}{_WHAT[1:]} agrees with your log cannot be told: {numbers}."
    if value < 0:
        return f"{_WHAT} runs {word} against your log: {numbers}."
    return f"{_WHAT} agrees {word} with your log: {numbers}."
