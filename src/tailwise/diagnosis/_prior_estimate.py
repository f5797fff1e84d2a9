"""What every estimator of the prior hands on: scores per item, and what they cost."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PriorCost", "PriorEstimate"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PriorCost:
    """What an estimate cost, now and when nothing of it was in the cache.

    Attributes:
        seconds: Spent in this call on what was not in the cache.
        n_tokens: Read by the model in this call.
        n_from_cache: Answers (a title under a prompt, a comparison, ...) found in the cache.
        n_computed: Answers computed in this call.
        seconds_when_computed: What all answers took when they were computed, cached ones
            included: the price of a first run.
    """

    seconds: float = 0.0
    n_tokens: int = 0
    n_from_cache: int = 0
    n_computed: int = 0
    seconds_when_computed: float = 0.0

    def __add__(self, other: "PriorCost") -> "PriorCost":
        """Add what two parts cost."""
        return PriorCost(
            self.seconds + other.seconds,
            self.n_tokens + other.n_tokens,
            self.n_from_cache + other.n_from_cache,
            self.n_computed + other.n_computed,
            self.seconds_when_computed + other.seconds_when_computed,
        )

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "seconds": self.seconds,
            "n_tokens": self.n_tokens,
            "n_from_cache": self.n_from_cache,
            "n_computed": self.n_computed,
            "seconds_when_computed": self.seconds_when_computed,
        }


@dataclass(frozen=True, eq=False)
class PriorEstimate:
    """How well a language model knows each item, by one way of asking.

    Attributes:
        name: Of the way, such as ``title-likelihood``.
        scores: ``[n_items]`` float64; higher = better known; NaN where the item was not
            asked about. Scales are free: only the order counts.
        columns: ``[n_items, n_columns]`` float64; the same by each prompt template, order, ...
            alone; NaN likewise.
        column_names: One per column.
        cost: What it took.

    Raises:
        ValueError: shapes do not fit, or a value is infinite.

    Example:
        >>> PriorEstimate("guess", [0.2, float("nan")], [[0.2], [float("nan")]], ("only",)).n_asked
        1
    """

    name: str
    scores: Floats
    columns: Floats
    column_names: tuple[str, ...]
    cost: PriorCost = PriorCost()

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float64))
        object.__setattr__(self, "columns", np.asarray(self.columns, dtype=np.float64))
        object.__setattr__(self, "column_names", tuple(self.column_names))
        expected = (self.scores.size, len(self.column_names))
        if self.scores.ndim != 1 or self.columns.shape != expected:
            raise ValueError(
                f"columns must be [n_items, n_columns] = {expected}; got shape {self.columns.shape} "
                f"beside scores {self.scores.shape}.\n  Give one column per name and one row per item."
            )
        for field, values in (("scores", self.scores), ("columns", self.columns)):
            n_wrong = int(np.isinf(values).sum())
            if n_wrong:
                raise ValueError(
                    f"{field} must be finite or NaN; got {n_wrong:,} infinite values in {self.name!r}.\n"
                    "  NaN marks an item that was not asked about."
                )

    @property
    def n_asked(self) -> int:
        """Number of items with a score."""
        return int(np.isfinite(self.scores).sum())

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON, without the scores of single items."""
        return {
            "name": self.name,
            "n_items": int(self.scores.size),
            "n_asked": self.n_asked,
            "columns": list(self.column_names),
            "cost": self.cost.as_dict(),
        }
