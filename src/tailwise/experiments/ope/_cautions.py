"""What to be careful about in an off-policy estimate, in words."""

from collections.abc import Sequence

from tailwise.experiments.ope._diagnostics import SlotDiagnostics
from tailwise.experiments.ope._result import Estimate

__all__ = ["cautions"]

_FEW = 100.0  # effective lists below which intervals of skewed rewards cover less than they say
_BAD_PARETO_K = 0.7  # Vehtari et al., arXiv:1507.02646
_WRONG_MEAN_P = 1e-3  # over all slots


def cautions(
    diagnostics: Sequence[SlotDiagnostics],
    headline: Estimate,
    *,
    clip: float | None,
    n_clipped: int,
    unit: str,
) -> tuple[str, ...]:
    """Say what a reader should know before believing the number.

    Args:
        diagnostics: Of the headline's weights, before clipping.
        headline: The number.
        clip: Where weights were cut; None: nowhere.
        n_clipped: Slots whose weight was cut.
        unit: Lists or slots.
    """
    found = []
    few = [d for d in diagnostics if d.effective_sample_size < _FEW]
    if few:
        d = min(few, key=lambda d: d.effective_sample_size)
        found.append(
            f"slot {d.slot}: {d.n:,} {unit} say as much as {d.effective_sample_size:,.0f} of the policy's "
            f"own would; below {_FEW:.0f} the interval is a rough guide"
        )
    heavy = [d for d in diagnostics if d.pareto_k is not None and d.pareto_k > _BAD_PARETO_K]
    if heavy:
        d = max(heavy, key=lambda d: d.pareto_k or 0.0)
        found.append(
            f"slot {d.slot}: a few weights decide (Pareto k = {d.pareto_k:.2f}, above {_BAD_PARETO_K}; the "
            f"largest has {d.max_share:.0%} of the sum)"
        )
    level = _WRONG_MEAN_P / len(diagnostics)
    for d in diagnostics:
        if d.mean_p >= level:
            continue
        mean = (
            f"slot {d.slot}: the mean weight is {d.mean_weight:.3f} ({d.mean_low:.3f} to {d.mean_high:.3f})"
        )
        found.append(
            f"{mean} and cannot be above 1 by lack of support: the propensities are not those of these lists"
            if d.mean_weight > 1
            else f"{mean}, so about {d.unsupported_mass:.1%} of the policy's probability has no support; "
            "what it earns there is not in IPS, and in the others only by extrapolation"
        )
    if clip is not None:
        found.append(
            f"weights were cut at {clip:g} in {n_clipped:,} slots, which moved the estimate from "
            f"{headline.unclipped_value:.6g} to {headline.value:.6g}: less variance, and biased"
        )
    return tuple(found)
