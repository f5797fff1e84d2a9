"""Is a method beyond the Pareto curve that a rival draws with its head-tail knob?

A rival with a knob can buy tail quality with overall quality, as much as one likes. A method that only
does the same is no news: it has to reach more tail at the same overall quality.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tailwise.errors import DataError
from tailwise.evaluation._evaluate import check_inputs
from tailwise.evaluation._linearised import LEAST_SEEDS, satterthwaite
from tailwise.evaluation._pooled import user_gains
from tailwise.evaluation._rankings import Rankings, check_same_cases
from tailwise.evaluation._user_sums import UserSums, ratios
from tailwise.schema import USER_INDEX
from tailwise.segments import OVERALL, Segments

__all__ = ["BeyondCurve", "ResampledRuns", "beyond_curve"]

_MAX_DRAWS = 4_000_000  # users drawn at once


@dataclass(frozen=True, eq=False)
class ResampledRuns:
    """Overall and tail quality of every run of a setting, as observed and in resamples of its users.

    Made once per setting and used for all comparisons in it: drawing the users is what takes time.

    Attributes:
        setting: Name of the setting.
        population: Whom the users are drawn from. Settings of one population hold the same users
            and see the same resamples.
        users: ``[n_users]`` int64; index of each user within the population.
        n_contributing: Users with a target in the segment.
        runs: Point (a method, or a method at one value of its knob) and training seed of each run.
        observed: ``[n_runs, 2]`` float64; overall and segment.
        draws: ``[n_resamples, n_runs, 2]`` float64.
        segment: The second column.
    """

    setting: str
    population: str
    users: NDArray[np.int64]
    n_contributing: int
    runs: tuple[tuple[str, int], ...]
    observed: NDArray[np.float64]
    draws: NDArray[np.float64]
    segment: str

    @classmethod
    def from_sums(
        cls,
        runs: Mapping[tuple[str, int], UserSums],
        users: NDArray[np.int64],
        *,
        setting: str = "",
        population: str | None = None,
        metric: str = "ndcg",
        k: int = 10,
        segment: str = "tail",
        n_resamples: int = 2000,
        seed: int = 0,
    ) -> "ResampledRuns":
        """Draw users with replacement, each with all targets, and average every run again.

        Args:
            runs: Gains per user (:func:`user_gains`) by point and training seed.
            users: ``[n_users]``; their indices, ascending.
            setting: Name of the setting.
            population: The setting unless named.
            metric: Name in :data:`METRICS` that the gains were summed with.
            k: Length of the judged list, likewise.
            segment: What is set against overall quality.
            n_resamples: Of the users.
            seed: Of the resamples; mixed with the population's name.

        Raises:
            ValueError: there are no runs.
        """
        if not runs:
            raise ValueError(f"runs of {setting!r} must hold at least one run; got none.")
        name = setting if population is None else population
        first = next(iter(runs.values()))
        keys = [first.column((metric, k, part)) for part in (OVERALL, segment)]
        gains = np.concatenate([s.numerators[:, keys] for s in runs.values()], axis=1)  # [n, n_runs * 2]
        weights = first.denominators[:, first.denominator_of[keys]]  # [n, 2]
        shape = (len(runs), 2)
        n = users.size
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        parts = []
        for start in range(0, n_resamples, max(1, _MAX_DRAWS // max(n, 1))):
            size = min(max(1, _MAX_DRAWS // max(n, 1)), n_resamples - start)
            drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
            parts.append(ratios((counts @ gains).reshape(size, *shape), (counts @ weights)[:, None, :]))
        return cls(
            setting=setting,
            population=name,
            users=users,
            n_contributing=int(np.count_nonzero(weights[:, 1])),
            runs=tuple(runs),
            observed=ratios(gains.sum(axis=0).reshape(shape), weights.sum(axis=0)[None, :]),
            draws=np.concatenate(parts),
            segment=segment,
        )

    @classmethod
    def from_rankings(
        cls, points: Mapping[str, Rankings | Sequence[Rankings]], segments: Segments, **arguments: Any
    ) -> "ResampledRuns":
        """As :meth:`from_sums`, from the rankings of each point; seeds are paired in order."""
        checked = {name: check_inputs(runs, segments) for name, runs in points.items()}
        check_same_cases([runs[0] for runs in checked.values()], what="points")
        measure = {"metrics": [arguments.get("metric", "ndcg")], "ks": [arguments.get("k", 10)]}
        sums = {
            (name, seed): user_gains(one, segments, **measure)
            for name, runs in checked.items()
            for seed, one in enumerate(runs)
        }
        users = next(iter(checked.values()))[0].lists[USER_INDEX].to_numpy()
        return cls.from_sums(sums, users, **arguments)


@dataclass(frozen=True)
class BeyondCurve:
    """How far a method lies above a rival's Pareto curve, with a 95 % interval.

    Attributes:
        method: The method.
        settings: Names of the settings averaged, each with the same weight.
        difference: Tail quality of the method minus that of the curve at the same overall quality,
            relative to the baseline's tail quality: 0.1 is ten per cent of it.
        low: Lower end; None where fewer than two users contribute in some population, or where the
            method has no tail quality at all in some setting.
        high: Upper end; None likewise.
        degrees_of_freedom: None likewise.
        positions: Per setting, where the method's overall quality lies: ``"within"`` the curve's
            range, ``"above"`` it (held against the point of highest overall quality) or ``"below"``
            it (against the efficient point of lowest: no claim, since the rival might have bought more
            tail there).
        n_seeds: Training seeds that the method and all points have, in the setting with the fewest.
        n_users: Users that contribute, over all populations.
        variance: ``"users+seeds"``, or ``"users"`` where a setting has a single seed.
    """

    method: str
    settings: tuple[str, ...]
    difference: float
    low: float | None
    high: float | None
    degrees_of_freedom: float | None
    positions: tuple[str, ...]
    n_seeds: int
    n_users: int
    variance: str

    @property
    def has_enough_seeds(self) -> bool:
        """Three or more in every setting: the interval speaks of the method, not only of these models."""
        return self.n_seeds >= LEAST_SEEDS

    @property
    def is_beyond(self) -> bool:
        """The whole interval lies above zero, and the curve reaches down to the method's overall quality.

        Below the curve's range the rival might have bought as much tail for as much overall quality.
        With fewer than three seeds nothing is told.
        """
        is_above = self.low is not None and self.low > 0
        return is_above and self.has_enough_seeds and "below" not in self.positions

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        lists = {"settings": list(self.settings), "positions": list(self.positions)}
        return {**vars(self), **lists, "is_beyond": self.is_beyond}


def beyond_curve(
    runs: ResampledRuns | Sequence[ResampledRuns],
    method: str,
    curve: Sequence[str] | Mapping[str, Sequence[str]],
    *,
    baseline: str,
    seed: int = 0,
) -> BeyondCurve:
    """Hold a method against the Pareto curve of a rival's knob, at the method's overall quality.

    The curve joins the rival's points, the baseline (knob at zero) among them, by straight lines;
    points that another point matches or beats in both overall and tail quality are left out, since
    nobody would choose them. The statistic is the tail quality of the method minus the curve's at the
    same overall quality.

    Its variance comes from resamples of the users and resamples of the training seeds (of S seeds S - 1
    are drawn, which makes that variance unbiased), paired over all points, the curve found anew each
    time. What is new in every pair of user and seed is in both and is taken off once, as in
    :func:`relative_difference`; it is found by giving each seed other users. The interval is t with
    Satterthwaite's degrees of freedom (users-1, seeds-1). Percentiles would be wrong here: choosing the
    best of noisy points raises the curve, in the data and once more in each resample. The first raise
    remains, so the test errs against the method: in simulations without any lead it told one in 0 to
    2.5 % of cases, where 2.5 % are allowed.

    Args:
        runs: Of one setting, or one per setting; pooled, every setting weighs the same.
        method: Its point.
        curve: The rival's points, or, where they differ, those of each setting by its name. A single
            one is a curve together with the baseline.
        baseline: The point of the knob at zero, added to ``curve``.
        seed: Of the draws of training seeds.

    Returns:
        :class:`BeyondCurve`.

    Raises:
        ValueError: no runs, no points, or the method is one of them.
        DataError: a point was not run, no training seed is shared, users of one population
            differ between settings, or the baseline's tail quality is zero.

    Example:
        >>> from tailwise.evaluation import rank_targets
        >>> from tailwise.segments import segment_items
        >>> def model(scores): return rank_targets(lambda h: scores, [[], []], [0, 1, 2], [0, 1], n_items=3)
        >>> points = {"adamw": model([[3, 2, 1]] * 2), "rival": model([[2, 3, 1]] * 2)}
        >>> points["better"] = model([[3, 2, 1], [1, 3, 2]])
        >>> segments = segment_items(np.array([5, 3, 1]), head_share=0.5)
        >>> runs = ResampledRuns.from_rankings(points, segments, n_resamples=50)
        >>> beyond_curve(runs, "better", ["rival"], baseline="adamw").positions
        ('above',)
    """
    settings = [runs] if isinstance(runs, ResampledRuns) else list(runs)
    curves = [list(curve.get(one.setting, ()) if isinstance(curve, Mapping) else curve) for one in settings]
    if not settings or not all(curves) or any(method in (*points, baseline) for points in curves):
        raise ValueError(
            f"runs and curve must not be empty nor hold the method; got {len(settings)} settings, curves "
            f"{curves} with baseline {baseline!r}, method {method!r}.\n"
            "  Name the points of one rival in every setting; a method is not held against itself."
        )
    by_setting = [
        _Drawn.of(one, [method, *dict.fromkeys((baseline, *points))], np.random.default_rng([seed, i]))
        for i, (one, points) in enumerate(zip(settings, curves, strict=True))
    ]
    gaps = [one.gap for one in by_setting]
    n_settings = len(settings)
    difference = float(np.mean(gaps))
    components: list[tuple[float, float]] = []
    n_users = 0
    is_known = all(one.has_hits for one in by_setting)
    for population in dict.fromkeys(one.population for one in settings):
        members = [i for i, one in enumerate(settings) if one.population == population]
        first = settings[members[0]]
        for i in members[1:]:
            if not np.array_equal(settings[i].users, first.users):
                raise DataError(
                    f"settings of population {population!r} must hold the same users; got others in "
                    f"{first.setting!r} and {settings[i].setting!r}.\n  Name two populations."
                )
        n_users += first.n_contributing
        if first.n_contributing < 2:
            is_known = False
            continue
        moved = np.sum([by_setting[i].of_users for i in members], axis=0) / n_settings
        components.append((_variance(moved), float(first.n_contributing - 1)))
    of_users = sum(v for v, _ in components)
    components += [
        (one.seed_variance / n_settings**2, float(one.n_seeds - 1)) for one in by_setting if one.n_seeds > 1
    ]
    low = high = dof = None
    if is_known:
        of_seeds = sum(one.seed_variance for one in by_setting) / n_settings**2
        noise = sum(one.noise_variance for one in by_setting) / n_settings**2
        variance = max(of_users, of_seeds, of_users + of_seeds - noise)
        dof = satterthwaite(components, total=variance)
        reach = float(stats.t.ppf(0.975, dof) * np.sqrt(variance))
        low, high = difference - reach, difference + reach
    n_seeds = min(one.n_seeds for one in by_setting)
    return BeyondCurve(
        method=method,
        settings=tuple(one.setting for one in settings),
        difference=difference,
        low=low,
        high=high,
        degrees_of_freedom=dof,
        positions=tuple(one.position for one in by_setting),
        n_seeds=n_seeds,
        n_users=n_users,
        variance="users+seeds" if n_seeds > 1 else "users",
    )


@dataclass(frozen=True, eq=False)
class _Drawn:
    """The statistic of one setting: observed, over resamples of users, and its variances."""

    gap: float
    position: str
    n_seeds: int
    of_users: NDArray[np.float64]
    seed_variance: float
    noise_variance: float  # of what is new in each pair of user and seed; in users and in seeds
    has_hits: bool  # of the method, in the segment

    @classmethod
    def of(cls, runs: ResampledRuns, points: Sequence[str], rng: np.random.Generator) -> "_Drawn":
        at = {run: i for i, run in enumerate(runs.runs)}
        seeds_of = {point: {s for name, s in runs.runs if name == point} for point in points}
        missing = [point for point, seeds in seeds_of.items() if not seeds]
        shared = sorted(set.intersection(*seeds_of.values()))
        if not shared:
            got = f"no run of {', '.join(map(repr, missing))}" if missing else "no seed that all points have"
            raise DataError(
                f"runs of {runs.setting!r} must hold every point with a common training seed; got {got}.\n"
                "  Run the missing cells, or leave that point out of the curve."
            )
        columns = np.array([[at[point, s] for s in shared] for point in points])  # [p, S]
        observed, draws = runs.observed[columns], runs.draws[:, columns]  # [p, S, 2], [R, p, S, 2]
        gap, position = _gaps(observed.mean(axis=1)[None])
        if np.isnan(gap[0]):
            raise DataError(
                f"baseline {points[1]!r} of {runs.setting!r} must have some {runs.segment} quality to be "
                "relative to; got 0.\n  Leave that setting out."
            )
        n_seeds, n_draws = len(shared), draws.shape[0]
        drawn = rng.integers(0, n_seeds, size=(n_draws, max(1, n_seeds - 1)))
        share = np.stack([(drawn == s).mean(axis=1) for s in range(n_seeds)], axis=1)  # [R, S]
        of_users = _gaps(draws.mean(axis=2))[0]
        noise = 0.0
        if n_seeds > 1:
            # Other users for every seed: users and their noise are both averaged over seeds.
            shifted = [np.roll(draws[:, :, s], s, axis=0) for s in range(n_seeds)]
            apart = _variance(_gaps(np.mean(shifted, axis=0))[0])
            noise = max(0.0, (n_seeds * apart - _variance(of_users)) / (n_seeds - 1))
        return cls(
            gap=float(gap[0]),
            position=str(position[0]),
            n_seeds=n_seeds,
            of_users=of_users,
            seed_variance=_variance(_gaps(np.einsum("psc,rs->rpc", observed, share))[0])
            if n_seeds > 1
            else 0.0,
            noise_variance=noise,
            has_hits=bool(observed[0, :, 1].sum() > 0),
        )


def _gaps(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Height above the curve, relative, and position, of ``[r, p, 2]``: method, baseline, others."""
    own, own_tail = values[:, 0, :1], values[:, 0, 1]  # [r, 1], [r]
    order = np.lexsort((-values[:, 1:, 1], -values[:, 1:, 0]), axis=-1)  # best overall first
    x, y = (np.take_along_axis(values[:, 1:, c], order, axis=1) for c in (0, 1))  # [r, p - 1]
    best = np.maximum.accumulate(y, axis=1)
    efficient = np.concatenate([np.ones((y.shape[0], 1), dtype=bool), y[:, 1:] > best[:, :-1]], axis=1)
    rows = np.arange(x.shape[0])
    right = np.where(efficient & (x >= own), x, np.inf).argmin(axis=1)
    left = np.where(efficient & (x < own), x, -np.inf).argmax(axis=1)
    has_right, has_left = ((efficient & side).any(axis=1) for side in (x >= own, x < own))
    width = x[rows, right] - x[rows, left]
    share = np.divide(own[:, 0] - x[rows, left], width, out=np.zeros_like(width), where=width > 0)
    between = y[rows, left] + share * (y[rows, right] - y[rows, left])
    curve = np.where(has_right & has_left, between, np.where(has_left, y[rows, left], y[rows, right]))
    position = np.where(has_right & has_left, "within", np.where(has_left, "above", "below"))
    # A method level with the best or the last efficient point is still within the range.
    position = np.where((efficient & (own == x)).any(axis=1), "within", position)
    base = values[:, 1, 1]
    return np.divide(own_tail - curve, base, out=np.full_like(base, np.nan), where=base > 0), position


def _variance(draws: NDArray[np.float64]) -> float:
    known = draws[~np.isnan(draws)]
    return float(known.var(ddof=1)) if known.size > 1 else 0.0
