"""Whether item counts follow a power law, from which count on, and with which exponent.

After Clauset, Shalizi and Newman, "Power-law distributions in empirical data"
(arXiv:0706.1062). Why not the library ``powerlaw``: docs/decisions/0008-power-law-fit.md.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailwise.diagnosis._power_law_rivals import Rival, compare_rivals
from tailwise.diagnosis._zeta import LARGEST_EXPONENT, log_zeta
from tailwise.errors import DataError

__all__ = ["FEWEST_ITEMS", "PowerLaw", "Support", "fit_power_law"]

Support = Literal["none", "moderate", "good"]

FEWEST_ITEMS = 50  # items at or above x_min; with fewer, every heavy-tailed curve fits (0706.1062, section 4)
_SMALLEST_EXPONENT = 1.05
_ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996 in binary; it means 29
_MAX_CANDIDATES = 50
_LINE = 0.1
_TABLE = 10_000


@dataclass(frozen=True)
class PowerLaw:
    """A fit of P(count = x) ∝ x^-exponent to the items with at least ``x_min`` interactions.

    Mind the word: what statistics calls the *tail* of this distribution are the items with
    the most interactions, our head. So these fields say "fitted" instead.

    Attributes:
        exponent: α, sought in 1.05..19.99; the smaller, the heavier. Below 3 the variance of
            counts, below 2 even their mean, is governed by the few largest items.
        standard_error: Of the exponent, ``x_min`` taken as known.
        low: Of the 95 % interval from resampled items, with ``x_min`` chosen anew; None
            without resamples.
        high: Likewise.
        x_min: Count from which the law is fitted.
        n_fitted_items: Items with at least ``x_min`` interactions.
        fitted_item_share: Of the items with any interaction.
        fitted_interaction_share: Share of all interactions that those items hold.
        ks_distance: Largest distance between the two cumulative distributions.
        ks_p: Share of samples of the fitted law that lie as far from their own fit; None
            without resamples. Small = the counts do not follow a power law.
        n_resamples: For ``ks_p``, and as many for the interval.
        rivals: Lognormal and exponential, fitted to the same items.
    """

    exponent: float
    standard_error: float
    low: float | None
    high: float | None
    x_min: int
    n_fitted_items: int
    fitted_item_share: float
    fitted_interaction_share: float
    ks_distance: float
    ks_p: float | None
    n_resamples: int
    rivals: tuple[Rival, ...]

    @property
    def support(self) -> Support | None:
        """What speaks for the law, in Clauset et al.'s words and with their line at 0.1.

        ``"none"``: the counts deviate from it (``ks_p``), or a rival fits better.
        ``"moderate"``: they do not, but nor do they exclude a rival. ``"good"``: they do. It
        is about the fitted items only, so name ``fitted_item_share`` beside it: the last few
        items of almost any distribution pass. None without resamples.
        """
        if self.ks_p is None:
            return None
        is_beaten = any(rival.p <= _LINE and rival.statistic < 0 for rival in self.rivals)
        if self.ks_p <= _LINE or is_beaten:
            return "none"
        return "moderate" if any(rival.p > _LINE for rival in self.rivals) else "good"

    @property
    def zipf_exponent(self) -> float:
        """The same law by rank: the r-th most popular item has ∝ r^-s interactions, s = 1/(α−1)."""
        return 1 / (self.exponent - 1)

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            **asdict(self),
            "zipf_exponent": self.zipf_exponent,
            "support": self.support,
            "rivals": [rival.as_dict() for rival in self.rivals],
        }


@dataclass(frozen=True, eq=False)
class _Counted:
    """Counts as distinct values with their frequencies: all that a fit looks at."""

    values: NDArray[np.float64]  # [m], ascending
    items: NDArray[np.int64]  # [m], items with that count

    @property
    def n_items(self) -> int:
        return int(self.items.sum())

    def at_least(self, x_min: float) -> "_Counted":
        keep = self.values >= x_min
        return _Counted(self.values[keep], self.items[keep])


@dataclass(frozen=True)
class _Fit:
    exponent: float
    x_min: float
    ks_distance: float


def fit_power_law(
    counts: ArrayLike,
    *,
    x_min: int | None = None,
    min_fitted_share: float = 0.1,
    n_resamples: int = 100,
    seed: int = 0,
) -> PowerLaw:
    """Fit a discrete power law to the counts of items, test it, and hold rivals against it.

    For every candidate ``x_min`` the exponent maximises the likelihood of the counts from
    there on; the candidate with the least Kolmogorov–Smirnov distance wins. Candidates are
    the distinct counts that leave at least 50 items and ``min_fitted_share`` of all, or 50 of
    them in geometric steps. Items without an interaction take no part.

    ``ks_p`` comes from samples of the fitted law (below ``x_min``: of the counts
    themselves), each fitted with its own ``x_min``. On a large catalogue the test notices
    deviations that do not matter, so read it with the rivals.

    Cost: ``2 · n_resamples`` fits; at 100,000 items the default takes 1 to 3 seconds, the more the
    smaller the exponent, because there are more distinct counts.

    Args:
        counts: ``[n_items]`` whole numbers >= 0; interactions of each item.
        x_min: Fit from this count on. None: choose it.
        min_fitted_share: The chosen ``x_min`` leaves at least this share of the items with any
            interaction, 0 to 1. Ours: the few largest of almost any counts pass for a power law,
            which then says nothing about the log. 0 is the method as published.
        n_resamples: For ``ks_p`` and for the interval, 0 to 10,000. With 100, a p of 0.1 has a
            standard error of 0.03. 0: neither is computed.
        seed: Of the resamples.

    Raises:
        ValueError: a count is negative or not whole, or an argument is out of range.
        DataError: fewer than 50 items, or all alike, from ``x_min`` on.

    Example:
        >>> counts = np.repeat([1, 2, 3, 4, 5, 6, 10, 20], [600, 150, 67, 37, 24, 17, 6, 2])
        >>> fit = fit_power_law(counts, n_resamples=0)
        >>> round(fit.exponent, 2), fit.x_min
        (2.34, 1)
    """
    counted = _check(counts, x_min, min_fitted_share, n_resamples)
    fit = _fit(counted, x_min, min_fitted_share)
    if fit is None:
        from_here = counted.at_least(x_min or 1)
        raise DataError(
            f"counts must hold {FEWEST_ITEMS} items from x_min on, of at least two different counts; got "
            f"{from_here.n_items:,} items with {from_here.values.size:,} different counts"
            f"{'' if x_min is None else f' from x_min={x_min}'}.\n"
            "  So few points fit any curve. Describe the log by its Gini and top shares instead."
        )
    above = counted.at_least(fit.x_min)
    low = high = ks_p = None
    if n_resamples:
        rng = np.random.default_rng(seed)
        drawn = [_fit(_resample(counted, rng), x_min, min_fitted_share) for _ in range(n_resamples)]
        exponents = [other.exponent for other in drawn if other is not None]
        if exponents:  # a resample may hold a single count and allow no fit
            low, high = (float(q) for q in np.quantile(exponents, (0.025, 0.975)))
        simulated = [_fit(_simulate(counted, fit, rng), x_min, min_fitted_share) for _ in range(n_resamples)]
        n_as_far = sum(other is None or other.ks_distance >= fit.ks_distance for other in simulated)
        ks_p = (1 + n_as_far) / (1 + n_resamples)
    total = float(counted.values @ counted.items)
    return PowerLaw(
        exponent=fit.exponent,
        standard_error=_standard_error(fit, above.n_items),
        low=low,
        high=high,
        x_min=int(fit.x_min),
        n_fitted_items=above.n_items,
        fitted_item_share=above.n_items / counted.n_items,
        fitted_interaction_share=float(above.values @ above.items) / total,
        ks_distance=fit.ks_distance,
        ks_p=ks_p,
        n_resamples=n_resamples,
        rivals=compare_rivals(above.values, above.items, exponent=fit.exponent, x_min=fit.x_min),
    )


def _check(counts: ArrayLike, x_min: int | None, min_fitted_share: float, n_resamples: int) -> _Counted:
    given = np.asarray(counts)
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(
            f"counts must be [n_items] whole numbers; got shape {given.shape} of {given.dtype}.\n"
            "  popularity() returns them."
        )
    if given.size and given.min() < 0:
        raise ValueError(
            f"counts must be >= 0; got {int(given.min())} for item {int(given.argmin())}.\n"
            "  Count interactions with popularity()."
        )
    if x_min is not None and (x_min < 1 or x_min != int(x_min)):
        raise ValueError(f"x_min must be a whole number >= 1; got {x_min!r}.\n  None chooses it by the fit.")
    if not 0 <= min_fitted_share <= 1:
        raise ValueError(
            f"min_fitted_share must be a fraction in [0, 1]; got {min_fitted_share!r}.\n  0.1 is a tenth."
        )
    if not 0 <= n_resamples <= 10_000 or n_resamples != int(n_resamples):
        raise ValueError(
            f"n_resamples must be a whole number in 0..10000; got {n_resamples!r}.\n"
            "  100 are enough to tell a plausible law from an implausible one."
        )
    return _count(given[given > 0])


def _count(amounts: NDArray[Any]) -> _Counted:
    values, items = np.unique(amounts, return_counts=True)
    return _Counted(values.astype(np.float64), items.astype(np.int64))


def _fit(counted: _Counted, x_min: int | None, min_fitted_share: float) -> _Fit | None:
    """Choose x_min by the least distance; None where no candidate has enough items."""
    values, items = counted.values, counted.items
    n_from = np.cumsum(items[::-1])[::-1]  # [m], items with at least that count
    if x_min is None:
        # The largest value alone would have no spread, hence [:-1].
        fewest = max(FEWEST_ITEMS, min_fitted_share * counted.n_items * (1 - _ROUNDING))
        starts = np.flatnonzero(n_from[:-1] >= fewest)
        if starts.size > _MAX_CANDIDATES:
            steps = np.geomspace(1, starts.size, _MAX_CANDIDATES)
            starts = starts[np.unique(np.rint(steps).astype(np.int64)) - 1]
        x_mins = values[starts]
    else:
        starts = np.searchsorted(values, [x_min])
        x_mins = np.array([x_min], dtype=np.float64)
        if starts[0] >= values.size - 1 or n_from[starts[0]] < FEWEST_ITEMS:
            return None
    if not starts.size:
        return None
    logs = np.log(values)
    mean_log = (np.cumsum((logs * items)[::-1])[::-1] / n_from)[starts]  # [c]
    exponents = _exponents(mean_log, x_mins)
    distances = _ks_distances(counted, n_from, starts, exponents, x_mins)
    best = int(np.argmin(distances))
    return _Fit(float(exponents[best]), float(x_mins[best]), float(distances[best]))


def _exponents(mean_log: NDArray[np.float64], x_mins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maximise each candidate's likelihood: −d log ζ(α, x_min)/dα = mean log count. ``[c]``."""
    low = np.full(x_mins.shape, _SMALLEST_EXPONENT)
    high = np.full(x_mins.shape, LARGEST_EXPONENT - 0.01)
    # From the continuous law; log ζ is convex in α, so Newton's method within a bracket converges.
    exponents = np.clip(1 + 1 / np.maximum(mean_log - np.log(x_mins - 0.5), 1e-9), low + 0.01, high - 0.01)
    near, far = 1e-5, 1e-3  # steps of the first and the second difference quotient
    around = np.array([[-far], [-near], [0.0], [near], [far]])
    for _ in range(50):
        logs = log_zeta(exponents + around, x_mins)  # [5, c]
        slope = mean_log + (logs[3] - logs[1]) / (2 * near)  # > 0: α is too large
        low = np.where(slope < 0, exponents, low)
        high = np.where(slope < 0, high, exponents)
        stepped = exponents - slope * far**2 / np.maximum(logs[4] - 2 * logs[2] + logs[0], 1e-300)
        stepped = np.where((stepped > low) & (stepped < high), stepped, (low + high) / 2)
        moved = float(np.abs(stepped - exponents).max())
        exponents = stepped
        if moved < 1e-9:  # the first quotient carries some 1e-10
            break
    return np.asarray(exponents, dtype=np.float64)


