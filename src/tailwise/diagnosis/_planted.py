"""Make held-out outcomes whose causes are known, to see whether an attribution finds them."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from tailwise.diagnosis._outcomes import Outcomes

__all__ = ["Planted", "PlantedWorld"]

Floats = NDArray[np.float64]

_N_TRUTH = 300_000  # items of the population that true shares are computed on; some 0.3 points of noise
_N_BINS = 400  # of the prior, for its conditional mean
_SHIFT = 0.01  # Zipf-Mandelbrot: the most popular item draws 100 times the middle of the law, not all


@dataclass(frozen=True)
class Planted:
    """Outcomes together with what a measurement cannot know.

    Attributes:
        outcomes: As an analyst would have them.
        true_prior: ``[n_items]`` float64; what the estimates measure with error.
        world: Where it was drawn.
    """

    outcomes: Outcomes
    true_prior: NDArray[np.float64]
    world: "PlantedWorld"


@dataclass(frozen=True)
class PlantedWorld:
    """A shop in which it is known how accuracy depends on the log and on the prior.

    Items draw their popularity from a Zipf law, x^-``zipf_exponent`` with x uniform, shifted by a
    hundredth. Training counts and numbers of targets are Poisson around it. With
    d = standardised log(1 + count) and prior p = ``correlation`` · d + noise of unit total
    variance, a target is hit with probability::

        logistic(base + data_effect·d + data_curve·(d² - 1) + prior_effect·p
                 + interaction·d·p + item_noise·e_item + user_noise·e_user)

    and a hit earns NDCG of a random rank in 1..10. All noises are standard normal.

    Attributes:
        n_items: Size of the catalogue.
        n_users: Users who are held out; targets fall on them at random, unevenly.
        n_targets: Expected number of targets.
        mean_count: Expected training interactions per item.
        zipf_exponent: 0 = all items alike, 1 = Zipf's own.
        correlation: Of the true prior with d, in (-1, 1).
        n_estimates: Noisy measurements of the prior.
        reliability: Share of the true prior in the variance of the *mean* of the
            estimates, in (0, 1]; 1 = no error.
        base: Log-odds of a hit of the average item.
        data_effect: Log-odds per standard deviation of log-counts.
        data_curve: Log-odds of the square of it.
        prior_effect: Log-odds per standard deviation of the prior; 0 = the null.
        interaction: Log-odds of the product.
        item_noise: What neither side explains, in log-odds.
        user_noise: Users differ, in log-odds.
    """

    n_items: int = 1000
    n_users: int = 1500
    n_targets: int = 6000
    mean_count: float = 30.0
    zipf_exponent: float = 1.0
    correlation: float = 0.5
    n_estimates: int = 4
    reliability: float = 0.7
    base: float = -1.5
    data_effect: float = 0.6
    data_curve: float = 0.0
    prior_effect: float = 0.5
    interaction: float = 0.0
    item_noise: float = 0.4
    user_noise: float = 0.5

    def __post_init__(self) -> None:
        if not -1 < self.correlation < 1:
            raise ValueError(f"correlation must lie in (-1, 1); got {self.correlation}.\n  0 is none.")
        if not 0 < self.reliability <= 1:
            raise ValueError(f"reliability must lie in (0, 1]; got {self.reliability}.\n  1 is no error.")

    def draw(self, seed: int) -> Planted:
        """Draw a catalogue, its log, its prior and the held-out outcomes."""
        rng = np.random.default_rng(seed)
        rate, d, prior, known = self._population(self.n_items, rng)
        middle, spread, _ = _scale(self.zipf_exponent, self.mean_count)
        counts = np.rint(np.expm1(d * spread + middle)).astype(np.int64)
        items = np.repeat(np.arange(self.n_items), rng.poisson(self.n_targets / self.n_items * rate))
        activity = rng.lognormal(0.0, 0.5, self.n_users)
        users = rng.choice(self.n_users, size=items.size, p=activity / activity.sum())
        log_odds = known + self.item_noise * rng.standard_normal(self.n_items)
        of_user = self.user_noise * rng.standard_normal(self.n_users)
        hit = rng.random(items.size) < expit(log_odds[items] + of_user[users])
        accuracy = np.where(hit, 1 / np.log2(rng.integers(1, 11, items.size) + 1.0), 0.0)
        error = np.sqrt(self.n_estimates * (1 / self.reliability - 1))
        estimates = prior[:, None] + error * rng.standard_normal((self.n_items, self.n_estimates))
        return Planted(Outcomes(users, items, accuracy, counts, estimates), prior, self)

    def truth(self, *, weigh: str = "targets", seed: int = 0) -> dict[str, float]:
        """Compute the true shares on a large population, with an error-free prior.

        Args:
            weigh: As in :func:`~tailwise.diagnosis.attribute_gap`.
            seed: Of the population.

        Returns:
            Shares of the between-item variance: ``v_data``, ``v_prior``, ``v_both``,
            ``data`` and ``prior`` (Shapley), ``data_alone`` and ``prior_alone`` (what
            only that side explains), ``interaction``.
        """
        rng = np.random.default_rng(seed)
        rate, d, prior, known = self._population(_N_TRUTH, rng)
        # Weighing by items, an item takes part when it has a target.
        weights = rate if weigh == "targets" else -np.expm1(-self.n_targets / self.n_items * rate)
        noise_of_both = np.hypot(self.user_noise, self.item_noise)
        both = _mean_over_normal(known, noise_of_both)
        # Given d, the prior is normal around correlation · d, and so are the log-odds.
        steepness = self.prior_effect + self.interaction * d
        of_prior = steepness * np.sqrt(1 - self.correlation**2)
        by_data = _mean_over_normal(
            self._log_odds(d, self.correlation * d), np.hypot(noise_of_both, of_prior)
        )
        noise = self.item_noise * rng.standard_normal(_N_TRUTH)
        everything = _variance(_mean_over_normal(known + noise, self.user_noise), weights)
        cuts = np.quantile(prior, np.linspace(0, 1, _N_BINS + 1)[1:-1])
        v_data = _variance(by_data, weights) / everything
        v_prior = _variance(_group_means(np.searchsorted(cuts, prior), both, weights), weights) / everything
        v_both = _variance(both, weights) / everything
        return {
            "v_data": v_data,
            "v_prior": v_prior,
            "v_both": v_both,
            "data": (v_data + v_both - v_prior) / 2,
            "prior": (v_prior + v_both - v_data) / 2,
            "data_alone": v_both - v_prior,
            "prior_alone": v_both - v_data,
            "interaction": v_both - v_data - v_prior,
        }

    def _population(self, n: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats, Floats]:
        """Draw rates of mean 1, counts as d, true priors, and log-odds without noise: four ``[n]``."""
        middle, spread, mean_rate = _scale(self.zipf_exponent, self.mean_count)
        rate = (rng.random(n) + _SHIFT) ** -self.zipf_exponent / mean_rate
        d = (np.log1p(rng.poisson(self.mean_count * rate)) - middle) / spread
        p = self.correlation * d + np.sqrt(1 - self.correlation**2) * rng.standard_normal(n)
        return rate, d, p, self._log_odds(d, p)

    def _log_odds(self, d: Floats, p: Floats) -> Floats:
        known = self.base + self.data_effect * d + self.data_curve * (d * d - 1)
        return known + self.prior_effect * p + self.interaction * d * p


@cache
def _scale(exponent: float, mean_count: float) -> tuple[float, float, float]:
    """Mean and standard deviation of log(1 + count) in the population, and the mean of x^-exponent."""
    grid = (np.arange(_N_TRUTH) + 0.5) / _N_TRUTH + _SHIFT
    rate = grid**-exponent
    counts = np.random.default_rng(0).poisson(mean_count * rate / rate.mean())
    return float(np.log1p(counts).mean()), float(np.log1p(counts).std()), float(rate.mean())


def _mean_over_normal(log_odds: Floats, deviation: Floats | float) -> Floats:
    """Probability of a hit, averaged over normal noise in the log-odds by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    parts = (w * expit(log_odds + deviation * x) for x, w in zip(nodes, weights, strict=True))
    return np.asarray(sum(parts) / np.sqrt(2 * np.pi), dtype=np.float64)


def _group_means(
    group: NDArray[np.int64], values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted mean of each one's group: ``[n] -> [n]``."""
    _, group = np.unique(group, return_inverse=True)
    return (np.bincount(group, values * weights) / np.bincount(group, weights))[group]


def _variance(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Weighted variance."""
    mean = np.average(values, weights=weights)
    return float(np.average((values - mean) ** 2, weights=weights))
