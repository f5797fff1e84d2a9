"""IPS, SNIPS and DR: by hand, in expectation over everything that could have been logged, and beside obp."""

import itertools
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailwise.experiments.ope import (
    GivenProbabilities,
    ItemProbabilities,
    PlackettLuce,
    check_logged_lists,
    evaluate_policy,
)
from tailwise.experiments.ope._estimators import dr_parts, ips_parts, preceding, snips_parts, tail_values
from tailwise.experiments.ope._evaluate import _ask, _parts
from tailwise.experiments.ope._reward_model import RewardModel, fit_reward_model
from tailwise.experiments.ope._weights import slot_weights

ORACLE = json.loads((Path(__file__).parent / "ope_oracle.json").read_text())


def two_lists():
    """Ratios 2, 1/2 in the first list and 1, 3 in the second."""
    table = pl.DataFrame(
        {
            "recommendation_id": ["a", "a", "b", "b"],
            "position": [1, 2, 1, 2],
            "item_id": ["x", "y", "y", "x"],
            "propensity": [0.25, 0.5, 0.5, 0.25],
            "target_propensity": [0.5, 0.25, 0.5, 0.75],
            "reward": [1.0, 4.0, 2.0, 1.0],
        }
    )
    return check_logged_lists(table)


@pytest.mark.parametrize(
    ("interaction", "weights", "parts"),
    [
        ("position", [2, 0.5, 1, 3], [2 + 2, 2 + 3]),
        ("cascade", [2, 1, 1, 3], [2 + 4, 2 + 3]),
        ("list", [1, 1, 3, 3], [1 + 4, 6 + 3]),
    ],
)
def test_weights_and_ips_of_two_lists_worked_by_hand(interaction, weights, parts):
    log = two_lists()
    found = slot_weights(log, log.target_propensity, interaction)
    assert found.tolist() == weights
    assert ips_parts(log, found).tolist() == parts


def test_snips_of_two_lists_is_the_sum_over_places_of_weighted_means():
    log = two_lists()
    weights = slot_weights(log, log.target_propensity, "cascade")
    by_hand = (2 * 1 + 1 * 2) / 3 + (1 * 4 + 3 * 1) / 4
    assert snips_parts(log, weights).mean() == pytest.approx(by_hand)


def test_snips_moves_with_a_constant_and_ips_does_not():
    table = pl.DataFrame(
        {
            "position": [1, 1, 1],
            "item_id": ["a", "b", "c"],
            "propensity": [0.5, 0.25, 0.25],
            "target_propensity": [0.25, 0.5, 0.5],
            "reward": [1.0, 0.0, 2.0],
        }
    )

    def of(shift):
        log = check_logged_lists(table.with_columns(pl.col("reward") + shift))
        return evaluate_policy(log, GivenProbabilities())

    assert of(10).estimate("snips").value == pytest.approx(of(0).estimate("snips").value + 10)
    assert of(10).estimate("ips").value != pytest.approx(of(0).estimate("ips").value + 10)


def test_doubly_robust_of_one_slot_worked_by_hand():
    table = pl.DataFrame(
        {"position": [1, 1], "item_id": ["a", "b"], "propensity": [0.5, 0.5], "reward": [1.0, 0.0]}
    )
    log = check_logged_lists(table)
    parts = dr_parts(log, np.array([1.5, 0.5]), np.ones(2), np.array([0.6, 0.2]), np.array([0.5, 0.5]))
    assert parts == pytest.approx([0.5 + 1.5 * 0.4, 0.5 + 0.5 * -0.2])


# --- expectation over all outcomes: two lists of two of three items, every click pattern

POLICY = np.array([0.3, -0.8, 1.1])
LOGGED = np.array([0.9, 0.0, -0.4])
BASE = np.array([0.1, 0.5, 0.8])
SLATES = list(itertools.permutations(range(3), 2))


def chances(scores):
    mass = np.exp(scores)
    return {(a, b): mass[a] / mass.sum() * mass[b] / (mass.sum() - mass[a]) for a, b in SLATES}


def clicks(slate, kind):
    """Chance of a click in each place. A cascade: the second depends on the first item as well."""
    a, b = slate
    if kind == "cascade":
        return BASE[a], BASE[b] * (0.5 if a == 2 else 1.0)
    return BASE[a] * (0.3 if b == 1 else 1.0), BASE[b]  # the first depends on what stands below


def outcomes(kind):
    """Every list with its clicks, and its probability under the logging policy."""
    for slate, chance in chances(LOGGED).items():
        first, second = clicks(slate, kind)
        for c1, c2 in itertools.product((0, 1), repeat=2):
            yield slate, (c1, c2), chance * (first if c1 else 1 - first) * (second if c2 else 1 - second)


