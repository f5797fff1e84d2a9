import numpy as np
import pytest
from scipy import stats

from tailwise.errors import DataError
from tailwise.evaluation import compare, compare_revenue, compare_sell_through
from tailwise.segments import segment_items

from .builders import hits_and_misses, rank

TWO_ITEMS = segment_items(np.array([2, 1]), head_share=0.5)


def test_revenue_captured_worked_by_hand():
    # ten times three buyers: 60 of 100 before, 90 of 100 after
    users = np.arange(30)
    found = compare_revenue(
        hits_and_misses(users, [1, 0, 0] * 10),
        hits_and_misses(users, [1, 1, 0] * 10),
        [60.0, 30.0, 10.0] * 10,
        TWO_ITEMS,
        k=1,
    )
    assert (found.baseline.value, found.value.value) == pytest.approx((0.6, 0.9))
    assert found.difference.value == pytest.approx(0.3)
    assert (found.total, found.n_units, found.n_seeds) == (1000.0, 30, 1)
    # residuals of the difference, money · (d - θ): -18, 21, -3, ten times; · 30/29 / 1000²
    error = np.sqrt(10 * (18**2 + 21**2 + 3**2) * 30 / 29) / 1000
    assert found.difference.high == pytest.approx(0.3 + stats.t.ppf(0.975, 29) * error)


def test_interval_of_a_share_stays_within_what_is_possible():
    found = compare_revenue(
        hits_and_misses([0, 1, 2], [1, 0, 0]),
        hits_and_misses([0, 1, 2], [1, 1, 0]),
        [6, 3, 1],
        TWO_ITEMS,
        k=1,
    )
    assert (found.value.high, found.baseline.low, found.difference.low) == (1.0, 0.0, -1.0)


def test_equal_revenue_gives_recall():
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(20), 2)
    left, right = (hits_and_misses(users, rng.random(40) < p) for p in (0.3, 0.6))
    money = compare_revenue(left, right, np.full(40, 7.0), TWO_ITEMS, k=1)
    recall = compare(left, right, TWO_ITEMS, metric="recall", k=1)
    assert (money.value.value, money.difference.value) == pytest.approx((recall.value, recall.difference))
    assert money.difference.low == pytest.approx(recall.low)


def test_targets_without_known_revenue_are_left_out_and_counted():
    sides = (hits_and_misses([0, 1, 2], [1, 0, 0]), hits_and_misses([0, 1, 2], [1, 1, 0]))
    found = compare_revenue(*sides, [5.0, np.nan, 5.0], TWO_ITEMS, k=1)
    assert (found.value.value, found.n_without_revenue, found.n_units) == (0.5, 1, 2)


def test_segment_without_revenue_has_no_share():
    sides = (hits_and_misses([0, 1], [1, 0]),) * 2
    found = compare_revenue(*sides, [5.0, 5.0], TWO_ITEMS, k=1, segment="tail")
    assert (found.value.value, found.difference.value, found.total) == (None, None, 0.0)


def test_tie_earns_its_chance_of_the_money():
    tied = rank([[1, 1]], [[0]])  # one of two places
    found = compare_revenue(tied, tied, [8.0], TWO_ITEMS, k=1)
    assert (found.value.value, found.value.low) == (0.5, None)


def test_item_that_one_of_its_buyers_finds_counts_once():
    # item 0 has three buyers; two find it, or all: sold either way
    some, every = hits_and_misses([0, 1, 2], [1, 1, 0]), hits_and_misses([0, 1, 2], [1, 1, 1])
    found = compare_sell_through(some, every, TWO_ITEMS, k=1)
    assert (found.baseline.value, found.value.value, found.total) == (1.0, 1.0, 1.0)
    none = hits_and_misses([0, 1, 2], [0, 0, 0])
    assert compare_sell_through(none, every, TWO_ITEMS, k=1).difference.value == 1.0


def test_two_tied_buyers_sell_an_item_with_three_quarters():
    tied = rank([[1, 1], [1, 1]], [[0], [0]])
    assert compare_sell_through(tied, tied, TWO_ITEMS, k=1).value.value == 0.75


def test_sell_through_averages_items_not_targets():
    # item 0, bought by two, is found by both; item 1, bought by one, is not
    left = rank([[2, 1], [2, 1], [2, 1]], [[0], [0], [1]])
    found = compare_sell_through(left, left, TWO_ITEMS, k=1)
    assert (found.value.value, found.n_units) == (0.5, 2)
    assert compare_sell_through(left, left, TWO_ITEMS, k=1, segment="tail").value.value == 0.0


def test_what_cannot_be_counted_is_named():
    sides = (hits_and_misses([0, 1], [1, 0]),) * 2
    with pytest.raises(ValueError, match=r"revenue must hold one number per target, \[2\]; got shape \(3,\)"):
        compare_revenue(*sides, [1.0, 2.0, 3.0], TWO_ITEMS)
    with pytest.raises(DataError, match=r"revenue must be >= 0 or NaN; got 1 of 2 below zero \(lowest: -3\)"):
        compare_revenue(*sides, [1.0, -3.0], TWO_ITEMS)
    with pytest.raises(ValueError, match="as many seeds; got 1 and 2"):
        compare_sell_through(sides[0], list(sides), TWO_ITEMS)
    with pytest.raises(ValueError, match="segment must be one of overall, head, tail, cold; got 'mid'"):
        compare_sell_through(*sides, TWO_ITEMS, segment="mid")


def test_interval_of_the_difference_in_revenue_covers_with_unequal_buyers():
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(300):
        money = rng.lognormal(2, 1, 200)
        luck = rng.random(200)
        sides = [
            [hits_and_misses(np.arange(200), luck + rng.normal(0, 0.1, 200) < 0.3) for _ in range(3)]
            for _ in range(2)
        ]
        found = compare_revenue(*sides, money, TWO_ITEMS, k=1).difference
        covered.append(found.low <= 0 <= found.high)
    # Binomial(300, .95): standard deviation 0.0126; noise in users dominates, so it errs on the wide side
    assert np.mean(covered) >= 0.912
