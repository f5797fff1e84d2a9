"""An off-policy result for people: a sentence, and a table for the terminal."""

from rich import box
from rich.table import Table

from tailwise.experiments.ope._result import Estimate, OffPolicyResult, ShownValue
from tailwise.experiments.ope._weights import ASSUMPTIONS

__all__ = ["estimates_table", "sentence", "support_table"]

_NAMES = {"ips": "IPS", "snips": "self-normalised IPS", "dr": "doubly robust"}


def sentence(result: OffPolicyResult) -> str:
    """Say in one or two sentences what the policy would have earned and how that compares.

    Example: ``treatment would have earned 31.2 clicks per 1,000 lists (95 % interval 27.0 to 35.4),
    12.0 % more than what was shown (2.1 % to 22.9 % more).``
    """
    best, shown = result.headline, result.shown
    level = f"{100 * result.confidence:g} %"
    text = (
        f"{result.policy} would have earned {_per_thousand(best.value)} {result.reward} per 1,000 "
        f"{result.unit} ({level} interval {_per_thousand(best.low)} to {_per_thousand(best.high)})"
    )
    if best.change is None:
        text += f"; what was shown earned {_per_thousand(shown.value)}."
    else:
        text += (
            f", {_more(best.change)} than what was shown ({level} interval {_signed(best.change_low)} to "
            f"{_signed(best.change_high)})."
        )
    if best.difference_low <= 0 <= best.difference_high:
        text += " This log cannot tell the two apart."
    return text


def estimates_table(result: OffPolicyResult) -> Table:
    """Lay out every estimate, per 1,000 lists or slots."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column(f"{result.reward} per 1,000 {result.unit}", overflow="fold")
    for header in ("estimate", f"{100 * result.confidence:g} % interval", "against shown"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_row(f"shown: {result.shown.n_lists:,} drawn {result.unit}", *_shown_cells(result.shown))
    if result.not_drawn is not None:
        table.add_row(f"shown: {result.not_drawn.n_lists:,} not drawn", *_shown_cells(result.not_drawn))
    for found in result.estimates:
        table.add_row(f"{result.policy}, {_NAMES[found.estimator]}{_weights(result, found)}", *_cells(found))
    return table


def support_table(result: OffPolicyResult) -> Table:
    """Lay out the diagnostics, a row per slot."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for header in (
        "slot",
        result.unit,
        "possible",
        "effective",
        "largest",
        "top 1 %",
        "Pareto k",
        "mean weight",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("never shown", justify="right", no_wrap=True)
    for d in result.diagnostics:
        table.add_row(
            str(d.slot),
            f"{d.n:,}",
            f"{d.n_possible:,}",
            f"{d.effective_sample_size:,.0f}",
            f"{d.max_share:.1%}",
            f"{d.top_share:.1%}",
            "" if d.pareto_k is None else f"{d.pareto_k:.2f}",
            f"{d.mean_weight:.3f} ({d.mean_low:.2f}–{d.mean_high:.2f})",
            "" if d.never_shown_mass is None else f"{d.never_shown_mass:.1%}",
        )
    return table


def _weights(result: OffPolicyResult, found: Estimate) -> str:
    if len({e.interaction for e in result.estimates}) == 1:
        return ""
    return f" ({ASSUMPTIONS[found.interaction]})"


def _cells(found: Estimate) -> tuple[str, str, str]:
    change = "" if found.change is None else f"{_signed(found.change)}"
    if found.change is not None:
        change += f" ({_signed(found.change_low)} to {_signed(found.change_high)})"
    return _per_thousand(found.value), f"{_per_thousand(found.low)} to {_per_thousand(found.high)}", change


def _shown_cells(shown: ShownValue) -> tuple[str, str, str]:
    return _per_thousand(shown.value), f"{_per_thousand(shown.low)} to {_per_thousand(shown.high)}", ""


def _per_thousand(value: float) -> str:
    return f"{1000 * value:,.1f}".replace("-", "−")


def _more(change: float) -> str:
    return f"{abs(100 * change):.1f} % {'more' if change >= 0 else 'less'}"


def _signed(change: float | None) -> str:
    return "" if change is None else f"{100 * change:+.1f} %".replace("-", "−")
