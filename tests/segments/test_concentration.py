import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.segments import concentration, gini

amounts = st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any)


def test_gini_of_equal_amounts_is_zero():
    assert gini([4, 4, 4]) == 0.0


def test_gini_of_one_holder_among_four_is_three_quarters():
    assert gini([0, 0, 7, 0]) == 0.75


def test_gini_of_one_and_three_is_one_quarter():
    # mean absolute difference |1-3| over the 4 ordered pairs = 1; divided by twice the mean 2: 1/4
    assert gini([1, 3]) == 0.25


@given(amounts)
@settings(deadline=None)
def test_gini_is_half_the_relative_mean_absolute_difference(values):
    x = np.array(values, dtype=float)
    expected = np.abs(x[:, None] - x[None, :]).mean() / (2 * x.mean())
    # both sides are sums of at most 1,600 doubles below 50: errors stay far below 1e-12
    assert gini(x) == pytest.approx(expected, abs=1e-12)


@given(amounts)
@settings(deadline=None)
def test_gini_is_one_less_twice_the_area_beneath_the_curve_turned_around(values):
    points = np.array(concentration(np.array(values)).curve)  # every item is a point: 40 items < 200
    area = np.trapezoid(points[:, 1], points[:, 0])
    # the popular-first curve lies above the diagonal by half the Gini; doubles, 41 terms
    assert 2 * area - 1 == pytest.approx(gini(values), abs=1e-12)


def test_top_shares_read_the_curve_and_interpolate_between_items():
    result = concentration(np.array([6, 2, 1, 1, 0]))
    shares = dict(result.top_shares)
    assert shares[0.2] == pytest.approx(0.6)  # one of five items; approx for the binary 0.2
    assert shares[0.1] == pytest.approx(0.3)  # half of the way to it
    assert shares[0.5] == pytest.approx(0.85)  # half of the way from 0.8 to 0.9


def test_curve_of_a_large_catalogue_keeps_both_ends_within_200_points():
    result = concentration(np.arange(50_000))
    assert len(result.curve) <= 200
    assert result.curve[0] == (0.0, 0.0)
    assert result.curve[1][0] == 1 / 50_000  # the steep beginning is not skipped
    assert result.curve[-1] == (1.0, 1.0)


def test_concentration_object_has_the_documented_fields():
    fields = concentration(np.array([3, 1])).as_dict()
    assert fields == {
        "gini": 0.25,
        "curve": [[0.0, 0.0], [0.5, 0.75], [1.0, 1.0]],
        "top_shares": [
            {"item_share": x, "interaction_share": pytest.approx(1.5 * x)}
            for x in (0.01, 0.05, 0.1, 0.2, 0.5)
        ],
    }


def test_gini_of_nothing_is_refused():
    with pytest.raises(ValueError, match="positive sum; got 2 amounts with sum 0"):
        gini([0, 0])
