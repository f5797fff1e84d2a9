"""Can the log speak for the policy? Weights, their tails, and what has no support."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.errors import DataError
from tailwise.experiments.ope._intervals import clustered_mean
from tailwise.experiments.ope._log import LoggedLists

__all__ = ["SlotDiagnostics", "diagnose_weights", "effective_sample_size", "pareto_k", "refuse_unsupported"]

_CONFIDENCE = 0.99


@dataclass(frozen=True)
class SlotDiagnostics:
    """Weights of the lists' k-th slots.

    Attributes:
        slot: k; 1 is the first logged slot of a list.
        n: Lists that have it.
        n_possible: Lists whose slot the policy could have shown: weight above zero.
        effective_sample_size: (Σ w)² / Σ w²; as many equally weighted lists would say as much.
        max_share: The largest weight's share of their sum.
        top_share: The same of the largest 1 % of the weights, at least one.
        pareto_k: Tail index of the largest weights; above 0.7 their mean cannot be trusted at any size of
            log that is likely. None for too few weights or equal ones.
        mean_weight: 1 in expectation where the log supports all that the policy shows; below 1 by
            the share of the policy's probability that it does not.
        mean_low: Lower end of its 99 % interval by users; 99, since a log that supports the policy should
            hardly ever be refused.
        mean_high: Upper end.
        mean_p: p-value of the mean weight being 1.
        never_shown_mass: Share of the policy's probability on items that no drawn list shows anywhere,
            given the logged places above; None where only probabilities of shown items are known.
    """

    slot: int
    n: int
    n_possible: int
    effective_sample_size: float
    max_share: float
    top_share: float
    pareto_k: float | None
    mean_weight: float
    mean_low: float
    mean_high: float
    mean_p: float
    never_shown_mass: float | None

    @property
    def unsupported_mass(self) -> float:
        """Estimated share of the policy's probability that the log cannot speak for: 1 - mean weight."""
        return max(0.0, 1 - self.mean_weight)

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self) | {"unsupported_mass": self.unsupported_mass}


def diagnose_weights(
    log: LoggedLists, weights: NDArray[np.float64], never_shown: NDArray[np.float64] | None
) -> tuple[SlotDiagnostics, ...]:
    """Look at the weights of first slots, second slots, ...

    Args:
        log: Drawn lists.
        weights: ``[n_slots]``, not clipped.
        never_shown: ``[n_slots]``; see :class:`SlotDiagnostics`.
    """
    return tuple(_of_slot(log, weights, never_shown, k) for k in range(log.n_ordinals))


def _of_slot(
    log: LoggedLists, weights: NDArray[np.float64], never_shown: NDArray[np.float64] | None, ordinal: int
) -> SlotDiagnostics:
    slots = log.ordinal == ordinal
    own = weights[slots]
    total = float(own.sum())
    n_top = max(1, round(0.01 * own.size))
    cluster = log.cluster[log.list_of_slot[slots]]
    mean = clustered_mean(own, cluster, confidence=_CONFIDENCE)
    return SlotDiagnostics(
        slot=ordinal + 1,
        n=own.size,
        n_possible=int((own > 0).sum()),
        effective_sample_size=effective_sample_size(own),
        max_share=float(own.max()) / total if total else 0.0,
        top_share=float(np.partition(own, own.size - n_top)[own.size - n_top :].sum()) / total
        if total
        else 0.0,
        pareto_k=pareto_k(own),
        mean_weight=mean.value,
        mean_low=mean.low,
        mean_high=mean.high,
        mean_p=mean.p_value(1.0),
        never_shown_mass=None if never_shown is None else float(never_shown[slots].mean()),
    )


def effective_sample_size(weights: NDArray[np.float64]) -> float:
    """(Σ w)² / Σ w²: n for equal weights, 1 when one has it all, 0 when all are zero."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def pareto_k(weights: NDArray[np.float64]) -> float | None:
    """Tail index k of the generalised Pareto distribution fitted to the largest weights.

    The 20 % largest, but at most 3 √n, are fitted by the empirical-Bayes rule of Zhang and
    Stephens (2009) and shrunk towards 0.5 as if by ten more weights, as in Pareto-smoothed importance
    sampling (Vehtari et al., arXiv:1507.02646). Weights have a variance for k < 0.5, a mean for k < 1.

    Args:
        weights: ``[n]``, >= 0.

    Returns:
        None for fewer than 5 tail weights, or where they are all the same.
    """
    n_tail = int(min(0.2 * weights.size, 3 * np.sqrt(weights.size)))
    if n_tail < 5:
        return None
    ordered = np.sort(weights)
    excess = ordered[-n_tail:] - ordered[-n_tail - 1]
    excess = excess[excess > 0]
    n = excess.size
    if n < 5 or excess[0] == excess[-1]:
        return None
    grid = np.arange(1, 30 + int(np.sqrt(n)) + 1)
    quartile = excess[int(n / 4 + 0.5) - 1]
    theta = 1 / excess[-1] + (1 - np.sqrt(grid[-1] / (grid - 0.5))) / (3 * quartile)
    shape = np.log1p(-theta[:, None] * excess[None, :]).mean(axis=1)
    likelihood = n * (np.log(-theta / shape) - shape - 1)
    share = 1 / np.exp(likelihood[None, :] - likelihood[:, None]).sum(axis=1)
    k = float(np.log1p(-float((theta * share).sum()) * excess).mean())
    return float((n * k + 10 * 0.5) / (n + 10))


def refuse_unsupported(
    diagnostics: Sequence[SlotDiagnostics], *, max_unsupported: float, policy: str, unit: str
) -> None:
    """Raise where the policy shows what the log has no support for.

    Refused is a slot whose mean weight is significantly (its 99 % interval) below ``1 - max_unsupported``.

    Raises:
        DataError: with counts, and what to do.
    """
    for found in diagnostics:
        if found.n_possible and not found.mean_high < 1 - max_unsupported:
            continue
        beyond = f" in slot {found.slot} of the lists" if len(diagnostics) > 1 else ""
        shorter = (
            f" Or evaluate the first {found.slot - 1} places only (max_position, --positions)."
            if found.slot > 1
            else ""
        )
        raise DataError(
            f"the log must support what {policy} shows; got {found.n_possible:,} of {found.n:,} {unit} that "
            f"it could have shown{beyond}, with mean weight {found.mean_weight:.3f} (99 % interval "
            f"{found.mean_low:.3f} to {found.mean_high:.3f}): about {found.unsupported_mass:.0%} of its "
            f"probability is on what was hardly or never drawn; {max_unsupported:.0%} may be.\n"
            "  Explore more: a higher temperature, or more of the requests, until the policy's own lists are "
            f"among those drawn.{shorter} Or ask for a policy nearer to the logged one, drawn at the log's "
            "temperature."
        )
