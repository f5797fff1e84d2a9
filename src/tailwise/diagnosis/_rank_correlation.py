"""Spearman's correlation with a bootstrap interval over items, also with a third variable held."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailwise.diagnosis._uncertain import Uncertain

__all__ = ["rank_correlation"]

Floats = NDArray[np.float64]
_FEWEST = 5  # items; below, no interval means anything


def rank_correlation(
    first: ArrayLike,
    second: ArrayLike,
    *,
    given: ArrayLike | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Uncertain:
    """Measure Spearman's correlation over the items that have all values.

    With ``given``, the partial one: what is left of it among items of equal rank on a third variable,
    (r_xy − r_xz·r_yz) / √((1 − r_xz²)(1 − r_yz²)).

    Args:
        first: ``[n_items]``; NaN where unknown.
        second: ``[n_items]``; likewise.
        given: ``[n_items]``; likewise.
        n_resamples: Of items, with replacement; the interval is from the 2.5 % to the 97.5 %
            quantile. 0: no interval.
        seed: Of the draws.

    Returns:
        The correlation; its value is None where a variable is constant or fewer than five items
        have all values.

    Raises:
        ValueError: lengths differ.

    Example:
        >>> round(rank_correlation([1, 2, 3, 4, 5, 6], [1, 4, 9, 16, 25, float("nan")]).value, 9)
        1.0
    """
    columns = [np.asarray(values, dtype=np.float64) for values in (first, second, *_some(given))]
    if len({column.shape for column in columns}) > 1:
        raise ValueError(
            f"first and second must have one value per item; got shapes "
            f"{[column.shape for column in columns]}.\n  Take them from the same catalogue."
        )
    has_all = np.all([np.isfinite(column) for column in columns], axis=0)
    n = int(has_all.sum())
    if n < _FEWEST:
        return Uncertain(None)
    codes = [np.unique(column[has_all], return_inverse=True)[1] for column in columns]
    value = _correlation([_ranks(code, np.ones(n)) for code in codes], np.ones(n))
    if not np.isfinite(value):
        return Uncertain(None)
    if not n_resamples:
        return Uncertain(value)
    rng = np.random.default_rng(seed)
    drawn = np.empty(n_resamples)
    for i in range(n_resamples):
        times = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        drawn[i] = _correlation([_ranks(code, times) for code in codes], times)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Uncertain(value, float(low), float(high))


def _some(given: ArrayLike | None) -> list[ArrayLike]:
    return [] if given is None else [given]


def _ranks(code: NDArray[np.int64], times: Floats) -> Floats:
    """Mid-ranks of values that occur ``times`` each: ``[n]``, without sorting again."""
    held = np.bincount(code, times)
    return np.asarray((np.cumsum(held) - held / 2)[code], dtype=np.float64)


def _correlation(ranks: list[Floats], times: Floats) -> float:
    """Correlation of the first two, the third held where there is one; NaN where it is not defined."""
    centred = [column - np.average(column, weights=times) for column in ranks]
    scale = [float(np.sqrt(times @ column**2)) for column in centred]
    if min(scale) <= 1e-9 * times.sum():
        return float("nan")

    def of(i: int, j: int) -> float:
        return float((times * centred[i]) @ centred[j] / (scale[i] * scale[j]))

    simple = min(max(of(0, 1), -1.0), 1.0)
    if len(ranks) < 3:
        return simple
    left = (1 - of(0, 2) ** 2) * (1 - of(1, 2) ** 2)
    return (simple - of(0, 2) * of(1, 2)) / left**0.5 if left > 1e-9 else float("nan")
