"""What tells a log that can speak for a policy from one that cannot, and the refusals."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.experiments.ope import (
    FixedLists,
    GivenProbabilities,
    ItemProbabilities,
    check_logged_lists,
    effective_sample_size,
    evaluate_policy,
    pareto_k,
)

from . import ope_worlds as world


def single(items, propensity, reward=None, target=None):
    n = len(items)
    table = pl.DataFrame(
        {
            "position": [1] * n,
            "item_id": items,
            "propensity": np.broadcast_to(propensity, n),
            "reward": np.zeros(n) if reward is None else reward,
        }
    )
    return table if target is None else table.with_columns(pl.Series("target_propensity", target))


def test_effective_sample_size_is_n_for_equal_weights_and_one_where_one_has_it_all():
    assert effective_sample_size(np.full(7, 0.3)) == pytest.approx(7)
    assert effective_sample_size(np.array([0.0, 5.0, 0.0])) == 1
    assert effective_sample_size(np.array([1.0, 3.0])) == pytest.approx(16 / 10)
    assert effective_sample_size(np.zeros(3)) == 0


@pytest.mark.parametrize("k", [0.2, 0.7, 1.2])
def test_pareto_k_finds_the_tail_index_of_pareto_weights(k):
    weights = (1 - np.random.default_rng(5).random(50_000)) ** -k
    assert pareto_k(weights) == pytest.approx(
        k, abs=0.12
    )  # 3 n_tail = 2,012 weights: s.e. (1 + k) / sqrt(670)


def test_pareto_k_of_bounded_weights_is_negative_and_of_equal_or_few_ones_unknown():
    assert pareto_k(np.random.default_rng(6).random(10_000)) < 0
    assert pareto_k(np.ones(1000)) is None
    assert pareto_k(np.array([1.0, 2.0, 3.0])) is None


def test_shares_and_counts_of_weights_worked_by_hand():
    target = [0.5] * 199 + [0.0] * 200 + [0.5 * 101]
    log = check_logged_lists(single(["a"] * 400, 0.5, target=np.minimum(target, 1.0)))
    result = evaluate_policy(log, GivenProbabilities(), max_unsupported=0.9)
    (found,) = result.diagnostics
    assert (found.n, found.n_possible) == (400, 200)
    assert found.max_share == pytest.approx(2 / 201)
    assert found.top_share == pytest.approx((2 + 3) / 201)  # 1 % of 400 are four
    assert found.mean_weight == pytest.approx(201 / 400)


def test_the_missing_mean_weight_is_the_probability_without_support():
    """Item c is never drawn and has 30 % of the policy's probability."""
    rng = np.random.default_rng(0)
    log = check_logged_lists(single(rng.choice(["a", "b"], 20_000), 0.5), propensities="marginal")
    policy = ItemProbabilities(pl.Series(["a", "b", "c"]), np.array([[0.5, 0.2, 0.3]]))
    with pytest.raises(
        DataError, match=r"got 20,000 of 20,000 slots.*about 30% of its probability.*5% may be"
    ):
        evaluate_policy(log, policy)
    (found,) = evaluate_policy(log, policy, max_unsupported=0.35).diagnostics
    assert found.unsupported_mass == pytest.approx(0.3, abs=0.01)
    assert found.never_shown_mass == pytest.approx(0.3)
    assert found.mean_p < 1e-6


def test_a_list_that_was_never_drawn_is_refused_with_counts_and_remedy():
    log = check_logged_lists(single(["a", "b", "a", "b"], 0.5))
    policy = FixedLists(pl.Series(["c"]), np.zeros((4, 1), np.int64))
    with pytest.raises(DataError, match=r"got 0 of 4 slots that it could have shown(?s:.*)Explore more"):
        evaluate_policy(log, policy)


def test_a_second_place_without_support_names_the_place_and_offers_the_first():
    table = world.draw(1, 300)
    log, context = world.checked(table)
    best = np.argsort(-world.LOG_SCORES, axis=1)
    worst = np.stack([best[:, 0], best[:, -1]], axis=1)  # a likely first item, an unlikely second one
    policy = FixedLists(world.ITEMS, worst[context])
    keep = np.array([True] * log.n_lists)
    shown = log.item.reshape(-1, 2)
    codes = np.array([world.ITEMS.to_list().index(item) for item in log.item_ids])
    keep &= ~(codes[shown] == worst[context]).all(axis=1)  # make sure that no such list was drawn
    with pytest.raises(DataError, match=r"in slot 2 of the lists(?s:.*)Or evaluate the first 1 places only"):
        evaluate_policy(log.of_lists(keep), dataclasses.replace(policy, lists=worst[context][keep]))
    first, context = world.checked(table, max_position=1)
    assert evaluate_policy(first, FixedLists(world.ITEMS, worst[context][:, :1])).headline.value > 0


def test_a_policy_with_support_is_hardly_ever_refused():
    for seed in range(40):
        log, context = world.checked(world.draw(seed, 300))
        assert evaluate_policy(log, world.policy(context)).diagnostics


def test_a_mean_weight_above_one_says_that_the_propensities_are_wrong():
    rng = np.random.default_rng(2)
    log = check_logged_lists(single(rng.choice(["a", "b"], 5000), 0.25), propensities="marginal")
    policy = ItemProbabilities(pl.Series(["a", "b"]), np.array([[0.6, 0.4]]))
    (caution,) = evaluate_policy(log, policy).cautions
    assert "mean weight is 2.0" in caution
    assert "the propensities are not those of these lists" in caution


def test_right_propensities_raise_no_caution():
    rng = np.random.default_rng(2)
    log = check_logged_lists(single(rng.choice(["a", "b"], 5000), 0.5), propensities="marginal")
    policy = ItemProbabilities(pl.Series(["a", "b"]), np.array([[0.6, 0.4]]))
    assert evaluate_policy(log, policy).cautions == ()


def test_few_effective_lists_and_heavy_tails_are_said():
    rng = np.random.default_rng(3)
    n = 3000
    weights = (1 - rng.random(n)) ** -0.9 * 0.1
    log = check_logged_lists(single(["a"] * n, 1e-4, target=np.minimum(weights * 1e-4, 1)))
    cautions = " ".join(evaluate_policy(log, GivenProbabilities(), max_unsupported=0.9).cautions)
    assert "a few weights decide (Pareto k = 0." in cautions
    assert "below 100 the interval is a rough guide" in cautions


def test_clipping_is_never_silent():
    log, context = world.checked(world.draw(5, 400))
    free, cut = (
        evaluate_policy(log, world.policy(context)),
        evaluate_policy(log, world.policy(context), clip=2.0),
    )
    assert (free.clip, free.n_clipped) == (None, 0)
    assert cut.clip == 2
    assert cut.n_clipped > 50
    assert cut.estimate("ips").value < free.estimate("ips").value  # rewards are not negative
    assert cut.estimate("ips").unclipped_value == free.estimate("ips").value
    assert free.estimate("dr").unclipped_value == free.estimate("dr").value
    assert any("weights were cut at 2 in" in caution and "biased" in caution for caution in cut.cautions)
    assert cut.diagnostics == free.diagnostics  # of the weights before
