import json
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tailwise.diagnosis import measure_drift
from tailwise.errors import DataError
from tailwise.segments import PopularityWindow, gini, popularity

rows = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 40)), min_size=8, max_size=60)


def log(items: list[int], times: list[int]) -> pl.DataFrame:
    return pl.DataFrame(
        {"item_index": items, "timestamp": times}, schema={"item_index": pl.Int64, "timestamp": pl.Int64}
    )


def test_changes_of_a_head_of_two_are_as_worked_by_hand():
    # window 1: a 4, b 3, c 1, d 1, e 1; window 2: a 4, c 3, b 1, d 1, e 1. Head = 40 % of five items.
    first, second = [0] * 4 + [1] * 3 + [2, 3, 4], [0] * 4 + [2] * 3 + [1, 3, 4]
    drift = measure_drift(log(first + second, list(range(20))), 6, n_windows=2, head_share=0.4, n_shuffles=0)
    (change,) = drift.changes
    assert change.jaccard == pytest.approx(1 / 3)  # a in both, of a, b, c
    assert (change.n_entered, change.n_left) == (1, 1)
    assert change.previous_head_share == pytest.approx(5 / 10)  # a 4 and b 1 of ten
    # mean ranks (5, 4, 2, 2, 2) and (5, 2, 4, 2, 2) around 3: Σ xy = 4 - 1 - 1 + 1 + 1, Σ x² = 8
    assert change.rank_correlation == pytest.approx(4 / 8)
    assert change.jaccard_without_drift is None
    window = drift.windows[1]
    assert (window.start, window.end) == (10, 20)
    assert (window.n_interactions, window.n_items, window.n_new_items, window.n_head_items) == (10, 5, 0, 2)
    assert window.head_interaction_share == pytest.approx(7 / 10)
    assert window.gini == gini([4, 3, 1, 1, 1, 0])


def test_a_head_that_is_replaced_has_nothing_in_common():
    drift = measure_drift(log([0] * 5 + [1] + [1] * 5 + [0], list(range(12))), 2, n_windows=2, head_share=0.5)
    assert drift.changes[0].jaccard == 0.0
    assert drift.changes[0].previous_head_share == pytest.approx(1 / 6)
    assert drift.changes[0].rank_correlation == pytest.approx(-1.0)


def test_equal_lengths_follow_the_calendar_and_equal_counts_the_rows():
    table = log([0, 1, 0, 1, 0, 1], [0, 1, 2, 3, 4, 100])
    by_time = measure_drift(table, 2, n_windows=2, cut="equal-length", n_shuffles=0)
    assert [(w.start, w.end, w.n_interactions) for w in by_time.windows] == [(0, 50, 5), (50, 101, 1)]
    by_count = measure_drift(table, 2, n_windows=2, cut="equal-counts", n_shuffles=0)
    assert [(w.start, w.end, w.n_interactions) for w in by_count.windows] == [(0, 3, 3), (3, 101, 3)]


def test_windows_without_a_head_have_no_overlap_rather_than_a_perfect_one():
    # every item once: all tie, and a tied group is cut towards the tail
    (change,) = measure_drift(log([0, 1, 2, 3, 4, 5], list(range(6))), 6, n_windows=2, head_share=0.4).changes
    assert (change.jaccard, change.previous_head_share, change.n_entered, change.n_left) == (None, None, 0, 0)
    assert change.jaccard_without_drift is None


def test_rows_of_one_timestamp_are_never_parted():
    # the middle, after 4 of 8 rows, lies in the tied group; its end is nearer than its start
    drift = measure_drift(log([0, 1] * 4, [1, 2, 2, 2, 2, 3, 3, 3]), 2, n_windows=2, n_shuffles=0)
    assert [w.n_interactions for w in drift.windows] == [5, 3]


def test_a_large_tied_group_at_the_beginning_still_leaves_all_windows_filled():
    drift = measure_drift(log([0, 1] * 3, [1, 1, 1, 1, 2, 3]), 2, n_windows=3, n_shuffles=0)
    assert [w.n_interactions for w in drift.windows] == [4, 1, 1]


@given(rows, st.integers(2, 4), st.sampled_from(["equal-counts", "equal-length"]))
@settings(deadline=None)
def test_windows_partition_the_log(pairs, n_windows, cut):
    table = log([item for item, _ in pairs], [moment for _, moment in pairs])
    try:
        drift = measure_drift(table, 9, n_windows=n_windows, cut=cut, n_shuffles=0)
    except DataError:  # too few distinct times
        return
    assert len(drift.windows) == n_windows == len(drift.changes) + 1
    assert sum(w.n_interactions for w in drift.windows) == len(pairs)
    assert sum(w.n_new_items for w in drift.windows) == len({item for item, _ in pairs})
    for earlier, later in pairwise(drift.windows):
        assert earlier.end == later.start
    for window in drift.windows:
        counts = popularity(table, 9, window=PopularityWindow(start=window.start, end=window.end))
        assert counts.sum() == window.n_interactions > 0
    for change, earlier, later in zip(drift.changes, drift.windows, drift.windows[1:], strict=False):
        assert change.jaccard is None or 0 <= change.jaccard <= 1
        assert earlier.n_head_items - change.n_left == later.n_head_items - change.n_entered
        assert (change.previous_head_share is None) == (earlier.n_head_items == 0)
        if change.rank_correlation is not None:
            assert abs(change.rank_correlation) <= 1 + 1e-12  # rounding


