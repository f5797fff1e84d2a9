import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import stats

from tailwise.diagnosis import Attribution, Outcomes, PlantedWorld, attribute_gap
from tailwise.errors import DataError

# Small enough to repeat, with effects strong enough to be found: 250 items, 2,000 targets.
SMALL = PlantedWorld(n_items=250, n_users=500, n_targets=2000, base=-1.0, item_noise=0.3)
NULL = replace(SMALL, prior_effect=0.0)
N_REPEATS = 150


def attribute(world: PlantedWorld, seed: int, **arguments) -> Attribution:
    arguments = {"n_permutations": 19, "seed": seed, **arguments}
    return attribute_gap(world.draw(seed).outcomes, **arguments)


@cache
def repeated(world: PlantedWorld) -> tuple[Attribution, ...]:
    return tuple(attribute(world, seed) for seed in range(N_REPEATS))


@cache
def truth_of(world: PlantedWorld) -> dict[str, float]:
    return world.truth()


def estimates(results, kind: str, share: str) -> np.ndarray:
    """[n, 3] of value, low and high, where there is an interval."""
    found = [getattr(getattr(r, kind), share) for r in results if getattr(r, kind) is not None]
    return np.array([(one.value, one.low, one.high) for one in found if one.low is not None])


@pytest.mark.parametrize("share", ["data", "prior", "data_alone", "prior_alone", "v_prior", "v_both"])
@pytest.mark.parametrize("world", [SMALL, NULL], ids=["both", "null"])
def test_corrected_intervals_hold_the_planted_share_95_times_in_100(share, world):
    value, low, high = estimates(repeated(world), "corrected", share).T
    truth = truth_of(world)[share]
    n_covered = int(np.count_nonzero((low <= truth) & (truth <= high)))
    # The binomial interval of the coverage, at 99.5 % as twelve are looked at, holds 95 %.
    chance = stats.binomtest(n_covered, value.size).proportion_ci(0.995)
    assert chance.high >= 0.95
    # Items are worth 57 equal ones, where intervals of what depends on the largest regression are too
    # wide, and the null prior adds exactly zero, where they always are.
    assert chance.low <= 0.95 or share in ("prior_alone", "v_both")
    # An interval that cannot be given is the exception, even with items worth 57 equal ones.
    assert value.size > 0.7 * N_REPEATS


@pytest.mark.parametrize("share", ["data_alone", "prior_alone", "v_prior", "v_both"])
def test_errors_are_as_large_as_the_estimates_vary(share):
    value, low, high = estimates(repeated(SMALL), "uncorrected", share).T
    # Half the median width over the 97.5 % quantile of a usual effective freedom, 10: 2.23.
    error = np.median(high - low) / (2 * stats.t.ppf(0.975, 10))
    # Squares of the fit's noise, counted twice, made the errors of v_both and prior_alone 1.6 times
    # the deviation. A deviation of 150 repeats is known to 6 %, and the freedom varies from 3 to 20.
    assert 0.7 < error / value.std(ddof=1) < 1.35


def test_noisy_prior_loses_its_share_and_the_correction_gives_it_back():
    noisy = replace(SMALL, reliability=0.5)
    truth = truth_of(noisy)
    results = repeated(noisy)
    for share in ("prior", "prior_alone"):
        uncorrected = estimates(results, "uncorrected", share)[:, 0]
        corrected = estimates(results, "corrected", share)[:, 0]
        errors = [part.std(ddof=1) / np.sqrt(part.size) for part in (uncorrected, corrected)]
        # Three standard errors of the mean of the repeats.
        assert uncorrected.mean() < truth[share] - 3 * errors[0]
        assert abs(corrected.mean() - truth[share]) < 3 * errors[1] + 0.03  # 0.03: shares are ratios


