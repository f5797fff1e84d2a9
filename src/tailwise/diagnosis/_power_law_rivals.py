"""Lognormal and exponential held against a power law on the same items."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_ndtr

from tailwise.diagnosis._zeta import log_zeta

__all__ = ["Rival", "compare_rivals"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rival:
    """Another distribution, fitted to the same items, against the power law (Vuong's test).

    Attributes:
        name: ``"lognormal"`` or ``"exponential"``.
        log_likelihood_ratio: Power law over rival, summed over items; positive favours the
            power law.
        statistic: The ratio over its standard error: standard normal if both fit equally well.
        p: Two-sided; large = the items cannot tell the two apart.
        parameters: The rival's, at its largest likelihood.
    """

    name: str
    log_likelihood_ratio: float
    statistic: float
    p: float
    parameters: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return asdict(self)


def compare_rivals(
    values: Floats, items: NDArray[np.int64], *, exponent: float, x_min: float
) -> tuple[Rival, ...]:
    """Fit each rival to the counts >= ``x_min`` and compare likelihoods.

    Args:
        values: ``[m]`` distinct counts >= ``x_min``.
        items: ``[m]`` items with that count.
        exponent: Of the power law.
        x_min: Its start; rivals are cut off there too.
    """
    power_law = -exponent * np.log(values) - log_zeta(exponent, x_min)
    rivals = []
    for name, fit in _RIVALS.items():
        theirs, parameters = fit(values, items, x_min)
        difference = power_law - theirs  # [m]
        n = float(items.sum())
        ratio = float(items @ difference)
        variance = float(items @ (difference - ratio / n) ** 2) / n
        # Equal at every count, as when a lognormal has turned into the power law: no difference.
        statistic = ratio / math.sqrt(n * variance) if variance > 1e-18 else 0.0
        p = math.erfc(abs(statistic) / math.sqrt(2))
        rivals.append(Rival(name, ratio, statistic, p, parameters))
    return tuple(rivals)


def _exponential(values: Floats, items: NDArray[np.int64], x_min: float) -> tuple[Floats, dict[str, float]]:
    """P(x) = (1 − e^−rate) e^−rate(x − x_min): log likelihood of each value, and the rate."""
    mean_excess = float(items @ (values - x_min)) / float(items.sum())
    rate = math.log1p(1 / mean_excess)
    return math.log(-math.expm1(-rate)) - rate * (values - x_min), {"rate": rate}


def _lognormal(values: Floats, items: NDArray[np.int64], x_min: float) -> tuple[Floats, dict[str, float]]:
    """A lognormal rounded to whole numbers and cut off below x_min, by largest likelihood."""
    logs = np.log(values)
    n = float(items.sum())
    mean = float(items @ logs) / n
    spread = max(math.sqrt(float(items @ (logs - mean) ** 2) / n), 0.1)

    def loss(point: Floats) -> float:
        return -float(items @ _log_lognormal(values, x_min, float(point[0]), math.exp(point[1])))

    # Two beginnings: the bulk of the counts seen, or only the far flank of a wide lognormal.
    starts = [(mean, math.log(spread)), (mean - 4 * spread, math.log(3 * spread))]
    # Wider than this a lognormal is a power law to within rounding.
    bounds = [(-200.0, float(logs[-1]) + 5), (math.log(0.05), math.log(30.0))]
    results = [
        minimize(
            loss,
            np.clip(start, [bound[0] for bound in bounds], [bound[1] for bound in bounds]),
            method="Nelder-Mead",
            bounds=bounds,
            options={"maxiter": 500, "xatol": 1e-5, "fatol": 1e-7},
        )
        for start in starts
    ]
    best = min(results, key=lambda result: float(result.fun))
    mu, sigma = float(best.x[0]), math.exp(float(best.x[1]))
    return _log_lognormal(values, x_min, mu, sigma), {"mu": mu, "sigma": sigma}


def _log_lognormal(values: Floats, x_min: float, mu: float, sigma: float) -> Floats:
    """Log of Φ(b) − Φ(a) at the half counts around each value, over 1 − Φ at x_min − ½."""
    a = (np.log(values - 0.5) - mu) / sigma
    b = (np.log(values + 0.5) - mu) / sigma
    # On the upper flank from the upper tails, so that nothing cancels.
    is_upper = a + b > 0
    larger = log_ndtr(np.where(is_upper, -a, b))
    smaller = log_ndtr(np.where(is_upper, -b, a))
    inside = larger + np.log(-np.expm1(np.minimum(smaller - larger, -1e-300)))
    return np.asarray(inside - log_ndtr(-(math.log(x_min - 0.5) - mu) / sigma), dtype=np.float64)


_RIVALS: dict[str, Callable[[Floats, NDArray[np.int64], float], tuple[Floats, dict[str, float]]]] = {
    "lognormal": _lognormal,
    "exponential": _exponential,
}
