"""Neglected items: shown less than their share of the interactions."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.diagnosis._neglect import count_slots, neglected_items
from tailwise.errors import DataError
from tailwise.segments import segment_items


def test_expected_slots_worked_by_hand() -> None:
    found = neglected_items(segment_items([6, 3, 1]), [20, 0, 0]).sort("item_index")
    assert found["expected_slots"].to_list() == pytest.approx([12, 6, 2])
    assert found["shown_ratio"].to_list() == pytest.approx([20 / 12, 0, 0])
    # Exact upper Poisson limit of nothing seen: -ln(0.025) = 3.689
    assert found["shown_ratio_high"].to_list()[1:] == pytest.approx([3.6889 / 6, 3.6889 / 2], abs=1e-4)


def test_what_is_surely_hidden_comes_before_what_is_hardly_expected() -> None:
    found = neglected_items(segment_items([50, 40, 1, 9]), [95, 0, 0, 5])
    assert found["item_index"].to_list() == [1, 3, 0, 2]


def test_items_without_interactions_are_not_listed() -> None:
    assert 2 not in neglected_items(segment_items([5, 1, 0]), [1, 1, 1])["item_index"]


def test_equal_counts_share_a_popularity_rank() -> None:
    found = neglected_items(segment_items([9, 4, 4, 1]), [1, 1, 1, 1]).sort("item_index")
    assert found["popularity_rank"].to_list() == [1, 2, 2, 4]


@given(
    counts=st.lists(st.integers(1, 50), min_size=2, max_size=30),
    slots=st.lists(st.integers(0, 50), min_size=30, max_size=30),
)
def test_expected_slots_add_up_to_the_slots(counts: list[int], slots: list[int]) -> None:
    shown = np.array(slots[: len(counts)])
    if not shown.sum():
        shown[0] = 1
    found = neglected_items(segment_items(counts), shown)
    assert found["expected_slots"].sum() == pytest.approx(shown.sum())
    assert (found["shown_ratio"] <= found["shown_ratio_high"]).all()
    assert found["shown_ratio_high"].is_sorted()


def test_slots_are_counted_in_the_first_k_of_lists_of_any_length() -> None:
    lists = pl.Series([[0, 1, 2], [1], []], dtype=pl.List(pl.Int32))
    assert count_slots(lists, n_items=4, k=2).tolist() == [1, 2, 0, 0]


@pytest.mark.parametrize(("slots", "named"), [([1, 2], r"\(2,\)"), ([1, -1, 0], "-1")])
def test_slots_of_another_catalogue_are_refused(slots: list[int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        neglected_items(segment_items([3, 2, 1]), slots)


def test_empty_lists_are_refused() -> None:
    with pytest.raises(DataError, match="none"):
        neglected_items(segment_items([3, 2, 1]), [0, 0, 0])
