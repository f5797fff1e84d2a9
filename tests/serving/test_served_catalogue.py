"""Items, their properties, their users' histories, the most popular of them."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import DataError
from tailwise.serving import Filters, KnownHistories, ServedCatalogue
from tailwise.serving._popular import PopularItems
from tests.serving.engines import IDS, N_ITEMS, catalogue


def small(**columns) -> ServedCatalogue:
    return ServedCatalogue(["a", "b", "c"], ["A", "B", "C"], [3, 0, 1], ["head", "cold", "tail"], **columns)


def test_an_item_is_found_by_its_id_and_an_unknown_one_is_none():
    assert [catalogue().index_of(item_id) for item_id in ("i0", "i39", "i40")] == [0, 39, None]


def test_an_item_without_a_property_fails_a_condition_on_it():
    items = small(categories=["x", None, "y"], prices=[1.0, None, float("nan")])
    assert items.mask(Filters()).tolist() == [True, True, True]
    assert items.mask(Filters(categories=frozenset("xy"))).tolist() == [True, False, True]
    assert items.mask(Filters(min_price=0.0)).tolist() == [True, False, False]
    assert items.mask(Filters(brands=frozenset("b"))).tolist() == [False, False, False]
    assert items.property_of(0, "price") == 1.0
    assert items.property_of(2, "price") is items.property_of(0, "brand") is None


def test_what_is_not_known_to_be_out_of_stock_counts_as_in_stock():
    in_stock = Filters(in_stock=True)
    assert small().mask(in_stock).tolist() == [True, True, True]
    assert small(in_stock=[True, None, False]).mask(in_stock).tolist() == [True, True, False]


def test_prices_at_a_bound_are_within_it():
    assert small(prices=[1, 2, 3]).mask(Filters(min_price=2.0, max_price=2.0)).tolist() == [
        False,
        True,
        False,
    ]


def test_a_mask_is_made_once_and_cannot_be_written_into():
    items, filters = catalogue(), Filters(max_price=9.0)
    assert items.mask(filters) is items.mask(Filters(max_price=9.0))
    for price in range(100):
        items.mask(Filters(min_price=float(price)))
    assert len(items._masks) == 64
    with pytest.raises(ValueError, match="read-only"):
        items.mask(filters)[0] = True


def test_new_properties_replace_those_of_their_items_alone_and_leave_the_old_catalogue_as_it_was():
    old = small(prices=[1, 2, 3], brands=["p", "q", None])
    table = pl.DataFrame({"item_id": ["c", "a"], "price": [9, None], "in_stock": [False, True]})
    new = old.with_properties(table)
    assert [new.property_of(i, "price") for i in range(3)] == [None, 2.0, 9.0]
    assert [new.property_of(i, "in_stock") for i in range(3)] == [True, None, False]
    assert [new.property_of(i, "brand") for i in range(3)] == ["p", "q", None]
    assert [old.property_of(i, "price") for i in range(3)] == [1.0, 2.0, 3.0]
    assert new.item_ids is old.item_ids
    assert old.mask(Filters(in_stock=True)).all()
    assert new.mask(Filters(in_stock=True)).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"item_id": ["a"], "colour": ["red"]}, "columns of a table of properties .* got colour"),
        ({"price": [1.0]}, "got no item_id"),
        ({"item_id": ["zz", "a"], "price": [1.0, 2.0]}, r"1 of 2 rows name items absent .*'zz'"),
        ({"item_id": ["a", "a"], "price": [1.0, 2.0]}, "item_id must be distinct; got 1 repeats"),
        ({"item_id": ["a"], "price": ["cheap"]}, "price must hold Float64 or null; got TypeError: text"),
        ({"item_id": ["a"], "in_stock": ["yes"]}, "in_stock must hold Boolean or null"),
    ],
)
def test_a_table_of_properties_that_does_not_fit_is_refused(table, message):
    with pytest.raises(DataError, match=message):
        small().with_properties(pl.DataFrame(table))


def test_columns_of_another_length_and_items_that_occur_twice_are_refused():
    with pytest.raises(DataError, match=r"price must have one value per item \(3\); got 2"):
        small(prices=[1, 2])
    with pytest.raises(DataError, match="titles must have one value"):
        ServedCatalogue(["a"], [], [1], ["head"])
    with pytest.raises(DataError, match="item_ids must be distinct; got 1 repeats among 2"):
        ServedCatalogue(["a", "a"], ["A", "A"], [1, 1], ["head", "head"])
    with pytest.raises(DataError, match="counts must be >= 0; got -1"):
        ServedCatalogue(["a"], ["A"], [-1], ["head"])


users = st.dictionaries(st.text(max_size=6), st.lists(st.integers(0, 99), max_size=5), max_size=20)


@given(users, st.text(max_size=6))
def test_every_user_has_their_own_history_and_nobody_else_has_one(histories, stranger):
    known = KnownHistories.from_histories(list(histories), list(histories.values()))
    assert known.n_users == len(histories)
    for user, items in histories.items():
        assert known.of(user).tolist() == items
    if stranger not in histories:
        assert known.of(stranger) is None


def test_an_id_that_is_no_valid_text_is_only_unknown():
    assert KnownHistories(["a"], [0, 1], [1]).of("\ud800") is None


def test_a_user_costs_twenty_bytes_their_id_and_four_bytes_an_item():
    n = 1000
    known = KnownHistories.from_histories([f"user-{i:05d}" for i in range(n)], [[i, i] for i in range(n)])
    assert known.nbytes == n * (20 + 10 + 8) + 8  # one offset more than users


def test_histories_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="user_ids must be distinct; got 1 repeats among 2"):
        KnownHistories(["a", "a"], [0, 1, 2], [1, 2])
    for offsets in ([0, 1], [0, 2, 1], [0, 1, 3], [1, 1, 2]):
        with pytest.raises(DataError, match="offsets must be"):
            KnownHistories(["a", "b"], offsets, [1, 2])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=900), st.integers(1, 50), st.integers(0, 99))
def test_the_most_popular_allowed_items_are_those_of_one_sort(counts, k, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(len(counts)) < rng.random()
    without = set(rng.integers(0, len(counts), 30).tolist())
    allowed = [i for i in range(len(counts)) if mask[i] and i not in without]
    expected = sorted(allowed, key=lambda i: (-counts[i], i))[:k]
    assert PopularItems(counts).best(k, without=without, mask=mask) == expected
    assert PopularItems(counts).best(1) == [int(np.argmax(counts))]


@pytest.mark.parametrize("every", [1, 3, 10])
def test_rare_allowed_items_are_all_found_however_far_down(every):
    counts = -np.arange(3000)  # already in order
    mask = np.arange(3000) % every == 0
    assert PopularItems(counts).best(3000, mask=mask) == list(range(0, 3000, every))
    assert PopularItems(counts).best(300, mask=mask) == list(range(0, 300 * every, every))


def test_the_builder_s_catalogue_has_what_its_arrays_say():
    assert catalogue().n_items == N_ITEMS
    assert catalogue().item_ids == tuple(IDS)