def _ks_distances(
    counted: _Counted,
    n_from: NDArray[np.int64],
    starts: NDArray[np.int64],
    exponents: NDArray[np.float64],
    x_mins: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Largest |P(X >= x) − share of items with count >= x| over whole x >= x_min, per candidate.

    Between two counts that occur, the share is constant and P falls, so the largest distance
    lies at a count that occurs or right after it.
    """
    distances = np.empty(starts.size)
    logs = np.log(counted.values)
    log_norms = log_zeta(exponents, x_mins)
    for c, start in enumerate(starts):
        values, alpha, log_norm = counted.values[start:], exponents[c], log_norms[c]
        above = np.exp(log_zeta(alpha, values) - log_norm)  # [m - start], P(X >= value)
        after = above - np.exp(-alpha * logs[start:] - log_norm)  # P(X >= value + 1)
        share = n_from[start:] / n_from[start]
        next_share = np.append(share[1:], 0.0)
        distances[c] = max(np.abs(above - share).max(), np.abs(after - next_share).max())
    return distances


def _standard_error(fit: _Fit, n_items: int) -> float:
    """From the curvature of the likelihood, d² log ζ/dα²."""
    step = 1e-3  # large enough that rounding, some 1e-15 / step², stays below 1e-8
    around = fit.exponent + step * np.array([-1.0, 0.0, 1.0])
    before, here, after = log_zeta(around, fit.x_min)
    return float(1 / math.sqrt(n_items * (before - 2 * here + after) / step**2))


def _resample(counted: _Counted, rng: np.random.Generator) -> _Counted:
    """Draw as many items with replacement."""
    items = rng.multinomial(counted.n_items, counted.items / counted.n_items)
    return _Counted(counted.values[items > 0], items[items > 0].astype(np.int64))


def _simulate(counted: _Counted, fit: _Fit, rng: np.random.Generator) -> _Counted:
    """Draw as many items, from the law above x_min and from the counts themselves below."""
    below = counted.values < fit.x_min
    shares = np.append(counted.items[below], counted.items[~below].sum()) / counted.n_items
    n_each = rng.multinomial(counted.n_items, shares)
    above = _count(draw(fit.exponent, fit.x_min, int(n_each[-1]), rng))
    seen = n_each[:-1] > 0
    return _Counted(
        np.concatenate([counted.values[below][seen], above.values]),
        np.concatenate([n_each[:-1][seen].astype(np.int64), above.items]),
    )


def draw(exponent: float, x_min: float, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw from the discrete power law by inversion: exact up to x_min + 10,000.

    Beyond, from the continuous law shifted by a half, which is within 1e-8 of it there.
    """
    at_least = 1.0 - rng.random(n)  # in (0, 1]: the drawn value's P(X >= x)
    table = x_min + np.arange(_TABLE)
    above = np.exp(log_zeta(exponent, table) - log_zeta(exponent, x_min))
    position = np.searchsorted(-above, -at_least, side="right") - 1
    drawn = np.asarray(table[position], dtype=np.float64)
    far = position == _TABLE - 1
    growth = np.log(above[-1] / at_least[far]) / (exponent - 1)
    drawn[far] = np.floor((table[-1] - 0.5) * np.exp(np.minimum(growth, 600.0)) + 0.5)
    return drawn
