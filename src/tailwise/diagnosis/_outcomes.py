"""How each held-out target came out, and what is known of its item on either side."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailwise.errors import DataError

__all__ = ["Outcomes"]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Accuracy of held-out targets beside the two popularities of their items.

    Any sequence is taken and converted; the arrays are checked once, here.

    Attributes:
        users: ``[n_targets]`` int64; any numbers that tell users apart.
        items: ``[n_targets]`` int64 in 0..n_items-1.
        accuracy: ``[n_targets]`` float64, finite; ``target_values(rankings, "ndcg", 10)``,
            averaged over seeds where there are several.
        counts: ``[n_items]`` int64; training interactions, each >= 0: the data side.
        priors: ``[n_items, n_estimates]`` float64, finite; how well the language model
            knows each item, higher = better known, one column per estimate (a prompt
            template, say). Scales are free: only the order within a column counts.

    Raises:
        ValueError: shapes do not fit, or an index or count is out of range.
        DataError: there is no target, or a value is not finite.

    Example:
        >>> Outcomes([7, 7, 8], [0, 1, 1], [1.0, 0.0, 0.5], [9, 2], [[0.3, 0.1], [0.2, 0.0]]).n_items
        2
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    counts: NDArray[np.int64]
    priors: NDArray[np.float64]

    def __init__(
        self, users: ArrayLike, items: ArrayLike, accuracy: ArrayLike, counts: ArrayLike, priors: ArrayLike
    ) -> None:
        object.__setattr__(self, "users", _whole("users", users))
        object.__setattr__(self, "items", _whole("items", items))
        object.__setattr__(self, "accuracy", _finite("accuracy", accuracy, "Leave such targets out."))
        object.__setattr__(self, "counts", _whole("counts", counts))
        columns = _finite("priors", priors, "Estimate the prior of every item, or drop the item.")
        object.__setattr__(self, "priors", columns[:, None] if columns.ndim == 1 else columns)
        self._check()

    def _check(self) -> None:
        shapes = (self.users.shape, self.items.shape, self.accuracy.shape)
        if len(set(shapes)) > 1:
            raise ValueError(
                f"users, items and accuracy must have one value per target; got shapes {shapes}.\n"
                "  Take all three from the same table."
            )
        if not self.items.size:
            raise DataError(
                "outcomes must hold at least one target; got 0.\n  The held-out part is empty: cut earlier."
            )
        if self.priors.ndim != 2 or self.priors.shape[0] != self.n_items or not self.priors.shape[1]:
            raise ValueError(
                f"priors must be [n_items, n_estimates] with {self.n_items:,} items; "
                f"got shape {self.priors.shape}.\n  Give one row per item of the catalogue."
            )
        low, high = int(self.items.min()), int(self.items.max())
        if low < 0 or high >= self.n_items:
            raise ValueError(
                f"items must lie in 0..{self.n_items - 1}; got {low}..{high}.\n"
                "  They are positions in counts and priors."
            )
        if int(self.counts.min()) < 0:
            raise ValueError(
                f"counts must be >= 0; got {int(self.counts.min())} for item {int(self.counts.argmin())}.\n"
                "  popularity() counts training interactions."
            )

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return int(self.counts.size)

    @property
    def n_targets(self) -> int:
        """Number of held-out targets."""
        return int(self.items.size)

    @property
    def n_estimates(self) -> int:
        """Number of estimates of the prior."""
        return int(self.priors.shape[1])


def _whole(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Return ``[n]`` int64, or say that the values are something else."""
    given = np.asarray(values)
    if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
        raise ValueError(
            f"{name} must be a list of whole numbers; got shape {given.shape} of {given.dtype}.\n"
            "  Encode ids as indices first."
        )
    return given.astype(np.int64)


def _finite(name: str, values: ArrayLike, remedy: str) -> NDArray[np.float64]:
    """Return float64 without NaN and infinities, or count them."""
    given = np.asarray(values, dtype=np.float64)
    n_wrong = int(np.count_nonzero(~np.isfinite(given)))
    if n_wrong:
        raise DataError(
            f"{name} must be finite; got {n_wrong:,} values of {given.size:,} that are not.\n  {remedy}"
        )
    return given
