"""Probabilities of evaluated policies, against formulas and against draws."""

import itertools

import numpy as np
import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.experiments.ope import (
    FixedLists,
    GivenProbabilities,
    ItemProbabilities,
    PlackettLuce,
    check_logged_lists,
    evaluate_policy,
)


def every_list(n_items, n_places):
    """A log that holds every ordered list once."""
    lists = list(itertools.permutations(range(n_items), n_places))
    rows = [
        (str(n), place, str(item), 0.5, 0.0)
        for n, items in enumerate(lists)
        for place, item in enumerate(items, 1)
    ]
    names = ["recommendation_id", "position", "item_id", "propensity", "reward"]
    return check_logged_lists(pl.DataFrame(rows, schema=names, orient="row")), lists


def ask(policy, log, values=None):
    index = {item: code for code, item in enumerate(policy.item_ids)}
    shown = np.array([index.get(log.item_ids[int(item)], -1) for item in log.item])
    return policy.probabilities(log, shown, np.empty((len(policy.item_ids), 0)) if values is None else values)


def plackett_luce(scores, temperature=1.0, n_candidates=None, n_lists=1, items=None):
    items = pl.Series([str(i) for i in range(len(scores))]) if items is None else items
    return PlackettLuce(
        items,
        lambda contexts: np.tile(np.array(scores, float), (len(contexts), 1)),
        np.zeros(n_lists, np.int64),
        temperature,
        n_candidates,
    )


def test_the_second_place_of_weights_4_2_1_goes_by_what_is_left():
    log, lists = every_list(3, 2)
    found, _ = ask(plackett_luce(np.log([4, 2, 1]), n_lists=6), log)
    both = found.reshape(6, 2)[lists.index((0, 2))]
    assert both == pytest.approx([4 / 7, 1 / 3])


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 30.0])
def test_the_probabilities_of_all_lists_sum_to_one(temperature):
    log, _ = every_list(5, 3)
    found, _ = ask(plackett_luce([0.3, -2.0, 1.4, 0.0, 0.9], temperature, n_lists=log.n_lists), log)
    assert found.reshape(-1, 3).prod(axis=1).sum() == pytest.approx(1)


def test_probabilities_are_those_of_gumbel_top_k():
    scores, temperature = np.array([0.5, 0.0, -0.5, 1.0]), 0.8
    log, lists = every_list(4, 2)
    found, _ = ask(plackett_luce(scores, temperature, n_lists=log.n_lists), log)
    noise = np.random.default_rng(0).gumbel(size=(200_000, 4))
    drawn = np.argsort(-(scores / temperature + noise), axis=1)[:, :2]
    for row, items in enumerate(lists):
        share = (drawn == items).all(axis=1).mean()
        assert share == pytest.approx(found.reshape(-1, 2)[row].prod(), abs=0.005)  # 4.5 standard errors


def test_propensities_that_the_service_logs_are_those_computed_here():
    draw_list = pytest.importorskip("tailwise.serving._exploration").draw_list
    scores = np.array([2.0, -1.0, 0.5, 0.0, 1.0])
    positions, propensities = draw_list(scores, 4, temperature=0.6, seed=3)
    rows = [
        (place, str(int(item)), chance, 0.0)
        for place, (item, chance) in enumerate(zip(positions, propensities, strict=True), 1)
    ]
    table = pl.DataFrame(rows, schema=["position", "item_id", "propensity", "reward"], orient="row")
    log = check_logged_lists(table.with_columns(pl.lit("only").alias("recommendation_id")))
    assert ask(plackett_luce(scores, 0.6), log)[0] == pytest.approx(log.propensity, rel=1e-12)


def test_temperature_zero_is_the_list_of_the_best_and_ties_share_a_place():
    log, lists = every_list(3, 2)
    found, _ = ask(plackett_luce([1.0, 3.0, 1.0], 0.0, n_lists=6), log)
    of = {items: tuple(found.reshape(6, 2)[row]) for row, items in enumerate(lists)}
    assert of[1, 0] == (1, 0.5)
    assert of[1, 2] == (1, 0.5)
    assert of[0, 1][0] == 0


