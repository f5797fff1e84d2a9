import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import DataError
from tailwise.evaluation import Rankings, exposure_by_column
from tailwise.segments import popularity, segment_items

from .builders import rank

# Brands A A B B C and an item without one; interactions 6 2 1 1 0 0.
COUNTS = np.array([6, 2, 1, 1, 0, 0])
BRANDS = ["A", "A", "B", "B", "C", None]
SEGMENTS = segment_items(COUNTS, head_share=0.25)


def lists_of(*lists, n_items=6, list_length=4, first_user=0):
    users = np.arange(first_user, first_user + len(lists))
    targets = pl.DataFrame(schema=["user_index", "item_index", "n_better", "n_tied"])
    table = pl.DataFrame({"user_index": users, "items": pl.Series(lists, dtype=pl.List(pl.Int32))})
    return Rankings(targets, table, n_items=n_items, list_length=list_length)


def rows(found):
    return {row["value"]: row for row in found.table.to_dicts()}


def training_of(counts):
    """A training table with these counts: interaction j belongs to user j modulo 4."""
    items = np.repeat(np.arange(len(counts)), counts)
    return pl.DataFrame({"user_index": np.arange(items.size) % 4, "item_index": items})


def test_shares_and_ratio_are_those_counted_by_hand():
    found = exposure_by_column(
        lists_of([0, 2], [0, 4], [5]), BRANDS, SEGMENTS, k=2, column="brand", min_items=1, n_resamples=20
    )
    a, b, c, none = (rows(found)[value] for value in ("A", "B", "C", "missing"))
    assert [row["slot_share"] for row in (a, b, c, none)] == [2 / 5, 1 / 5, 1 / 5, 1 / 5]
    assert [row["item_share"] for row in (a, b, c, none)] == [1 / 3, 1 / 3, 1 / 6, 1 / 6]
    assert [row["interaction_share"] for row in (a, b, c, none)] == [0.8, 0.2, 0, 0]
    assert [row["exposure_ratio"] for row in (a, b, c, none)] == [pytest.approx(0.5), 1.0, None, None]
    assert (a["n_slots"], a["n_interactions"], a["n_items"], found.n_slots, found.n_users) == (2, 8, 2, 5, 3)
    assert found.table["kind"].to_list() == ["value", "value", "value", "missing"]


def test_slots_beyond_k_do_not_count():
    found = exposure_by_column(lists_of([0, 2, 4]), BRANDS, SEGMENTS, k=1, column="b", min_items=1)
    assert rows(found)["A"]["slot_share"] == 1.0
    assert found.n_slots == 1


def test_small_values_are_pooled_and_told_apart_from_missing_ones():
    found = exposure_by_column(lists_of([4, 5]), BRANDS, SEGMENTS, k=2, column="brand", min_items=2)
    assert found.table.select("value", "kind", "n_values", "slot_share").rows() == [
        ("A", "value", 1, 0.0),
        ("B", "value", 1, 0.0),
        ("other", "other", 1, 0.5),
        ("missing", "missing", 0, 0.5),
    ]
    largest = exposure_by_column(
        lists_of([4, 5]), BRANDS, SEGMENTS, k=2, column="b", min_items=1, max_values=1
    )
    assert largest.table.select("value", "n_values", "n_items").rows()[1] == ("other", 2, 3)


def test_an_item_of_several_values_counts_in_full_for_each():
    genres = ["Action|Drama", "Drama", " Drama | Action ", "War", "", "|"]
    found = exposure_by_column(
        lists_of([0, 1]), genres, SEGMENTS, k=2, column="genre", separator="|", min_items=1
    )
    by_value = rows(found)
    assert by_value["Action"]["slot_share"] == 0.5
    assert by_value["Drama"]["slot_share"] == 1.0
    assert by_value["Drama"]["interaction_share"] == pytest.approx(0.9)
    assert by_value["missing"]["n_items"] == 2
    assert not found.is_partition


