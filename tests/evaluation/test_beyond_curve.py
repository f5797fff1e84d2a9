import numpy as np
import pytest

from tailwise.errors import DataError
from tailwise.evaluation import ResampledRuns, UserSums, beyond_curve
from tailwise.evaluation._beyond_curve import _gaps

KEYS = (("ndcg", 10, "overall"), ("ndcg", 10, "tail"))
BASE = (0.5, 0.10)  # overall, tail


def gap(method, *others, baseline=BASE):
    values, position = _gaps(np.array([[method, baseline, *others]]))
    return values[0] * baseline[1], position[0]


def test_method_between_two_points_is_held_against_the_line_between_them():
    # halfway from (0.5, 0.10) to (0.4, 0.20) the curve stands at 0.15
    height, position = gap((0.45, 0.18), (0.4, 0.20))
    assert (height, position) == (pytest.approx(0.03), "within")


def test_method_above_the_range_is_held_against_the_best_overall():
    assert gap((0.6, 0.12), (0.4, 0.20)) == (pytest.approx(0.02), "above")


def test_method_below_the_range_is_held_against_the_lowest_and_flagged():
    assert gap((0.3, 0.26), (0.4, 0.20)) == (pytest.approx(0.06), "below")


def test_points_that_another_beats_do_not_lower_the_curve():
    # (0.45, 0.12) loses to (0.46, 0.18) in both; joined in, it would let 0.15 at 0.455 look beyond
    height, position = gap((0.455, 0.15), (0.46, 0.18), (0.45, 0.12), (0.40, 0.20))
    assert height == pytest.approx(0.15 - (0.18 + 0.02 * 0.005 / 0.06))
    assert position == "within"
    # a knob that lifts both beats the baseline itself
    assert gap((0.5, 0.10), (0.52, 0.13)) == (pytest.approx(-0.03), "below")


def test_method_on_a_point_is_level_with_it():
    for point in (BASE, (0.45, 0.16), (0.4, 0.20)):
        assert gap(point, (0.45, 0.16), (0.4, 0.20)) == (pytest.approx(0, abs=1e-12), "within")


def test_baseline_without_tail_quality_has_no_relative_gap():
    assert np.isnan(_gaps(np.array([[(0.5, 0.1), (0.5, 0.0)]]))[0][0])


def world(rng, points, *, name="a", n=400, n_seeds=5, n_resamples=200, spread=0.04, rate=0.3):
    """Users with one target each, nearly half in the tail; points multiply the chance of a hit."""
    is_tail = rng.random(n) < 0.45
    users = rng.gamma(2, 0.5, n)
    runs = {}
    for point, (head, tail) in points.items():
        for seed in range(n_seeds):
            chance = users * np.where(is_tail, 0.5 * tail, head) * rate * np.exp(rng.normal(0, spread))
            hits = (rng.random(n) < chance).astype(float)
            gains, targets = np.stack([hits, hits * is_tail], 1), np.stack([np.ones(n), is_tail], 1)
            runs[point, seed] = UserSums(KEYS, gains, targets.astype(float), np.array([0, 1]))
    return ResampledRuns.from_sums(runs, np.arange(n), setting=name, n_resamples=n_resamples)


CURVE = {"base": (1.0, 1.0), "low": (0.97, 1.1), "mid": (0.9, 1.25), "high": (0.75, 1.4)}
NULLS = {
    "on a point": (0.97, 1.1),
    "between two": (0.825, 1.325),
    "the baseline itself": (1.0, 1.0),
    "the end": (0.75, 1.4),
}


def told(method, n_simulations, n_settings=1, **arguments):
    rng = np.random.default_rng(4)
    found = []
    for _ in range(n_simulations):
        runs = [world(rng, {**CURVE, "m": method}, name=str(j), **arguments) for j in range(n_settings)]
        result = beyond_curve(runs, "m", ["low", "mid", "high"], baseline="base")
        found.append((result.low > 0, result.is_beyond))
    return np.mean(found, axis=0)


@pytest.mark.parametrize("method", NULLS.values(), ids=NULLS)
def test_method_on_the_curve_is_not_told_beyond_more_than_its_level(method):
    # allowed: 2.5 %; Binomial(150, .025): standard deviation 0.0127, so three of them above is 0.063
    above, beyond = told(method, 150, n=250)
    assert beyond <= above <= 0.063


