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
    """[n, 3] of value, low and high."""
    found = [getattr(getattr(r, kind), share) for r in results if getattr(r, kind) is not None]
    return np.array([(one.value, one.low, one.high) for one in found])


@pytest.mark.parametrize("share", ["data", "prior", "prior_alone", "v_both"])
def test_corrected_intervals_hold_the_planted_share_95_times_in_100(share):
    value, low, high = estimates(repeated(SMALL), "corrected", share).T
    truth = truth_of(SMALL)[share]
    n_covered = int(np.count_nonzero((low <= truth) & (truth <= high)))
    # The binomial interval of the coverage, at 99.5 % as four shares are looked at, holds 95 %.
    chance = stats.binomtest(n_covered, value.size).proportion_ci(0.995)
    assert chance.low <= 0.95 <= chance.high


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
    silent = [r for r in results if r.p_prior > 0.05 and r.p_data <= 0.05]
    assert len(silent) > N_REPEATS / 2
    assert all("cannot be told from nothing" in r.sentence for r in silent)


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