def test_rank_correlation_is_scipys_over_items_active_in_either_window():
    rng = np.random.default_rng(0)
    items = rng.zipf(1.6, 400).clip(max=30) - 1
    table = log(items.tolist(), list(range(400)))
    found = measure_drift(table, 40, n_windows=2, n_shuffles=0).changes[0].rank_correlation
    first, second = (np.bincount(half, minlength=40) for half in (items[:200], items[200:]))
    active = first + second > 0
    assert found == pytest.approx(spearmanr(first[active], second[active]).statistic, abs=1e-12)


def zipf_log(*, turnover: bool) -> pl.DataFrame:
    """2,000 rows over 50 items; with turnover the ranks are turned round half way."""
    rng = np.random.default_rng(0)
    p = 1 / np.arange(1, 51)
    items = rng.choice(50, 2_000, p=p / p.sum())
    if turnover:
        items[1_000:] = 49 - items[1_000:]
    return log(items.tolist(), list(range(2_000)))


def test_a_log_without_drift_lies_at_the_yardstick():
    change = measure_drift(zipf_log(turnover=False), 50, n_windows=2, n_shuffles=30).changes[0]
    # one split of 1,000 rows moves a jaccard of ten items by an item or two: 0.2 apart
    assert change.jaccard == pytest.approx(change.jaccard_without_drift, abs=0.2)
    # a share of 1,000 rows has a standard error of 0.015
    assert change.previous_head_share == pytest.approx(change.previous_head_share_without_drift, abs=0.06)
    assert change.rank_correlation == pytest.approx(change.rank_correlation_without_drift, abs=0.2)


def test_a_log_whose_bestsellers_change_falls_below_the_yardstick():
    change = measure_drift(zipf_log(turnover=True), 50, n_windows=2).changes[0]
    assert change.jaccard < 0.1
    assert change.jaccard_without_drift > 0.6
    assert change.rank_correlation < 0
    assert change.rank_correlation_without_drift > 0.5
    assert change.previous_head_share < 0.3 < change.previous_head_share_without_drift


def test_the_same_seed_gives_the_same_yardstick():
    table = zipf_log(turnover=False)
    assert measure_drift(table, 50, seed=3).as_dict() == measure_drift(table, 50, seed=3).as_dict()


def test_the_order_of_rows_does_not_matter_to_windows():
    table = zipf_log(turnover=True)
    found = [
        measure_drift(t, 50, n_shuffles=0) for t in (table, table.sample(fraction=1.0, shuffle=True, seed=0))
    ]
    assert found[0] == found[1]


def test_the_object_is_ready_for_json():
    drift = measure_drift(zipf_log(turnover=False), 50).as_dict()
    assert json.loads(json.dumps(drift)) == json.loads(json.dumps(drift, default=list))
    assert drift["cut"] == "equal-counts"
    assert len(drift["windows"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_windows": 1}, r"n_windows must be a whole number in 2\.\.1000; got 1"),
        ({"n_shuffles": -1}, r"n_shuffles must be a whole number in 0\.\.1000; got -1"),
        ({"cut": "monthly"}, "cut must be 'equal-counts' or 'equal-length'; got 'monthly'"),
        ({"head_share": 20}, r"head_share must be a fraction in \(0, 1\); got 20"),
    ],
)
def test_arguments_out_of_range_are_refused_by_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        measure_drift(zipf_log(turnover=False), 50, **arguments)


def test_windows_without_a_row_are_refused_by_number():
    with pytest.raises(DataError, match=r"n_windows=3 windows; got none in window 1 .*'equal-length'"):
        measure_drift(log([0, 1, 0], [0, 1, 100]), 2, n_windows=3, cut="equal-length")
    with pytest.raises(DataError, match=r"n_windows=2 windows; got none in window 0 \(1 distinct times"):
        measure_drift(log([0, 1, 0], [7, 7, 7]), 2, n_windows=2)
    with pytest.raises(DataError, match="got 0 rows"):
        measure_drift(log([], []), 2)


def test_missing_times_are_refused():
    with pytest.raises(DataError, match="'timestamp'"):
        measure_drift(pl.DataFrame({"item_index": [0, 1]}), 2)
    with pytest.raises(DataError, match="'timestamp'"):
        measure_drift(pl.DataFrame({"item_index": [0, 1], "timestamp": [1, None]}), 2)
