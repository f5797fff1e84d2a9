"""How unevenly the interactions fall on the catalogue: Gini, Lorenz curve, top shares."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailwise.segments._cuts import checked_counts

__all__ = ["Concentration", "concentration", "gini"]

_MAX_POINTS = 200
_TOP_SHARES = (0.01, 0.05, 0.10, 0.20, 0.50)


@dataclass(frozen=True)
class Concentration:
    """How few items hold the interactions; item shares are of the *whole* catalogue.

    Attributes:
        gini: 0 = every item has as many, near 1 = one item has all.
        curve: Points (item share, interaction share) of the Lorenz curve, most popular
            items first, from (0, 0) to (1, 1), at most 200.
        top_shares: (item share, interaction share) of the 1, 5, 10, 20 and 50 % most
            popular items.
    """

    gini: float
    curve: tuple[tuple[float, float], ...]
    top_shares: tuple[tuple[float, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """Give the ``data.concentration`` object of docs/metrics-schema.md."""
        return {
            "gini": self.gini,
            "curve": [list(point) for point in self.curve],
            "top_shares": [{"item_share": x, "interaction_share": y} for x, y in self.top_shares],
        }


def gini(amounts: ArrayLike) -> float:
    """Measure inequality: 0 when all amounts are equal, 1 - 1/n when one holds everything.

    ``Σ_i (2i - n - 1) x_i / (n Σ_i x_i)`` over the amounts in ascending order, zeros
    included, without the small-sample factor n/(n-1).

    Args:
        amounts: ``[n]``, each >= 0, not all zero.

    Raises:
        ValueError: an amount is negative, or their sum is zero.

    Example:
        >>> gini([5, 5, 5, 5]), gini([0, 0, 0, 9])
        (0.0, 0.75)
    """
    ascending = np.sort(np.asarray(amounts, dtype=np.float64))
    total = float(ascending.sum())
    if ascending.size == 0 or ascending[0] < 0 or total <= 0:
        raise ValueError(
            f"amounts must be >= 0 with a positive sum; got {ascending.size:,} amounts with sum {total:g}.\n"
            "  Inequality of nothing is not defined."
        )
    n = ascending.size
    weights = 2.0 * np.arange(1, n + 1) - n - 1
    return float(weights @ ascending / (n * total))


def concentration(counts: ArrayLike) -> Concentration:
    """Measure how concentrated training interactions are, over the whole catalogue.

    Never-trained items count as items with nothing, so a log that touches a tenth of
    the catalogue is concentrated even if it touches that tenth evenly. A top share
    that falls between two items is interpolated along the curve.

    Args:
        counts: ``[n_items]`` int; training interactions, each >= 0.

    Raises:
        ValueError: a count is negative or not whole.
        DataError: all counts are zero.

    Example:
        >>> concentration(np.array([6, 2, 1, 1, 0])).curve[:3]
        ((0.0, 0.0), (0.2, 0.6), (0.4, 0.8))
    """
    checked, _ = checked_counts(counts, None)
    n = checked.size
    held: NDArray[np.float64] = np.concatenate([[0], np.cumsum(np.sort(checked)[::-1])]) / checked.sum()
    share = np.arange(n + 1) / n
    # Half of the points evenly spaced, half close together at the steep beginning.
    even = np.linspace(0, n, _MAX_POINTS // 2)
    steep = np.geomspace(1, n, _MAX_POINTS // 2)
    kept = np.unique(np.rint(np.concatenate([even, steep])).astype(np.int64))
    return Concentration(
        gini=gini(checked),
        curve=tuple((float(share[i]), float(held[i])) for i in kept),
        top_shares=tuple((x, float(np.interp(x, share, held))) for x in _TOP_SHARES),
    )