def test_only_the_best_candidates_have_a_chance_and_of_equal_ones_the_first():
    log, lists = every_list(4, 1)
    found, _ = ask(plackett_luce([0.0, 2.0, 0.0, 0.0], 1.0, n_candidates=2, n_lists=4), log)
    of = {items[0]: found[row] for row, items in enumerate(lists)}
    assert of[0] + of[1] == pytest.approx(1)
    assert of[2] == of[3] == 0
    assert of[0] == pytest.approx(1 / (1 + np.exp(2)))


def test_a_policy_cut_to_its_candidates_is_the_one_whose_other_items_may_not_be_listed():
    rng = np.random.default_rng(8)
    scores = rng.normal(size=6)
    cut = np.where(scores >= np.sort(scores)[-4], scores, -np.inf)
    values = rng.normal(size=(6, 2))
    log, _ = every_list(6, 3)
    one = ask(plackett_luce(scores, 0.7, n_candidates=4, n_lists=log.n_lists), log, values)
    other = ask(plackett_luce(cut, 0.7, n_lists=log.n_lists), log, values)
    for found, expected in zip(one, other, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert one[0].reshape(-1, 3).prod(axis=1).sum() == pytest.approx(1)


def test_items_that_may_not_be_listed_and_items_that_are_not_scored_have_no_chance():
    log, lists = every_list(3, 1)
    found, _ = ask(plackett_luce([0.0, -np.inf], n_lists=3), log)  # knows the items 0 and 1
    assert [found[lists.index((item,))] for item in range(3)] == [1, 0, 0]


def test_expectations_are_sums_over_the_items_that_are_left():
    scores, values = np.array([0.2, 1.0, -0.4]), np.array([[1.0, 0.0], [10.0, 1.0], [100.0, 0.0]])
    log, lists = every_list(3, 2)
    _, found = ask(plackett_luce(scores, n_lists=6), log, values)
    mass = np.exp(scores)
    first, second = found.reshape(6, 2, 2)[lists.index((1, 0))]
    assert first == pytest.approx(mass @ values / mass.sum())
    assert second == pytest.approx((mass[[0, 2]] @ values[[0, 2]]) / mass[[0, 2]].sum())


def test_each_list_is_scored_in_its_own_context_however_many_are_scored_at_once(monkeypatch):
    rng = np.random.default_rng(1)
    table = rng.normal(size=(7, 3))
    log, _ = every_list(3, 2)
    context = np.array([6, 2, 2, 0, 6, 5])
    asked = []

    def scores(contexts):
        asked.append(len(contexts))
        return table[contexts]

    whole = ask(PlackettLuce(pl.Series(["0", "1", "2"]), scores, context, 1.0), log)[0]
    monkeypatch.setattr("tailwise.experiments.ope._plackett_luce._CELLS_AT_ONCE", 3)  # one list at a time
    single = ask(PlackettLuce(pl.Series(["0", "1", "2"]), scores, context, 1.0), log)[0]
    assert asked == [4, 1, 1, 1, 1]  # four contexts, each scored once
    np.testing.assert_array_equal(whole, single)
    mass = np.exp(table[6])
    first = whole.reshape(6, 2)[0, 0]
    assert first == pytest.approx(mass[log.item[0]] / mass.sum())


def test_fixed_lists_are_found_by_user_and_hold_for_both_kinds_of_propensity():
    table = pl.DataFrame(
        {
            "recommendation_id": ["a", "a", "b"],
            "user_id": ["u", "u", "v"],
            "position": [1, 2, 1],
            "item_id": ["x", "y", "x"],
            "propensity": [0.5, 0.5, 0.5],
            "reward": [0, 0, 0],
        }
    )
    lists = pl.DataFrame({"user_id": ["v", "u", "u"], "item_id": ["z", "x", "w"], "rank": [1, 1, 2]})
    for kind in ("conditional", "marginal"):
        log = check_logged_lists(table, propensities=kind)
        policy = FixedLists.from_table(lists, log)
        values = np.array([[float(ord(item))] for item in policy.item_ids])
        target, expected = ask(policy, log, values)
        assert target.tolist() == [1, 0, 0]
        assert expected[:, 0].tolist() == [ord("x"), ord("w"), ord("z")]


def test_a_logged_user_without_a_fixed_list_is_an_error_that_counts():
    table = pl.DataFrame(
        {
            "user_id": ["u", "v"],
            "position": [1, 1],
            "item_id": ["x", "x"],
            "propensity": [0.5, 0.5],
            "reward": [0, 0],
        }
    )
    lists = pl.DataFrame({"user_id": ["u"], "item_id": ["x"], "rank": [1]})
    with pytest.raises(DataError, match=r"got none for 1 of 2 \(first: 'v'\)"):
        FixedLists.from_table(lists, check_logged_lists(table))


def single_slots(places):
    return check_logged_lists(
        pl.DataFrame(
            {
                "position": places,
                "item_id": ["a"] * len(places),
                "propensity": [0.5] * len(places),
                "reward": [1.0] * len(places),
            }
        ),
        propensities="marginal",
    )


def test_item_probabilities_that_do_not_sum_to_one_are_refused():
    policy = ItemProbabilities(pl.Series(["a", "b"]), np.array([[0.5, 0.4]]))
    with pytest.raises(DataError, match=r"sum to 1; got a sum of 0\.900000"):
        evaluate_policy(single_slots([1, 1]), policy)


def test_item_probabilities_of_too_few_places_are_refused():
    policy = ItemProbabilities(pl.Series(["a"]), np.array([[1.0]]))
    with pytest.raises(DataError, match="got 1 places for a log of 2"):
        evaluate_policy(single_slots([1, 2]), policy)


def test_the_average_policy_of_a_log_is_its_frequencies_by_place():
    table = pl.DataFrame(
        {
            "position": [1, 1, 1, 2],
            "item_id": ["a", "b", "a", "b"],
            "propensity": [0.5] * 4,
            "reward": [0.0] * 4,
        }
    )
    policy = ItemProbabilities.of_log(check_logged_lists(table, propensities="marginal"))
    assert policy.table == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1]]))