def test_method_far_beyond_the_curve_is_told():
    assert told((1.0, 2.4), 30, n_settings=2, n=500)[1] > 0.9


def test_one_seed_says_that_training_again_is_not_covered():
    rng = np.random.default_rng(0)
    points = {**CURVE, "m": (1.0, 2.0)}
    one = beyond_curve(world(rng, points, n_seeds=1), "m", ["low"], baseline="base")
    assert (one.variance, one.n_seeds) == ("users", 1)
    assert one.low < one.difference < one.high


def test_nothing_is_told_beyond_with_fewer_than_three_seeds():
    for n_seeds, is_told in ((1, False), (2, False), (3, True)):
        runs = world(np.random.default_rng(0), {**CURVE, "m": (1.0, 6.0)}, n_seeds=n_seeds, spread=0.0)
        found = beyond_curve(runs, "m", ["low", "mid"], baseline="base")
        assert (found.low > 0, found.is_beyond) == (True, is_told)


def test_method_without_tail_quality_has_no_interval():
    runs = world(np.random.default_rng(0), {**CURVE, "m": (2.0, 0.0)})
    found = beyond_curve(runs, "m", ["low", "mid", "high"], baseline="base")
    assert (found.difference < 0, found.low, found.high) == (True, None, None)


def test_same_call_gives_the_same_interval():
    rng = np.random.default_rng(0)
    runs = world(rng, {**CURVE, "m": (1.0, 1.5)})
    first, again = (beyond_curve(runs, "m", ["low", "mid"], baseline="base") for _ in range(2))
    assert first == again


def test_settings_of_one_population_share_their_resamples():
    rng = np.random.default_rng(0)
    first = world(rng, CURVE)
    sums = {("base", 0): UserSums(KEYS, np.ones((400, 2)), np.ones((400, 2)), np.array([0, 1]))}
    gains = np.arange(800.0).reshape(400, 2)
    sums["low", 0] = UserSums(KEYS, gains, np.ones((400, 2)), np.array([0, 1]))
    made = [
        ResampledRuns.from_sums(sums, first.users, setting=s, population=p, n_resamples=5)
        for s, p in (("a", "same"), ("b", "same"), ("c", "other"))
    ]
    assert np.array_equal(made[0].draws, made[1].draws)
    assert not np.array_equal(made[0].draws, made[2].draws)


def test_seeds_that_some_point_lacks_are_left_out():
    rng = np.random.default_rng(0)
    runs = world(rng, {**CURVE, "m": (1.0, 1.5)}, n_seeds=3)
    kept = [i for i, run in enumerate(runs.runs) if run != ("low", 2)]
    part = ResampledRuns(
        **{
            **vars(runs),
            "runs": tuple(runs.runs[i] for i in kept),
            "observed": runs.observed[kept],
            "draws": runs.draws[:, kept],
        }
    )
    assert beyond_curve(part, "m", ["low"], baseline="base").n_seeds == 2
    assert beyond_curve(part, "m", ["mid"], baseline="base").n_seeds == 3


def test_what_cannot_be_held_against_a_curve_is_named():
    rng = np.random.default_rng(0)
    runs = world(rng, CURVE, n=50, n_seeds=2, n_resamples=10)
    with pytest.raises(ValueError, match=r"must not be empty nor hold the method.*method 'low'"):
        beyond_curve(runs, "low", ["low"], baseline="base")
    with pytest.raises(ValueError, match="must not be empty"):
        beyond_curve(runs, "low", [], baseline="base")
    with pytest.raises(DataError, match=r"runs of 'a' must hold every point .* got no run of 'absent'"):
        beyond_curve(runs, "mid", ["low", "absent"], baseline="base")
    other = ResampledRuns(**{**vars(runs), "setting": "b", "users": runs.users + 1})
    with pytest.raises(DataError, match="settings of population 'a' must hold the same users; got others"):
        beyond_curve([runs, other], "mid", ["low"], baseline="base")
    zero = ResampledRuns(**{**vars(runs), "observed": runs.observed * 0})
    with pytest.raises(DataError, match=r"baseline 'base' of 'a' must have some tail quality .* got 0"):
        beyond_curve(zero, "mid", ["low"], baseline="base")
