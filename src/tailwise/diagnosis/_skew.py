"""How uneven a log is: who holds the interactions, and how many items hardly have any."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from tailwise.errors import DataError
from tailwise.schema import ITEM_INDEX, USER_INDEX
from tailwise.segments import (
    COLD_DECILE,
    Concentration,
    concentration,
    popularity,
    popularity_deciles,
)

__all__ = [
    "Decile",
    "Estimate",
    "Holders",
    "RareItems",
    "Skew",
    "SkewIntervals",
    "bootstrap_skew",
    "measure_skew",
]

_SHARES_HELD = (0.2, 0.5, 0.8)
_RARE = (0, 1, 2, 5, 10, 20)
_ENOUGH_ITEMS = 100
_ROUNDING = 1e-9  # 0.2 of 35 is 7.000000000000001 in binary; it means 7
_NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Holders:
    """The fewest items that hold a share of the interactions."""

    interaction_share: float
    """Asked for."""
    n_items: int
    item_share: float
    """Of the whole catalogue."""


@dataclass(frozen=True)
class RareItems:
    """The items with at most ``count`` interactions; count 0 are those never trained on."""

    count: int
    n_items: int
    item_share: float
    """Of the whole catalogue."""
    interaction_share: float
    """Of all interactions: what a model would lose without these items."""


@dataclass(frozen=True)
class Decile:
    """A tenth of the trained items by popularity; see ``segments.popularity_deciles``."""

    decile: int
    """1 = most popular; 11 = cold."""
    n_items: int
    interaction_share: float


@dataclass(frozen=True)
class Skew:
    """How uneven a log is. All item shares are of the whole catalogue, cold items included.

    Attributes:
        n_items: Size of the catalogue.
        n_interactions: Rows counted.
        n_cold_items: Items without an interaction.
        smallest_count: The fewest interactions of an item that has any.
        concentration: Lorenz curve, Gini, and the share that the top 1, 5, 10, 20, 50 % of items hold.
        holders: Fewest items that hold 20, 50 and 80 % of the interactions.
        rare_items: Items with at most 0, 1, 2, 5, 10, 20 interactions (or those asked for).
        deciles: Tenths of the trained items, and the cold ones last.
        intervals: Over users, where asked for.
    """

    n_items: int
    n_interactions: int
    n_cold_items: int
    smallest_count: int
    concentration: Concentration
    holders: tuple[Holders, ...]
    rare_items: tuple[RareItems, ...]
    deciles: tuple[Decile, ...]
    intervals: "SkewIntervals | None" = None

    @property
    def looks_filtered(self) -> bool:
        """Whether somebody seems to have removed the rarest items before ("5-core" and the like).

        True if of 100 trained items or more not one has a single interaction. Then the true
        log is more concentrated than the numbers here.
        """
        return self.smallest_count > 1 and self.n_items - self.n_cold_items >= _ENOUGH_ITEMS

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            "n_items": self.n_items,
            "n_interactions": self.n_interactions,
            "n_cold_items": self.n_cold_items,
            "smallest_count": self.smallest_count,
            "looks_filtered": self.looks_filtered,
            "concentration": self.concentration.as_dict(),
            "holders": [asdict(row) for row in self.holders],
            "rare_items": [asdict(row) for row in self.rare_items],
            "deciles": [asdict(row) for row in self.deciles],
            "intervals": None if self.intervals is None else self.intervals.as_dict(),
        }


def measure_skew(counts: ArrayLike, *, rare: Sequence[int] = _RARE) -> Skew:
    """Measure how uneven item counts are, over the whole catalogue.

    Args:
        counts: ``[n_items]`` whole numbers >= 0; training interactions of each item.
        rare: Count the items with at most so many interactions; whole numbers >= 0, rising.

    Raises:
        ValueError: a count is negative or not whole, or ``rare`` does not rise.
        DataError: all counts are zero.

    Example:
        >>> skew = measure_skew(np.array([6, 2, 1, 1, 0]))
        >>> [(h.interaction_share, h.n_items) for h in skew.holders]
        [(0.2, 1), (0.5, 1), (0.8, 2)]
        >>> [(r.count, r.n_items) for r in skew.rare_items[:3]]
        [(0, 1), (1, 3), (2, 4)]
    """
    thresholds = [int(k) for k in rare]
    if (
        thresholds != list(rare)
        or sorted(set(thresholds)) != thresholds
        or (thresholds and thresholds[0] < 0)
    ):
        raise ValueError(
            f"rare must be whole numbers >= 0 in rising order; got {list(rare)!r}.\n"
            "  (0, 1, 5) counts the items with no, at most one and at most five interactions."
        )
    measured = concentration(counts)
    deciles = popularity_deciles(counts)
    checked = np.asarray(counts, dtype=np.int64)
    n_items, total = checked.size, int(checked.sum())
    rising = np.sort(checked)
    held = np.cumsum(rising[::-1])  # [n_items], by the most popular first
    held_from_below = np.append(0, np.cumsum(rising))
    holders, rare_items = [], []
    for share in _SHARES_HELD:
        fewest = int(np.searchsorted(held, share * total * (1 - _ROUNDING))) + 1
        holders.append(Holders(share, fewest, fewest / n_items))
    for k in thresholds:
        n = int(np.searchsorted(rising, k, side="right"))
        rare_items.append(RareItems(k, n, n / n_items, float(held_from_below[n] / total)))
    n_in = np.bincount(deciles, minlength=COLD_DECILE + 1)
    held_in = np.bincount(deciles, weights=checked, minlength=COLD_DECILE + 1)
    return Skew(
        n_items=n_items,
        n_interactions=total,
        n_cold_items=int(np.count_nonzero(checked == 0)),
        smallest_count=int(checked[checked > 0].min()),
        concentration=measured,
        holders=tuple(holders),
        rare_items=tuple(rare_items),
        deciles=tuple(Decile(d, int(n_in[d]), float(held_in[d] / total)) for d in range(1, COLD_DECILE + 1)),
    )


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval over users.

    The interval is value ± 1.96 standard deviations of the resamples. Not their quantiles: a
    resample loses items that few users touched and so comes out more concentrated than the
    log (``resample_mean``), and its quantiles may not even contain the value.
    """

    value: float
    low: float
    high: float
    resample_mean: float


