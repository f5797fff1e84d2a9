import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from tailwise.diagnosis import segments_by_column
from tailwise.diagnosis._column import exact_binomial
from tailwise.errors import DataError
from tailwise.segments import segment_items

#                      A  A  A  B  B  C  -
COUNTS = np.array([9, 8, 1, 2, 1, 0, 1])
BRANDS = ["A", "A", "A", "B", "B", "C", None]


def segments():
    return segment_items(COUNTS, "absolute-counts", thresholds=[5])  # two head, four tail, one cold


def rows_of(found) -> dict[str, dict]:
    return {row["value"]: row for row in found.table.to_dicts()}


def test_shares_and_ratios_of_a_brand_are_as_worked_by_hand():
    brand = rows_of(segments_by_column(BRANDS, segments(), column="brand", min_items=1))["A"]
    assert (brand["kind"], brand["n_values"], brand["n_items"], brand["n_interactions"]) == (
        "value",
        1,
        3,
        18,
    )
    assert brand["item_share"] == pytest.approx(3 / 7)
    assert brand["interaction_share"] == pytest.approx(18 / 22)
    # ranks: 9 -> 1, 8 -> 2, 2 -> 3, three ones -> 5, none -> 7
    assert brand["mean_popularity_rank"] == pytest.approx((1 + 2 + 5) / 3)
    assert (brand["head_share"], brand["tail_share"], brand["cold_share"]) == pytest.approx((2 / 3, 1 / 3, 0))
    assert brand["tail_ratio"] == pytest.approx((1 / 3) / (4 / 6))  # four of the six trained items are tail
    assert brand["head_ratio"] == pytest.approx((2 / 3) / (2 / 6))
    assert brand["cold_ratio"] == 0.0


def test_ratios_over_trained_items_are_unknown_for_a_brand_that_is_all_cold():
    brand = rows_of(segments_by_column(BRANDS, segments(), min_items=1))["C"]
    assert brand["tail_ratio"] is None
    assert brand["tail_ratio_low"] is None
    assert brand["cold_ratio"] == pytest.approx(7.0)  # one of seven items is cold


def test_missing_values_and_pooled_ones_have_rows_of_their_own_at_the_end():
    found = segments_by_column(BRANDS, segments(), min_items=3)
    assert found.table.select("value", "kind", "n_values", "n_items").rows() == [
        ("A", "value", 1, 3),
        ("other", "other", 2, 3),
        ("missing", "missing", 0, 1),
    ]
    assert (found.min_items, found.is_partition, found.level) == (3, True, 0.95)


def test_brands_that_are_called_other_and_missing_stay_apart_from_the_pooled_and_the_missing():
    found = segments_by_column(["other"] * 3 + ["missing"] * 2 + ["x", None], segments(), min_items=2)
    assert found.table.select("value", "kind", "n_items").rows() == [
        ("other", "value", 3),
        ("missing", "value", 2),
        ("other", "other", 1),
        ("missing", "missing", 1),
    ]


def test_blank_values_are_missing():
    found = segments_by_column(["A", " ", "", None, "A ", "A", "A"], segments(), min_items=1)
    assert found.table.select("value", "n_items").rows() == [("A", 4), ("missing", 3)]


def test_only_the_largest_values_have_rows_of_their_own():
    found = segments_by_column(BRANDS, segments(), min_items=1, max_values=1)
    assert found.table["value"].to_list() == ["A", "other", "missing"]


def test_an_item_of_two_values_counts_in_full_for_both():
    genres = ["War|Drama", "War", "Drama", "War| Drama|War", None, "|", "Drama"]
    found = segments_by_column(genres, segments(), separator="|", min_items=1)
    rows = rows_of(found)
    assert rows["War"]["n_items"] == 3
    assert rows["Drama"]["n_items"] == 4
    assert rows["War"]["n_interactions"] == 9 + 8 + 2
    assert rows["missing"]["n_items"] == 2  # no value, and a separator alone
    assert not found.is_partition


