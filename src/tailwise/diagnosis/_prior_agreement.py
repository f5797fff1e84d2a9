"""How far ways of asking a language model agree: with each other, with the log, between wordings."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.diagnosis._prior_estimate import PriorEstimate
from tailwise.diagnosis._rank_correlation import rank_correlation
from tailwise.diagnosis._reliability import PriorReliability, prior_reliability
from tailwise.diagnosis._uncertain import Uncertain

__all__ = ["POPULARITY", "PriorAgreement", "PriorStability", "measure_agreements", "measure_stability"]

POPULARITY = "popularity"  # what the log's counts are called beside the estimates


@dataclass(frozen=True)
class PriorAgreement:
    """How far two estimates, or an estimate and the log, rank items alike.

    Attributes:
        first: Name of an estimate.
        second: Name of another, or ``popularity``: training counts.
        n_items: Items that both have.
        spearman: Over those, with a 95 % bootstrap interval over items.
    """

    first: str
    second: str
    n_items: int
    spearman: Uncertain

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "first": self.first,
            "second": self.second,
            "n_items": self.n_items,
            "spearman": self.spearman.as_dict(),
        }


@dataclass(frozen=True)
class PriorStability:
    """How far an estimate depends on how the model was asked.

    Attributes:
        name: Of the estimate.
        mean_spearman: Of two of its columns, mean over all pairs of them. None with a single one.
        lowest_spearman: Of the two columns that agree least. None likewise.
        reliability: Of the mean of the columns, :func:`prior_reliability`.
    """

    name: str
    mean_spearman: float | None
    lowest_spearman: float | None
    reliability: PriorReliability

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "name": self.name,
            "mean_spearman": self.mean_spearman,
            "lowest_spearman": self.lowest_spearman,
            "reliability": self.reliability.as_dict(),
        }


def measure_agreements(
    estimates: Sequence[PriorEstimate], counts: NDArray[np.int64], seed: int
) -> tuple[PriorAgreement, ...]:
    """Correlate every two estimates, and each with training counts ``[n_items]``."""
    named = [(estimate.name, estimate.scores) for estimate in estimates]
    named.append((POPULARITY, counts.astype(np.float64)))
    return tuple(
        PriorAgreement(
            first,
            second,
            int(np.count_nonzero(np.isfinite(one) & np.isfinite(other))),
            rank_correlation(one, other, seed=seed),
        )
        for (first, one), (second, other) in itertools.combinations(named, 2)
    )


def measure_stability(estimate: PriorEstimate, counts: NDArray[np.int64]) -> PriorStability:
    """Compare an estimate's columns with each other, over the items that all of them have."""
    known = np.isfinite(estimate.columns).all(axis=1)
    columns = estimate.columns[known]
    pairs = [
        rank_correlation(one, other, n_resamples=0).value
        for one, other in itertools.combinations(columns.T, 2)
    ]
    told = [value for value in pairs if value is not None]
    return PriorStability(
        estimate.name,
        mean_spearman=float(np.mean(told)) if told else None,
        lowest_spearman=min(told) if told else None,
        reliability=prior_reliability(columns, counts[known]),
    )