@dataclass(frozen=True)
class SkewIntervals:
    """How far Gini and top shares would move with other users like these.

    Attributes:
        gini: Of the counts.
        top_shares: (item share, interaction share with its interval).
        n_users: Resampled, each with all interactions.
        n_resamples: Of the bootstrap.
    """

    gini: Estimate
    top_shares: tuple[tuple[float, Estimate], ...]
    n_users: int
    n_resamples: int

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            "gini": asdict(self.gini),
            "top_shares": [{"item_share": x, "interaction_share": asdict(y)} for x, y in self.top_shares],
            "n_users": self.n_users,
            "n_resamples": self.n_resamples,
        }


def bootstrap_skew(
    interactions: pl.DataFrame, n_items: int, *, n_resamples: int = 100, seed: int = 0
) -> SkewIntervals:
    """Put intervals around Gini and top shares by resampling users with all they did.

    Interactions of one user are not independent, so intervals over rows would be too narrow.
    They speak of logs with as many users as this one: a longer log of the same shop reaches
    more items and is less concentrated.

    Cost: a pass over the rows and a sort of the items per resample; 100 resamples of
    1,000,000 rows and 100,000 items take 1 to 2 seconds.

    Args:
        interactions: Encoded training rows with ``user_index`` and ``item_index``.
        n_items: Size of the catalogue.
        n_resamples: 2 to 10,000.
        seed: Of the draws.

    Raises:
        DataError: a column is missing or an index is null or outside, or there is but one user.
        ValueError: ``n_resamples`` is out of range.

    Example:
        >>> log = pl.DataFrame({"user_index": [0, 0, 1, 2], "item_index": [0, 1, 0, 0]})
        >>> bootstrap_skew(log, 4).gini.value
        0.625
    """
    if not 2 <= n_resamples <= 10_000 or n_resamples != int(n_resamples):
        raise ValueError(
            f"n_resamples must be a whole number in 2..10000; got {n_resamples!r}.\n"
            "  100 give a standard deviation to within 7 %."
        )
    measured = concentration(popularity(interactions, n_items))
    if USER_INDEX not in interactions.columns or interactions[USER_INDEX].has_nulls():
        raise DataError(
            f"interactions must have a user for every row in the column {USER_INDEX!r}; got "
            f"{interactions.columns}.\n  Encode the table first; intervals are over users."
        )
    users = interactions[USER_INDEX].rank("dense").to_numpy().astype(np.int64) - 1  # [n], without gaps
    items = interactions[ITEM_INDEX].to_numpy().astype(np.int64)
    n_users = int(users.max()) + 1
    if n_users < 2:
        raise DataError(
            "interactions must come from two users or more; got 1.\n"
            "  Intervals are over users: of one there are none."
        )
    rng = np.random.default_rng(seed)
    drawn = np.empty((n_resamples, 1 + len(measured.top_shares)))
    for row in drawn:
        times = np.bincount(rng.integers(0, n_users, n_users), minlength=n_users).astype(np.float64)
        counts = np.bincount(items, weights=times[users], minlength=n_items).astype(np.int64)
        again = concentration(counts)
        row[:] = (again.gini, *(held for _, held in again.top_shares))
    spread, mean = _NORMAL_95 * drawn.std(axis=0, ddof=1), drawn.mean(axis=0)
    values = np.array([measured.gini, *(held for _, held in measured.top_shares)])
    estimates = [
        Estimate(float(v), float(max(v - s, 0.0)), float(min(v + s, 1.0)), float(m))
        for v, s, m in zip(values, spread, mean, strict=True)
    ]
    return SkewIntervals(
        gini=estimates[0],
        top_shares=tuple(
            (x, estimate) for (x, _), estimate in zip(measured.top_shares, estimates[1:], strict=True)
        ),
        n_users=n_users,
        n_resamples=n_resamples,
    )