def test_an_item_of_two_pooled_values_is_pooled_once():
    found = segments_by_column(["x|y", "x", "A", "A", "A", "A", "A"], segments(), separator="|", min_items=3)
    other = rows_of(found)["other"]
    assert (other["n_values"], other["n_items"], other["n_interactions"]) == (2, 2, 17)


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.sampled_from(["A", "B", "C", "D", None])), min_size=2, max_size=60
    ).filter(lambda pairs: any(n for n, _ in pairs) and any(v for _, v in pairs)),
    st.integers(1, 5),
)
@settings(deadline=None)
def test_rows_partition_items_interactions_and_segments(pairs, min_items):
    cut = segment_items(np.array([n for n, _ in pairs]), "quantiles", n_groups=3)
    table = segments_by_column([v for _, v in pairs], cut, min_items=min_items).table
    assert table["n_items"].sum() == len(pairs)
    assert table["n_interactions"].sum() == cut.counts.sum()
    for name in cut.names:  # head, mid, tail, cold
        in_rows = (table[f"{name}_share"] * table["n_items"]).sum()
        assert in_rows == pytest.approx(cut.n_items_in(name), abs=1e-9)  # shares of at most 60 items
    assert table.filter(kind="value")["n_items"].to_list() == sorted(
        table.filter(kind="value")["n_items"], reverse=True
    )
    weighted = (table["mean_popularity_rank"] * table["n_items"]).sum() / len(pairs)
    assert weighted == pytest.approx((len(pairs) + 1) / 2)  # ranks 1..n, whatever the ties
    for low, ratio, high in table.select("tail_ratio_low", "tail_ratio", "tail_ratio_high").rows():
        assert ratio is None or low <= ratio + 1e-12 <= high + 2e-12


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (2, 7), (300, 1000)])
def test_intervals_are_scipys_exact_ones(hits, n):
    low, high = exact_binomial(np.array([hits]), np.array([n]), 0.95)
    expected = binomtest(hits, n).proportion_ci(0.95, method="exact")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-9)  # both to rounding


def test_a_brand_planted_in_the_tail_is_found_and_random_ones_are_not():
    rng = np.random.default_rng(0)
    counts = rng.zipf(1.8, 1_000).clip(max=10_000)
    brands = rng.choice(["A", "B", "C"], 1_000).astype(object)
    brands[(counts <= 1) & (rng.random(1_000) < 0.5)] = "rare"
    rows = rows_of(segments_by_column(list(brands), segment_items(counts), simultaneous=True))
    assert rows["rare"]["tail_ratio_low"] > 1
    assert rows["rare"]["head_ratio_high"] < 1
    cut = segment_items(counts)
    plain = segments_by_column(rng.choice(["A", "B", "C"], 1_000), cut, simultaneous=True)
    assert plain.level == pytest.approx(1 - 0.05 / 3)
    for row in plain.table.to_dicts():
        assert row["tail_ratio_low"] < 1 < row["tail_ratio_high"]


def test_simultaneous_intervals_are_wider():
    alone, together = (
        segments_by_column(BRANDS, segments(), simultaneous=s, min_items=1) for s in (False, True)
    )
    assert together.table["tail_ratio_high"][0] > alone.table["tail_ratio_high"][0]


def test_whole_numbers_and_booleans_are_values_too():
    assert segments_by_column(pl.Series("seller", [3, 3, 3, 7, 7, 7, None]), segments(), min_items=1).table[
        "value"
    ].to_list() == ["3", "7", "missing"]
    found = segments_by_column([True, False, None, True, True, True, True], segments(), min_items=1)
    assert found.table["value"].to_list() == ["true", "false", "missing"]


def test_the_object_is_ready_for_json():
    found = segments_by_column(pl.Series("brand", BRANDS), segments(), min_items=2).as_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["column"] == "brand"
    assert found["segments"]["rule"] == "absolute-counts"


@pytest.mark.parametrize(
    ("values", "arguments", "message"),
    [
        (["A"], {}, "values must have one entry per item, 7; got 1 in column 'column'"),
        ([0.5] * 7, {"column": "price"}, "got Float64 in column 'price'"),
        (BRANDS, {"min_items": 0}, "min_items must be a whole number >= 1; got 0"),
        (BRANDS, {"max_values": 0}, "max_values must be a whole number >= 1; got 0"),
        (BRANDS, {"separator": ""}, "separator must not be empty; got ''"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(values, arguments, message):
    with pytest.raises(ValueError, match=message):
        segments_by_column(values, segments(), **arguments)


def test_a_column_without_values_is_refused():
    with pytest.raises(DataError, match="column 'brand' must have a value for some item; got 7 missing ones"):
        segments_by_column([None] * 7, segments(), column="brand")