def test_a_prior_without_effect_is_reported_as_nothing_in_95_repeats_of_100():
    results = repeated(NULL)
    n_told = sum(r.p_prior <= 0.05 for r in results)
    # The test is exact, so false alarms are binomial; more than this have probability 0.5 %.
    assert n_told <= stats.binom.ppf(0.995, N_REPEATS, 0.05)
    assert n_told >= stats.binom.ppf(0.005, N_REPEATS, 0.05)  # a test that never speaks finds nothing
    silent = [r for r in results if r.p_prior > 0.05 and r.p_data <= 0.05 and r.is_measurable]
    assert len(silent) > N_REPEATS / 2
    assert all("cannot be told from nothing" in r.sentence for r in silent)


def test_a_prior_with_an_effect_is_found_in_most_shops_of_250_items():
    # 90 % of 400 repeats; strata of ten and the shares' own weights found 43 %.
    assert np.mean([r.p_prior <= 0.05 for r in repeated(SMALL)]) > 0.8


def test_a_prior_without_effect_that_follows_the_log_is_given_a_share_but_nothing_of_its_own():
    results = repeated(NULL)
    assert truth_of(NULL)["prior"] > 0.05
    assert truth_of(NULL)["prior_alone"] == pytest.approx(0.0, abs=1e-12)  # sums of 300,000 equal terms
    alone = estimates(results, "corrected", "prior_alone")
    n_holding_zero = int(np.count_nonzero((alone[:, 1] <= 0) & (alone[:, 2] >= 0)))
    # At zero the intervals are conservative, so only too few would be wrong; fewer have probability 0.5 %.
    assert n_holding_zero >= stats.binom.ppf(0.005, len(alone), 0.95)


def test_shapley_shares_add_up_to_what_both_explain():
    found = attribute(SMALL, 0)
    for shares in (found.uncorrected, found.corrected):
        v = {k: one["value"] for k, one in shares.as_dict().items()}
        assert v["data"] + v["prior"] == pytest.approx(v["v_both"])  # sums of a few doubles
        assert v["interaction"] == pytest.approx(v["v_both"] - v["v_data"] - v["v_prior"])
        assert v["data"] == pytest.approx((v["v_data"] + v["data_alone"]) / 2)


def test_perfect_reliability_corrects_nothing():
    found = attribute(SMALL, 0, reliability=1.0)
    plain, corrected = found.uncorrected.as_dict(), found.corrected.as_dict()
    for share, one in plain.items():
        assert corrected[share]["value"] == pytest.approx(one["value"])
    assert found.reliability.given_data == pytest.approx(1.0)


def test_order_of_targets_names_of_users_and_scale_of_the_prior_do_not_matter():
    o = SMALL.draw(3).outcomes
    order = np.random.default_rng(0).permutation(o.n_targets)
    other = Outcomes(
        9000 - o.users[order], o.items[order], o.accuracy[order], o.counts, np.exp(o.priors * 2 - 1)
    )
    first, second = (attribute_gap(x, n_permutations=19) for x in (o, other))
    assert second.corrected.prior.value == pytest.approx(first.corrected.prior.value)
    assert second.deviation.value == pytest.approx(first.deviation.value)


def test_same_seed_gives_the_same_result():
    assert attribute(SMALL, 1) == attribute(SMALL, 1)


def test_single_estimate_is_not_corrected_and_the_sentence_says_so():
    found = attribute(replace(SMALL, n_estimates=1), 0)
    assert found.corrected is None
    assert "single estimate" in found.why_uncorrected
    assert found.shares is found.uncorrected
    assert "not corrected" in found.sentence
    assert attribute(replace(SMALL, n_estimates=1), 0, reliability=0.7).corrected is not None


def test_estimates_that_disagree_are_not_corrected():
    found = attribute(replace(SMALL, reliability=0.05), 0)
    assert found.corrected is None
    assert "agree too little" in found.why_uncorrected


def test_items_that_do_not_differ_give_no_gap_to_explain():
    same = replace(SMALL, data_effect=0.0, prior_effect=0.0, item_noise=0.0)
    found = next(r for r in (attribute(same, seed) for seed in range(20)) if not r.is_measurable)
    assert found.uncorrected.data.low is None
    assert "no gap to explain" in found.sentence


def test_accuracy_that_never_differs_is_refused():
    o = SMALL.draw(0).outcomes
    with pytest.raises(DataError, match=r"accuracy must differ .* got 0 for all"):
        attribute_gap(Outcomes(o.users, o.items, np.zeros(o.n_targets), o.counts, o.priors))


