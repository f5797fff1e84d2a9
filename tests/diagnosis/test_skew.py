import json
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.diagnosis import Estimate, bootstrap_skew, measure_skew
from tailwise.errors import DataError

counts = st.lists(st.integers(0, 50), min_size=1, max_size=60).filter(any)


def test_one_item_of_five_holds_half_when_it_has_six_of_ten():
    holders = measure_skew([6, 2, 1, 1, 0]).holders
    assert [(h.interaction_share, h.n_items, h.item_share) for h in holders] == [
        (0.2, 1, 0.2),
        (0.5, 1, 0.2),
        (0.8, 2, 0.4),  # 6 + 2 of 10
    ]


def test_a_share_that_is_met_exactly_needs_no_further_item():
    # 0.2 * 35 is 7.000000000000001 in binary; one item has exactly 7
    assert measure_skew([7] * 5).holders[0].n_items == 1


def test_rare_items_are_counted_with_what_they_hold():
    rare = measure_skew([6, 2, 1, 1, 0]).rare_items
    assert [(r.count, r.n_items, r.item_share, r.interaction_share) for r in rare[:3]] == [
        (0, 1, 0.2, 0.0),
        (1, 3, 0.6, 0.2),
        (2, 4, 0.8, 0.4),
    ]
    assert [r.count for r in rare] == [0, 1, 2, 5, 10, 20]


def test_a_log_without_any_item_seen_less_than_five_times_looks_filtered():
    skew = measure_skew(np.full(100, 5))
    assert skew.smallest_count == 5
    assert skew.looks_filtered
    assert not measure_skew(np.append(np.full(100, 5), 1)).looks_filtered
    assert not measure_skew([5, 6]).looks_filtered  # two items say nothing


@given(counts)
@settings(deadline=None)
def test_deciles_partition_the_catalogue_and_the_interactions(values):
    skew = measure_skew(values)
    assert [row.decile for row in skew.deciles] == list(range(1, 12))
    assert sum(row.n_items for row in skew.deciles) == skew.n_items == len(values)
    # eleven shares of whole numbers below 3,000: rounding stays far below 1e-12
    assert sum(row.interaction_share for row in skew.deciles) == pytest.approx(1.0, abs=1e-12)
    assert skew.deciles[-1].n_items == skew.n_cold_items


@given(counts)
@settings(deadline=None)
def test_the_curve_rises_and_bends_downwards(values):
    x, y = np.array(measure_skew(values).concentration.curve).T
    slopes = np.diff(y) / np.diff(x)
    assert (slopes >= -1e-12).all()
    assert (np.diff(slopes) <= 1e-9).all()  # divided differences of doubles at steps of 1/60


@given(counts)
@settings(deadline=None)
def test_holders_hold_their_share_and_one_item_fewer_does_not(values):
    falling = np.sort(values)[::-1]
    for holder in measure_skew(values).holders:
        needed = holder.interaction_share * sum(values)
        assert falling[: holder.n_items].sum() >= needed - 1e-6  # 0.2 is no binary fraction
        assert falling[: holder.n_items - 1].sum() < needed


@given(counts)
@settings(deadline=None)
def test_rare_items_grow_with_the_count(values):
    rare = measure_skew(values).rare_items
    for fewer, more in pairwise(rare):
        assert fewer.n_items <= more.n_items
        assert fewer.interaction_share <= more.interaction_share
    assert rare[0].n_items == values.count(0)


def test_the_object_is_ready_for_json():
    skew = measure_skew([6, 2, 1, 1, 0], rare=[0, 3]).as_dict()
    assert json.loads(json.dumps(skew)) == skew
    assert skew["rare_items"][1] == {"count": 3, "n_items": 4, "item_share": 0.8, "interaction_share": 0.4}


@pytest.mark.parametrize("rare", [[5, 1], [-1, 2], [1, 1], [0.5]])
def test_thresholds_that_do_not_rise_are_refused_by_value(rare):
    with pytest.raises(ValueError, match=r"rare must be whole numbers >= 0 in rising order; got \["):
        measure_skew([1, 2], rare=rare)


def test_negative_counts_and_an_empty_log_are_refused():
    with pytest.raises(ValueError, match="counts must be >= 0; got -1 for item 1"):
        measure_skew([1, -1])
    with pytest.raises(DataError, match="got 2 items without an interaction"):
        measure_skew([0, 0])


def random_log(rng: np.random.Generator, n_users: int = 60, n_items: int = 50) -> pl.DataFrame:
    """Users of very different activity, each with a taste for a quarter of the items."""
    base = 1 / np.arange(1, n_items + 1)
    users, items = [], []
    for user in range(n_users):
        likes = np.where(np.arange(n_items) % 4 == rng.integers(4), base, 0.05 * base)
        chosen = rng.choice(n_items, size=int(rng.geometric(0.1)), p=likes / likes.sum())
        users += [user] * chosen.size
        items += chosen.tolist()
    return pl.DataFrame({"user_index": users, "item_index": items})


def test_user_intervals_contain_the_value_though_resamples_lie_above_it():
    log = random_log(np.random.default_rng(0))
    measured = bootstrap_skew(log, 50, n_resamples=50)
    for estimate in (measured.gini, *(y for _, y in measured.top_shares)):
        assert estimate.low < estimate.value < estimate.high
    assert measured.gini.resample_mean > measured.gini.value
    assert measured.n_users == 60


def test_user_intervals_cover_the_mean_of_fresh_logs():
    rng = np.random.default_rng(1)
    fresh = [measure_skew(c).concentration.gini for c in (_counts(random_log(rng)) for _ in range(60))]
    found = [bootstrap_skew(random_log(rng), 50, n_resamples=30, seed=i).gini for i in range(40)]
    covered = sum(e.low <= np.mean(fresh) <= e.high for e in found)
    # Binomial(40, 0.95) is 38 on average; below 32 with probability 2e-4. Quantiles of the
    # resamples would cover hardly any: their mean lies some standard deviations too high.
    assert covered >= 32


def _counts(log: pl.DataFrame) -> np.ndarray:
    return np.bincount(log["item_index"], minlength=50)


def test_users_without_interactions_and_gaps_in_their_numbers_change_nothing():
    log = random_log(np.random.default_rng(2))
    moved = log.with_columns(pl.col("user_index") * 7 + 3)
    assert bootstrap_skew(log, 50, n_resamples=5) == bootstrap_skew(moved, 50, n_resamples=5)


def test_identical_users_leave_no_uncertainty():
    log = pl.DataFrame({"user_index": [0, 0, 0, 1, 1, 1], "item_index": [0, 0, 1, 0, 0, 1]})
    assert bootstrap_skew(log, 3, n_resamples=4).gini == Estimate(*[pytest.approx(4 / 9)] * 4)  # of (4, 2, 0)


def test_a_single_user_or_a_bad_number_of_resamples_is_refused():
    log = pl.DataFrame({"user_index": [0, 0], "item_index": [0, 1]})
    with pytest.raises(DataError, match="two users or more; got 1"):
        bootstrap_skew(log, 2)
    with pytest.raises(ValueError, match=r"n_resamples must be a whole number in 2\.\.10000; got 1"):
        bootstrap_skew(log, 2, n_resamples=1)
    with pytest.raises(DataError, match="'user_index'"):
        bootstrap_skew(log.drop("user_index"), 2)