def truth(kind):
    return sum(chance * sum(clicks(slate, kind)) for slate, chance in chances(POLICY).items())


def expected_estimates(kind):
    """Expectation of every estimate from two lists of two users, over all 24 × 24 logs."""
    logged = chances(LOGGED)
    mass = np.exp(LOGGED)
    policy = PlackettLuce(
        pl.Series(["0", "1", "2"]), lambda c: np.tile(POLICY, (len(c), 1)), np.zeros(2, np.int64), 1.0
    )
    total: dict[tuple[str, str], float] = {}
    for both in itertools.product(list(outcomes(kind)), repeat=2):
        rows = []
        for name, (slate, click, _) in enumerate(both):
            first = mass[slate[0]] / mass.sum()
            for place, propensity in enumerate((first, logged[slate] / first)):
                rows.append((name, name, place + 1, str(slate[place]), propensity, click[place]))
        names = ["recommendation_id", "user_id", "position", "item_id", "propensity", "reward"]
        log = check_logged_lists(pl.DataFrame(rows, schema=names, orient="row"))
        model = fit_reward_model(log, n_folds=2)
        target, expected, _ = _ask(log, policy, model)
        for interaction in ("cascade", "list"):
            weights = slot_weights(log, target, interaction)
            for estimator, parts in _parts(log, weights, interaction, model, expected).items():
                key = (interaction, estimator)
                total[key] = total.get(key, 0.0) + both[0][2] * both[1][2] * float(parts.mean())
    return total


def test_in_a_cascade_ips_and_cross_fitted_dr_are_exactly_unbiased():
    found = expected_estimates("cascade")
    for key in (("cascade", "ips"), ("cascade", "dr"), ("list", "ips")):
        assert found[key] == pytest.approx(truth("cascade"), rel=1e-10), key  # rounding of 576 terms
    assert found["cascade", "snips"] != pytest.approx(truth("cascade"), rel=1e-3)  # consistent only


def test_where_a_click_depends_on_what_stands_below_only_whole_lists_are_unbiased():
    found = expected_estimates("later")
    assert found["list", "ips"] == pytest.approx(truth("later"), rel=1e-10)
    assert found["cascade", "ips"] != pytest.approx(truth("later"), rel=1e-3)


def test_doubly_robust_is_right_with_wrong_propensities_if_the_model_is_right():
    rng = np.random.default_rng(0)
    n, effect = 400, np.array([1.0, 3.0])
    item = rng.integers(0, 2, n)
    table = pl.DataFrame(
        {
            "position": [1] * n,
            "item_id": [str(i) for i in item],
            "propensity": [0.2] * n,
            "reward": effect[item],
        }
    )  # drawn with 1/2, not 1/5
    log = check_logged_lists(table, propensities="marginal")
    model = RewardModel(np.zeros(n, np.int64), np.zeros((1, 1)), effect[None], np.zeros(1))
    policy = ItemProbabilities(pl.Series(["0", "1"]), np.array([[0.25, 0.75]]))
    target, expected, _ = _ask(log, policy, model)
    parts = _parts(log, target / log.propensity, "position", model, expected)
    assert parts["dr"].mean() == pytest.approx(2.5)
    assert parts["ips"].mean() > 5


def test_a_right_model_takes_the_variance_of_the_cascade_away():
    rng = np.random.default_rng(1)
    n = 300
    effect = np.array([1.0, 2.0, 4.0])
    slates = [SLATES[i] for i in rng.integers(0, 6, n)]  # drawn evenly: 1/3, then 1/2
    rows = [
        (name, place + 1, str(slate[place]), (1 / 3, 1 / 2)[place], effect[slate[place]])
        for name, slate in enumerate(slates)
        for place in range(2)
    ]
    names = ["recommendation_id", "position", "item_id", "propensity", "reward"]
    log = check_logged_lists(pl.DataFrame(rows, schema=names, orient="row"))
    policy = PlackettLuce(
        pl.Series(["0", "1", "2"]), lambda c: np.tile(POLICY, (len(c), 1)), np.zeros(n, np.int64), 1.0
    )
    fold = np.arange(n) % 2
    model = RewardModel(fold, np.zeros((2, 2)), np.stack([effect] * 2), np.zeros(2))
    target, expected, _ = _ask(log, policy, model)
    parts = _parts(log, slot_weights(log, target, "cascade"), "cascade", model, expected)
    assert parts["dr"].std() < 0.5 * parts["ips"].std()
    value = sum(chance * (effect[a] + effect[b]) for (a, b), chance in chances(POLICY).items())
    assert parts["dr"].mean() == pytest.approx(value, rel=0.05)  # 3 standard errors