def test_effective_numbers_are_those_of_equal_weights():
    rng = np.random.default_rng(0)
    items, users = np.repeat(np.arange(60), 5), np.tile(np.arange(20), 15)
    even = Outcomes(users, items, rng.random(300), np.arange(60), rng.random((60, 2)))
    found = attribute_gap(even, n_permutations=19)
    assert found.effective_items == pytest.approx(60)
    assert found.effective_users == pytest.approx(20)
    # One item with as many targets as ten others: (10 + 9)² / (100 + 9) of ten.
    weights = np.r_[np.zeros(10, dtype=int), np.arange(1, 10)]
    uneven = Outcomes(np.arange(19), weights, rng.random(19), np.arange(10), rng.random((10, 2)))
    assert attribute_gap(uneven, n_permutations=19).effective_items == pytest.approx(361 / 109)


def test_too_few_items_or_users_are_said_to_leave_rough_intervals():
    few = attribute(SMALL, 0)
    assert not few.is_calibrated
    assert f"only {few.effective_items:.0f} items" in few.sentence
    assert few.as_dict()["is_calibrated"] is False
    enough = attribute(replace(SMALL, n_items=600), 0)
    assert enough.is_calibrated
    assert "rough" not in enough.sentence
    assert not replace(enough, effective_users=29.0).is_calibrated
    assert not replace(enough, effective_items=99.0).is_calibrated


def test_results_without_effective_numbers_count_their_items_and_users():
    plain = replace(attribute(SMALL, 0), effective_items=None, effective_users=None)
    assert plain.is_calibrated
    assert not replace(plain, n_users=12).is_calibrated


def test_weighing_by_items_answers_another_question():
    by_items = attribute(SMALL, 0, weigh="items")
    assert by_items.weigh == "items"
    assert by_items.corrected.data.value != attribute(SMALL, 0).corrected.data.value


def test_result_is_plain_json():
    plain = json.loads(json.dumps(attribute(SMALL, 0).as_dict()))
    assert plain["corrected"]["prior"].keys() == {"value", "low", "high"}
    assert plain["sentence"].endswith(".")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weigh": "users"}, "weigh .* got 'users'"),
        ({"reliability": 70}, "reliability .* got 70"),
        ({"n_permutations": 5}, "n_permutations .* got 5"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        attribute(SMALL, 0, **arguments)


def test_items_without_two_users_and_sides_that_do_not_vary_are_refused():
    with pytest.raises(DataError, match="none among 3 items"):
        attribute_gap(Outcomes([0, 1, 2], [0, 1, 2], [0, 1, 0], [3, 2, 1], [1, 2, 3]))
    with pytest.raises(DataError, match=r"counts .* all 2"):
        attribute_gap(Outcomes([0, 1, 2, 3], [0, 0, 1, 1], [0, 1, 0, 1], [2, 2], [1, 2]))


def test_a_prior_that_is_the_counts_again_adds_nothing_and_raises_nothing():
    o = SMALL.draw(0).outcomes
    same = Outcomes(o.users, o.items, o.accuracy, o.counts, np.column_stack([o.counts, o.counts]))
    found = attribute_gap(same, n_permutations=19)
    assert found.correlation == pytest.approx(1.0, abs=0.1)  # the same ranks, but weighed differently
    # Normal scores of the same ranks, weighed by targets and evenly, are nearly polynomials of each other.
    assert found.uncorrected.prior_alone.value == pytest.approx(0.0, abs=0.1)


def test_a_handful_of_items_gives_numbers_or_says_that_nothing_is_measurable():
    rng = np.random.default_rng(0)
    for n_items in (2, 3, 5, 9):
        items = np.tile(np.arange(n_items), 20)
        outcomes = Outcomes(
            rng.integers(0, 15, items.size),
            items,
            rng.random(items.size),
            np.arange(n_items),
            rng.random(n_items),
        )
        found = attribute_gap(outcomes, n_permutations=19)
        assert not found.is_measurable or np.isfinite(found.uncorrected.data.value)
