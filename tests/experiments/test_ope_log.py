"""Which logs are taken, what of them is kept, and what is refused with counts."""

import numpy as np
import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.experiments.ope import check_logged_lists


def slots(**columns):
    """Two lists of two slots; columns replaced by those given."""
    table = {
        "recommendation_id": ["b", "b", "a", "a"],
        "user_id": ["u", "u", "v", "v"],
        "position": [2, 1, 1, 2],
        "item_id": ["y", "x", "x", "z"],
        "propensity": [0.5, 0.25, 0.125, 1.0],
        "reward": [0, 1, 0, 2],
    }
    return pl.DataFrame({name: values for name, values in {**table, **columns}.items() if values is not None})


def test_lists_stay_in_the_order_of_the_log_and_slots_go_by_position():
    log = check_logged_lists(slots())
    assert log.lists["recommendation_id"].to_list() == ["b", "a"]
    assert [log.item_ids[int(item)] for item in log.item] == ["x", "y", "x", "z"]
    assert log.propensity.tolist() == [0.25, 0.5, 0.125, 1.0]
    assert log.ordinal.tolist() == [0, 1, 0, 1]
    assert log.rewards_of_lists().tolist() == [1, 2]
    assert log.unit == "lists"


def test_a_last_slot_of_propensity_one_does_not_make_a_list_deterministic():
    assert check_logged_lists(slots()).checks.n_deterministic_lists == 0


@pytest.mark.parametrize(
    ("propensity", "said"),
    [
        ([None, 0.5, 0.5, 0.5], "1 missing among 4"),
        ([float("nan"), 0.5, 0.5, None], "2 missing among 4"),
        ([0.0, 0.0, 0.5, 0.5], "2 zero among 4"),
        ([1.5, -0.5, 0.5, None], "1 missing, 1 below zero, 1 above 1 among 4"),
    ],
)
def test_propensities_outside_their_range_are_refused_and_counted_by_kind(propensity, said):
    with pytest.raises(DataError, match=rf"propensity must be in \(0, 1\]; got {said} slots"):
        check_logged_lists(slots(propensity=propensity))


def test_a_missing_reward_is_refused_and_not_taken_for_zero():
    with pytest.raises(DataError, match="reward must be a finite number; got 1 missing and 1 infinite"):
        check_logged_lists(slots(reward=[None, float("inf"), 0, 0]))


def test_a_log_of_deterministic_lists_is_refused_with_the_remedy():
    with pytest.raises(
        DataError, match=r"got 2 lists.*none of them drawn.*(?s:.*)Turn on exploration .* 5 %"
    ):
        check_logged_lists(slots(propensity=[1, 1, 1, 1]))
    with pytest.raises(DataError, match="is_explored is false everywhere"):
        check_logged_lists(slots(is_explored=[False] * 4))


def test_deterministic_lists_are_left_out_counted_and_keep_what_they_earned():
    log = check_logged_lists(slots(propensity=[0.5, 0.25, 1, 1]))
    assert log.lists["recommendation_id"].to_list() == ["b"]
    assert (log.checks.n_deterministic_lists, log.checks.n_evaluated_lists) == (1, 1)
    assert log.deterministic_rewards.tolist() == [2]


def test_the_flag_decides_over_the_propensities_where_there_is_one():
    log = check_logged_lists(slots(is_explored=[True, True, False, False]))
    assert log.lists["recommendation_id"].to_list() == ["b"]


def test_an_empty_flag_is_refused():
    with pytest.raises(DataError, match="is_explored must be true or false in every row; got Boolean with 1"):
        check_logged_lists(slots(is_explored=[True, True, False, None]))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"position": [1, 1, 1, 2]}, "position must not repeat in a list; got 1 of 2 lists"),
        ({"item_id": ["x", "x", "x", "z"]}, "item_id must not repeat in a list; got 1 of 2"),
        ({"user_id": ["u", "w", "v", "v"]}, "user_id must be the same in all slots of a list; got 1 of 2"),
        ({"position": [3, 1, 1, 2]}, "without a gap; got 1 of 2"),
        ({"position": [0, 1, 1, 2]}, "position must be a whole number >= 1; got 1 others"),
        ({"reward": None}, "must have a column 'reward'"),
    ],
)
def test_lists_that_cannot_be_are_refused(columns, said):
    with pytest.raises(DataError, match=said):
        check_logged_lists(slots(**columns))


def test_gaps_are_fine_where_propensities_are_marginal():
    log = check_logged_lists(slots(position=[3, 1, 1, 2]), propensities="marginal")
    assert log.position.tolist() == [1, 3, 1, 2]
    assert log.ordinal.tolist() == [0, 1, 0, 1]


def test_slots_beyond_max_position_are_left_out_and_counted():
    log = check_logged_lists(slots(), max_position=1)
    assert log.position.tolist() == [1, 1]
    assert log.checks.n_rows_beyond == 2


def test_rows_without_list_names_are_lists_of_their_own_and_lists_without_user_are_own_clusters():
    log = check_logged_lists(
        slots(
            recommendation_id=None,
            user_id=["u", None, None, "u"],
            position=[1] * 4,
            propensity=[0.5] * 4,
        )
    )
    assert log.unit == "slots"
    assert log.n_lists == 4
    assert log.checks.n_lists_without_user == 2
    assert log.cluster[0] == log.cluster[3]
    assert log.checks.n_users == 3


def test_a_user_called_like_a_list_does_not_share_its_cluster():
    table = slots(user_id=[None, None, "b", "b"])
    assert check_logged_lists(table).checks.n_users == 2


def test_columns_are_found_under_the_names_of_the_file():
    table = slots().rename({"reward": "clicks", "item_id": "sku"})
    log = check_logged_lists(table, columns={"reward": "clicks", "item_id": "sku"})
    assert log.reward.tolist() == [1, 0, 0, 2]


def test_lists_left_out_later_are_counted_and_take_their_users_other_lists_along():
    table = pl.concat([slots(), slots(recommendation_id=["c", "c", "d", "d"], propensity=[1.0] * 4)])
    log = check_logged_lists(table).of_lists(np.array([False, True]))
    assert log.lists["recommendation_id"].to_list() == ["a"]
    assert (log.checks.n_left_out_lists, log.checks.n_evaluated_lists, log.checks.n_users) == (1, 1, 1)
    assert log.reward.tolist() == [0, 2]
    assert log.list_of_slot.tolist() == [0, 0]
    assert log.deterministic_rewards.tolist() == [2]  # of list d, user v