def test_later_places_are_predicted_from_the_other_folds_only():
    log = two_lists()
    model = RewardModel(np.array([0, 1]), np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2))
    expected = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0]])  # [slots, folds]
    assert tail_values(log, model, expected).tolist() == [4, 0, 20, 0]


def test_the_weight_above_is_that_of_the_same_list():
    log = two_lists()
    assert preceding(log, np.array([2.0, 3.0, 5.0, 7.0])).tolist() == [1, 2, 1, 5]


# --- the reward model


def test_items_that_do_not_differ_beyond_chance_are_all_predicted_by_the_place():
    rng = np.random.default_rng(3)
    table = pl.DataFrame(
        {
            "position": np.tile([1, 2], 200),
            "recommendation_id": np.repeat(np.arange(200), 2),
            "item_id": [f"{a}" for pair in (rng.permutation(5)[:2] for _ in range(200)) for a in pair],
            "propensity": [0.5] * 400,
            "reward": np.tile([1.0, 0.0], 200),
        }
    )
    log = check_logged_lists(table)
    model = fit_reward_model(log)
    assert np.isinf(model.shrinkage).all()
    assert model.of_shown(log) == pytest.approx(log.reward)


def test_a_rare_item_is_shrunk_more_than_a_frequent_one_of_the_same_mean():
    rng = np.random.default_rng(4)
    item = np.array(["often"] * 200 + ["rare"] * 4 + ["rest"] * 400)
    reward = np.where(item == "rest", 0.0, 1.0) + rng.normal(0, 0.5, item.size)
    reward[200:204] += reward[:200].mean() - reward[200:204].mean()
    table = pl.DataFrame(
        {"position": [1] * item.size, "item_id": item, "propensity": [0.5] * item.size, "reward": reward}
    )
    log = check_logged_lists(table)
    model = fit_reward_model(log, n_folds=2)
    effects = dict(zip(log.item_ids, model.item_effects.mean(axis=0), strict=True))
    assert 0 < effects["rare"] < 0.95 * effects["often"]


def test_users_stay_in_one_fold_and_no_prediction_sees_its_own_user():
    n_users = 10
    user = np.repeat(np.arange(n_users), 3)
    table = pl.DataFrame(
        {
            "user_id": user,
            "position": [1] * user.size,
            "item_id": ["a"] * user.size,
            "propensity": [0.5] * user.size,
            "reward": np.where(user == 0, 100.0, 0.0),
        }
    )
    log = check_logged_lists(table)
    model = fit_reward_model(log)
    assert all(len(set(model.fold[user == u])) == 1 for u in range(n_users))
    assert model.of_shown(log)[user == 0].max() == 0


# --- beside obp


def oracle_slots():
    found = ORACLE["slots"]
    table = pl.DataFrame(
        {
            "position": found["position"],
            "item_id": [str(item) for item in found["item"]],
            "propensity": found["propensity"],
            "reward": found["reward"],
        }
    )
    log = check_logged_lists(table, propensities="marginal")
    policy = ItemProbabilities(pl.Series([str(i) for i in range(5)]), np.array(found["policy"]))
    return log, policy, np.array(found["model"])


@pytest.mark.parametrize("estimator", ["ips", "snips"])
def test_estimates_of_single_slots_equal_those_of_obp(estimator):
    log, policy, _ = oracle_slots()
    found = evaluate_policy(log, policy, max_unsupported=0.5).estimate(estimator).value
    assert found == pytest.approx(ORACLE["slots"]["found"][estimator], rel=1e-12)


def test_doubly_robust_equals_that_of_obp_with_the_same_reward_model():
    log, policy, model = oracle_slots()
    target = policy.table[log.position - 1, log.item]
    predicted = model[log.item, log.position - 1]
    expected = (policy.table * model.T).sum(axis=1)[log.position - 1]
    parts = dr_parts(log, target / log.propensity, np.ones_like(target), predicted, expected)
    assert parts.mean() == pytest.approx(ORACLE["slots"]["found"]["dr"], rel=1e-12)


@pytest.mark.parametrize("interaction", ["list", "cascade", "position"])
def test_estimates_of_lists_equal_those_of_obp(interaction):
    found = ORACLE["lists"]
    n, n_places = np.shape(found["reward"])
    table = pl.DataFrame(
        {
            "recommendation_id": np.repeat(np.arange(n), n_places),
            "position": np.tile(np.arange(1, n_places + 1), n),
            "item_id": [str(item) for item in np.tile(np.arange(n_places), n)],
            **{name: np.ravel(found[name]) for name in ("propensity", "target_propensity", "reward")},
        }
    )
    log = check_logged_lists(table)
    parts = ips_parts(log, slot_weights(log, log.target_propensity, interaction))
    assert parts.mean() == pytest.approx(found["found"][interaction], rel=1e-12)