def test_given_probabilities_need_their_column_and_allow_no_doubly_robust_estimate():
    table = pl.DataFrame(
        {"position": [1, 1], "item_id": ["a", "b"], "propensity": [0.5, 0.5], "reward": [1.0, 0.0]}
    )
    with pytest.raises(DataError, match="log must have a column target_propensity"):
        evaluate_policy(check_logged_lists(table), GivenProbabilities())
    log = check_logged_lists(table.with_columns(pl.Series("target_propensity", [0.6, 0.4])))
    result = evaluate_policy(log, GivenProbabilities())
    assert {found.estimator for found in result.estimates} == {"ips", "snips"}
    assert result.headline.estimator == "snips"
    assert result.estimate("ips").value == pytest.approx(0.6)
    with pytest.raises(
        DataError, match=r"target_propensity must be in .*; got 0 missing and 1 outside among 2"
    ):
        check_logged_lists(table.with_columns(pl.Series("target_propensity", [1.6, 0.4])))


def test_conditional_probabilities_do_not_fit_a_log_of_marginal_ones():
    log = single_slots([1, 2])
    with pytest.raises(
        DataError, match="must give marginal probabilities, as the log has them; got conditional"
    ):
        evaluate_policy(log, plackett_luce([0.0], n_lists=2, items=pl.Series(["a"])))
    first = single_slots([1, 1])  # in the first place both are the same
    assert evaluate_policy(first, plackett_luce([0.0, 0.0], n_lists=2, items=pl.Series(["a", "b"]))).headline