def test_an_item_of_two_pooled_values_is_one_item_of_other():
    genres = ["Action|War", "Drama", "Drama", "Drama", "Drama", "Drama"]
    found = exposure_by_column(
        lists_of([0, 1]), genres, SEGMENTS, k=2, column="genre", separator="|", min_items=2
    )
    other = rows(found)["other"]
    assert (other["n_values"], other["n_items"], other["slot_share"]) == (2, 1, 0.5)
    assert other["interaction_share"] == pytest.approx(0.6)


def test_the_value_with_two_seeds_is_their_mean():
    seeds = [lists_of([0, 2], [0, 4]), lists_of([0, 1], [2, 3])]
    found = exposure_by_column(seeds, BRANDS, SEGMENTS, k=2, column="brand", min_items=1)
    assert rows(found)["A"]["slot_share"] == (2 / 4 + 2 / 4) / 2
    assert rows(found)["B"]["n_slots"] == 1.5


def test_numbers_and_booleans_are_values_and_floats_are_refused():
    found = exposure_by_column(
        lists_of([0]), pl.Series("shop", [1, 1, 2, 2, 2, 1]), SEGMENTS, k=1, min_items=1
    )
    assert found.column == "shop"
    assert rows(found)["1"]["slot_share"] == 1.0
    with pytest.raises(ValueError, match=r"values must be texts, .*got Float64 in column 'price'"):
        exposure_by_column(lists_of([0]), pl.Series("price", [0.5] * 6), SEGMENTS, k=1)


def test_users_of_the_log_without_a_list_bring_their_interactions_to_the_interval():
    training = training_of(COUNTS)
    found = exposure_by_column(
        lists_of([0, 2], [2, 0], first_user=1),
        BRANDS,
        SEGMENTS,
        k=2,
        training=training,
        column="b",
        min_items=1,
    )
    row = rows(found)["A"]
    assert row["interaction_share"] == 0.8
    assert row["exposure_ratio"] == pytest.approx(0.5 / 0.8)
    assert found.resamples_interactions
    assert row["exposure_ratio_low"] < row["exposure_ratio_high"]  # lists are alike, interactions are not


def test_with_training_rows_a_user_brings_list_and_interactions_to_a_resample_together():
    # Half of the users like A and are shown A, the others B: whoever is drawn, the ratio is 1.
    counts = np.array([8, 8, 8, 8, 0, 0])
    training = pl.DataFrame(
        {"user_index": np.repeat(np.arange(8), 4), "item_index": [0, 1, 0, 1, 2, 3, 2, 3] * 4}
    )
    rankings = lists_of(*[[0, 1], [2, 3]] * 4)
    fitting = {"k": 2, "column": "b", "min_items": 1}
    segments = segment_items(counts)
    together = rows(exposure_by_column(rankings, BRANDS, segments, training=training, **fitting))["A"]
    assert together["exposure_ratio_low"] == together["exposure_ratio_high"] == 1.0
    apart = rows(exposure_by_column(rankings, BRANDS, segments, **fitting))["A"]
    assert apart["exposure_ratio"] == 1.0
    assert apart["exposure_ratio_low"] < 0.6
    assert apart["exposure_ratio_high"] > 1.4
    assert apart["slot_share_low"] == together["slot_share_low"]


def test_the_ratio_of_users_who_are_all_alike_has_an_interval_of_no_width():
    counts = np.array([8, 8, 4, 4, 0, 0])
    items = np.tile([0, 0, 1, 1, 2, 3], 4)
    training = pl.DataFrame({"user_index": np.repeat(np.arange(4), 6), "item_index": items})
    found = exposure_by_column(
        lists_of(*[[0, 2]] * 4),
        BRANDS,
        segment_items(counts),
        k=2,
        training=training,
        column="b",
        min_items=1,
    )
    row = rows(found)["A"]
    assert row["exposure_ratio"] == row["exposure_ratio_low"] == row["exposure_ratio_high"] == 0.75


def test_one_user_alone_has_no_interval():
    row = rows(exposure_by_column(lists_of([0, 2]), BRANDS, SEGMENTS, k=2, column="b", min_items=1))["A"]
    assert row["slot_share"] == 0.5
    assert row["slot_share_low"] is row["exposure_ratio_high"] is None


