"""How much of the differences in accuracy between items goes with the log, how much with the prior."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.diagnosis._features import BOTH, DATA, PRIOR, Sides, features
from tailwise.diagnosis._moments import Moments
from tailwise.diagnosis._outcomes import Outcomes
from tailwise.diagnosis._permutation import permutation_p_values
from tailwise.diagnosis._ratio_interval import RatioErrors
from tailwise.diagnosis._reliability import PriorReliability, agreement, prior_reliability
from tailwise.diagnosis._sentence import sentence
from tailwise.diagnosis._shares import SHARES, given_counts, shares_of, slopes_of
from tailwise.diagnosis._two_way import group_sums
from tailwise.diagnosis._uncertain import Uncertain
from tailwise.errors import DataError

__all__ = ["Attribution", "GapShares", "attribute_gap"]

Floats = NDArray[np.float64]

_LEAST_RELIABILITY = 0.25  # below, the correction multiplies noise more than fourfold
_N_STRATA = 8  # of items by count, within which those with several targets speak for the others
# Below, intervals were found not to be 95 % ones: with fewer items too wide for some shares, with fewer
# users too narrow. docs/decisions/0009-attribution.md has the numbers.
_LEAST_ITEMS, _LEAST_USERS = 100, 30


@dataclass(frozen=True)
class GapShares:
    """Shares of the between-item variance of accuracy; 1 = all of it.

    Attributes:
        v_data: V(D), explained by counts alone.
        v_prior: V(P), explained by the prior alone.
        v_both: V(D,P), explained by both together.
        data: Shapley share of the log, ½[V(D) + V(D,P) − V(P)].
        prior: Shapley share of the prior, ½[V(P) + V(D,P) − V(D)]; with ``data`` it adds
            up to ``v_both``.
        data_alone: V(D,P) − V(P): what only the log explains.
        prior_alone: V(D,P) − V(D): what only the prior explains. Zero if the prior has no
            effect, while ``prior`` is then still above zero when the two sides correlate. Intervals
            of this and ``data_alone`` are too wide where the truth is zero; ask the p value there.
        interaction: V(D,P) − V(D) − V(P). Below zero: the sides tell the same; above:
            they work together. Not a share.
    """

    v_data: Uncertain
    v_prior: Uncertain
    v_both: Uncertain
    data: Uncertain
    prior: Uncertain
    data_alone: Uncertain
    prior_alone: Uncertain
    interaction: Uncertain

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {f.name: getattr(self, f.name).as_dict() for f in fields(self)}


@dataclass(frozen=True)
class Attribution:
    """What :func:`attribute_gap` found.

    Attributes:
        uncorrected: Shares as if the mean of the estimates were the prior itself: errors
            hand the prior's share to the log.
        corrected: Shares with the error of the estimates taken out; None where it is not
            known or too large.
        why_uncorrected: Why ``corrected`` is None; None when it is not.
        reliability: Of the mean of the estimates.
        p_data: Permutation p value of "the log adds nothing to the prior". A noisy prior
            leaves something for the log to add even where the log has no effect.
        p_prior: Permutation p value of "the prior adds nothing to the log".
        deviation: Standard deviation of accuracy between items, free of noise.
        is_measurable: The interval of the between-item variance lies above zero. If not,
            shares of it mean nothing. Even if so, a share whose own variance few items decide
            may be without an interval.
        correlation: Of the prior (mean of the estimates) and counts, both as normal scores.
        weigh: ``"targets"`` or ``"items"``.
        n_targets: Held-out targets.
        n_items: Items with targets.
        n_users: Users with targets.
        n_permutations: Of either test.
        seed: Of the tests.
        effective_items: How many items of equal weight tell as much as these, (Σw)²/Σw² with w what an
            item counts for. None: as many as there are.
        effective_users: Likewise of users, by their numbers of targets.
    """

    uncorrected: GapShares
    corrected: GapShares | None
    why_uncorrected: str | None
    reliability: PriorReliability
    p_data: float
    p_prior: float
    deviation: Uncertain
    is_measurable: bool
    correlation: float
    weigh: str
    n_targets: int
    n_items: int
    n_users: int
    n_permutations: int
    seed: int
    effective_items: float | None = None
    effective_users: float | None = None

    @property
    def is_calibrated(self) -> bool:
        """The intervals were found to hold planted truths in 95 of 100 cases, give or take 3.

        It takes what 100 items and 30 users of equal weight tell. With fewer items some intervals
        are wider than need be, with fewer users they miss more often.
        """
        return self._worth("items") >= _LEAST_ITEMS and self._worth("users") >= _LEAST_USERS

    def _worth(self, of: str) -> float:
        worth = getattr(self, f"effective_{of}")
        return float(getattr(self, f"n_{of}") if worth is None else worth)

    @property
    def shares(self) -> GapShares:
        """The corrected shares where there are any, else the uncorrected."""
        return self.uncorrected if self.corrected is None else self.corrected

    @property
    def sentence(self) -> str:
        """What was found, in plain words, with its uncertainty."""
        s = self.shares
        return sentence(
            data=s.data,
            prior=s.prior,
            both=s.v_both,
            p_data=self.p_data,
            p_prior=self.p_prior,
            is_measurable=self.is_measurable,
            is_corrected=self.corrected is not None,
            worth=None if self.is_calibrated else (self._worth("items"), self._worth("users")),
        )

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain |= {
            "uncorrected": self.uncorrected.as_dict(),
            "corrected": None if self.corrected is None else self.corrected.as_dict(),
            "reliability": self.reliability.as_dict(),
            "deviation": self.deviation.as_dict(),
        }
        return {**plain, "is_calibrated": self.is_calibrated, "sentence": self.sentence}


def attribute_gap(
    outcomes: Outcomes,
    *,
    weigh: str = "targets",
    reliability: float | None = None,
    n_permutations: int = 400,
    seed: int = 0,
) -> Attribution:
    """Split the differences in accuracy between items into the log's and the prior's share.

    V(S) is the share of the between-item variance of accuracy, free of the noise of single
    targets, that a polynomial of the sides in S explains out of sample: a target is
    predicted from targets of other items *and* other users. The two sides share V(D,P) as in a
    two-player Shapley game.

    Intervals resample users and items in thought: every share's derivative by the weight of each
    target, squared and summed over users and over items, so nothing is drawn. They allow for the
    uncertainty of the variance that is divided by (Fieller) and of the variances themselves
    (Student's t). Method, assumptions and how well it keeps its promises:
    docs/decisions/0009-attribution.md.

    Args:
        outcomes: Accuracy of held-out targets and both popularities of their items.
        weigh: ``"targets"``: an item counts as often as it is a target, as in all metrics.
            ``"items"``: every item that has a target counts once; wider intervals.
        reliability: Of the mean of the estimates, in (0, 1], where it is known from
            elsewhere. None: from the agreement of two or more estimates.
        n_permutations: Of either test, >= 19.
        seed: Of the tests.

    Returns:
        :class:`Attribution`.

    Raises:
        ValueError: an argument is out of range.
        DataError: no item has targets of two users, so that differences between items cannot
            be told from noise; or all accuracies, all counts, or all estimates, are equal.

    Example:
        >>> from tailwise.diagnosis._planted import PlantedWorld
        >>> planted = PlantedWorld(data_effect=0.8, prior_effect=0.0).draw(seed=0)
        >>> found = attribute_gap(planted.outcomes, n_permutations=19)
        >>> found.p_data, found.p_prior > 0.05
        (0.05, True)
    """
    _check(weigh, reliability, n_permutations)
    if np.all(outcomes.accuracy == outcomes.accuracy[0]):
        raise DataError(
            f"accuracy must differ between targets; got {outcomes.accuracy[0]:g} for all "
            f"{outcomes.n_targets:,}.\n  Without a difference there is none to explain: hold out more."
        )
    kept, items = np.unique(outcomes.items, return_inverse=True)
    _, users = np.unique(outcomes.users, return_inverse=True)
    n_of_item = np.bincount(items)
    omega = np.ones(items.size) if weigh == "targets" else 1.0 / n_of_item[items]
    counts, priors = outcomes.counts[kept], outcomes.priors[kept]
    sides = Sides.measure(counts, priors, group_sums(items, omega))
    for name, values in (("counts", sides.data), ("priors", sides.prior)):
        if not values.any():
            raise DataError(
                f"{name} must differ between items; got the same for all {kept.size:,} that have targets.\n"
                "  What does not vary explains nothing."
            )
    moments = Moments(
        items=items,
        users=users,
        accuracy=outcomes.accuracy,
        omega=omega,
        features=features(sides.data, sides.prior),
        parts=(DATA, *PRIOR, *BOTH),
        strata=_strata(items, users, sides.data),
        products=agreement(sides),
    )
    trust, why_not = _trust(priors, counts, sides, reliability)
    stated = reliability if trust.is_given else None
    linear = moments.linearised()
    estimates = shares_of(linear.value, stated)
    total = float(estimates[-1])
    errors = RatioErrors.measure(linear, slopes_of(linear.value, stated), total, users, items)
    is_measurable = total > errors.reach(-1)
    p_data, p_prior = permutation_p_values(
        moments, sides, linear.value, n_permutations=n_permutations, seed=seed
    )

    def shares(first: int) -> GapShares:
        return GapShares(
            *(
                errors.interval(k, float(estimates[k]))
                if is_measurable
                else Uncertain(float(estimates[k]) if total > 0 else None)
                for k in range(first, first + len(SHARES))
            )
        )

    return Attribution(
        uncorrected=shares(0),
        corrected=shares(len(SHARES)) if why_not is None else None,
        why_uncorrected=why_not,
        reliability=trust,
        p_data=p_data,
        p_prior=p_prior,
        deviation=_deviation(total, errors.reach(-1)),
        is_measurable=is_measurable,
        correlation=float(np.average(sides.data * sides.prior, weights=sides.weights)),
        weigh=weigh,
        n_targets=outcomes.n_targets,
        n_items=int(kept.size),
        n_users=moments.n_users,
        n_permutations=n_permutations,
        seed=seed,
        effective_items=_effective(sides.weights),
        effective_users=_effective(group_sums(users)),
    )


def _check(weigh: str, reliability: float | None, n_permutations: int) -> None:
    if weigh not in ("targets", "items"):
        raise ValueError(f"weigh must be 'targets' or 'items'; got {weigh!r}.\n  Metrics weigh by targets.")
    if reliability is not None and not 0 < reliability <= 1:
        raise ValueError(
            f"reliability must be a fraction in (0, 1]; got {reliability!r}.\n"
            "  1 says that the prior has no error."
        )
    if n_permutations < 19:
        raise ValueError(
            f"n_permutations must be >= 19; got {n_permutations}.\n  With fewer no p value falls to 0.05."
        )


def _strata(items: NDArray[np.int64], users: NDArray[np.int64], data: Floats) -> NDArray[np.int64]:
    """Cut items by count so that each stratum holds as many items with targets of several users."""
    pairs = np.unique(np.stack([items, users]), axis=1)[0]
    several = np.flatnonzero(np.bincount(pairs) > 1)
    if not several.size:
        raise DataError(
            f"outcomes must hold items with targets of two users; got none among {data.size:,} items.\n"
            "  Differences between items cannot be told from noise: hold out more."
        )
    cuts = np.quantile(data[several], np.linspace(0, 1, _N_STRATA + 1)[1:-1])
    stratum = np.searchsorted(np.unique(cuts), data, side="right")
    # Ties may leave a stratum without such items: those above join the one below.
    return np.searchsorted(np.unique(stratum[several])[1:], stratum, side="right")


def _trust(
    priors: Floats, counts: NDArray[np.int64], sides: Sides, stated: float | None
) -> tuple[PriorReliability, str | None]:
    """Return the reliability, and why it cannot be used, if so."""
    found = prior_reliability(priors, counts, weights=sides.weights)
    if stated is not None:
        means = np.average(agreement(sides), axis=0, weights=sides.weights)
        given_data = float(given_counts(stated, means[1], means[3]))
        found = PriorReliability(stated, given_data, found.mean_correlation, found.n_estimates, True)
    if found.reliability is None or found.given_data is None:
        return found, "a single estimate of the prior does not show its own error"
    if min(found.reliability, found.given_data) < _LEAST_RELIABILITY:
        return found, (
            f"the estimates of the prior agree too little: among items of equal count only "
            f"{found.given_data:.0%} of their variance is shared"
        )
    return found, None


def _effective(weights: Floats) -> float:
    """Number of equal weights whose mean is as uncertain as that of these."""
    return float(weights.sum() ** 2 / np.sum(weights**2))


def _deviation(variance: float, reach: float) -> Uncertain:
    """Square root of the between-item variance and of its interval, cut at zero."""
    low, high = (float(np.sqrt(max(variance + sign * reach, 0.0))) for sign in (-1, 1))
    return Uncertain(float(np.sqrt(max(variance, 0.0))), low, high)