def simulated(rng, n_users):
    """Users of very different tastes: two brands, lists and interactions drawn from each user's share."""
    share = rng.beta(0.5, 1.5, n_users)
    items = (rng.random((n_users, 6)) < share[:, None]).astype(int)
    lists = (rng.random((n_users, 4)) < 0.5 * share[:, None]).astype(int)
    training = pl.DataFrame({"user_index": np.repeat(np.arange(n_users), 6), "item_index": items.ravel()})
    # Items 0, 2, 4, 6 are brand A, the odd ones B, so that a list need not repeat an item.
    shown = [(2 * np.arange(4) + row).tolist() for row in lists]
    return training, lists_of(*shown, n_items=8, list_length=4)


def test_intervals_of_the_ratio_cover_the_ratio_of_other_users():
    rng = np.random.default_rng(0)
    n, covered = 150, 0
    for _ in range(n):
        training, rankings = simulated(rng, 80)
        segments = segment_items(popularity(training, 8))
        found = exposure_by_column(
            rankings,
            ["A", "B"] * 4,
            segments,
            k=4,
            training=training,
            column="b",
            min_items=1,
            n_resamples=200,
        )
        row = rows(found)["B"]
        covered += row["exposure_ratio_low"] <= 0.5 <= row["exposure_ratio_high"]
    # 95 % of 150 is 142.5 with a standard deviation of 2.7; percentile intervals run a little short
    assert covered >= 133


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.booleans())
@settings(max_examples=25, deadline=None)
def test_shares_follow_the_slow_reference_and_add_up(seed, k, with_training):
    rng = np.random.default_rng(seed)
    counts = np.append(rng.integers(0, 5, 11), 1)
    brands = [str(b) if b else None for b in rng.integers(0, 4, 12)]
    brands[0] = "1"
    rankings = rank(rng.integers(0, 3, (7, 12)), [[]] * 7, histories=[[1]] * 7, list_length=6)
    found = exposure_by_column(
        rankings,
        brands,
        segment_items(counts),
        k=k,
        training=training_of(counts) if with_training else None,
        column="b",
        min_items=1,
        n_resamples=10,
    )
    for row in found.table.to_dicts():
        own = [i for i in range(12) if (brands[i] or "missing") == row["value"]]
        shown = [i for items in rankings.lists["items"] for i in items.to_list()[:k]]
        assert row["n_slots"] == sum(i in own for i in shown)
        assert row["slot_share"] == pytest.approx(row["n_slots"] / len(shown))
        assert row["interaction_share"] == pytest.approx(counts[own].sum() / counts.sum())
        if row["slot_share_low"] is not None:
            assert row["slot_share_low"] <= row["slot_share_high"]
    for share in ("slot_share", "item_share", "interaction_share"):
        assert found.table[share].sum() == pytest.approx(1)


def test_the_result_is_json():
    found = exposure_by_column(lists_of([0, 2], [3]), BRANDS, SEGMENTS, k=2, column="brand", min_items=1)
    told = json.loads(json.dumps(found.as_dict()))
    assert told["column"] == "brand"
    assert [row["value"] for row in told["values"]] == ["A", "B", "C", "missing"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"values": ["A"] * 5}, ValueError, "values must have one entry per item, 6; got 5 in column 'b'"),
        ({"values": [None, ""] * 3}, DataError, "column 'b' must have a value for some item; got 6 missing"),
        ({"k": 5}, ValueError, r"k must lie in 1\.\.4, the stored list length; got \[5\]"),
        ({"min_items": 0}, ValueError, "min_items must be a whole number >= 1; got 0"),
        ({"max_values": 1.5}, ValueError, "max_values must be a whole number >= 1; got 1.5"),
        ({"separator": ""}, ValueError, "separator must not be empty"),
        ({"rankings": lists_of([], [])}, DataError, "must show an item in the first 2 slots; got 2 empty"),
        ({"training": training_of(COUNTS[::-1])}, DataError, "training must hold the rows that the segments"),
        ({"training": training_of(COUNTS).head(5)}, DataError, "counted, 10; got 5"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments, error, message):
    fitting = {"rankings": lists_of([0]), "values": BRANDS, "segments": SEGMENTS, "k": 2, "column": "b"}
    with pytest.raises(error, match=message):
        exposure_by_column(**(fitting | arguments))
