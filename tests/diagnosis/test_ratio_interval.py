import numpy as np
import pytest
from scipy import stats

from tailwise.diagnosis._moments import Linear
from tailwise.diagnosis._ratio_interval import RatioErrors, degrees_of_freedom
from tailwise.diagnosis._uncertain import Uncertain


def errors(variance, with_total, total_variance, freedom=1e9):
    return RatioErrors(
        np.array([variance, total_variance]), np.array([with_total, 0.0]), total_variance, np.full(2, freedom)
    )


def test_without_uncertainty_of_the_total_the_interval_is_students():
    found = errors(0.04, 0.0, 0.0, freedom=5).interval(0, 0.7)
    reach = stats.t.ppf(0.975, 5) * 0.2
    assert (found.low, found.high) == (pytest.approx(0.7 - reach), pytest.approx(0.7 + reach))
    assert errors(0.04, 0.0, 0.0, freedom=5).reach(0) == pytest.approx(reach)


def test_interval_holds_the_ratios_that_make_the_difference_zero():
    # Numerator 2 ± 0.3 over denominator 1 ± 0.2, independent: the ratio's variance is
    # 0.09 + 4 · 0.04, its covariance with the denominator −2 · 0.04.
    found = errors(0.09 + 4 * 0.04, -2 * 0.04, 0.04).interval(0, 2.0)
    for end in (found.low, found.high):
        # At either end, 2 − end · 1 is 1.96 of its own standard errors.
        assert abs(2 - end) == pytest.approx(1.959964 * np.sqrt(0.09 + end**2 * 0.04), rel=1e-6)
    assert found.high - 2 > 2 - found.low > 0  # a small denominator makes ratios very large


def test_ratio_of_normal_numbers_is_covered_95_times_in_100_and_from_both_sides():
    rng = np.random.default_rng(0)
    n, truth = 4000, 1.5
    above, below = truth + 0.1 * rng.standard_normal(n), 1 + 0.2 * rng.standard_normal(n)
    n_low = n_high = 0
    for a, b in zip(above, below, strict=True):
        r = a / b
        with_total, total = -r * 0.04 / b**2, 0.04 / b**2
        found = errors(0.01 / b**2 + r**2 * total, with_total, total).interval(0, r)
        n_low += found.high is not None and found.high < truth
        n_high += found.low is not None and found.low > truth
    # Three binomial deviations of 2.5 % of 4,000; value ± 1.96 errors misses 7 % below, and 0.2 % above.
    assert abs(n_low / n - 0.025) < 0.0075
    assert abs(n_high / n - 0.025) < 0.0075


def test_total_that_may_be_zero_leaves_no_interval():
    assert errors(0.04, 0.0, 0.3).interval(0, 0.7) == Uncertain(0.7)  # 1.96² · 0.3 > 1


@pytest.mark.parametrize("n", [5, 40])
def test_equal_contributions_have_as_many_degrees_of_freedom_as_groups(n):
    assert degrees_of_freedom(np.ones((n, 1))) == pytest.approx(n)


def test_degrees_of_freedom_give_the_variance_that_the_variance_has():
    rng = np.random.default_rng(1)
    draws = rng.standard_normal((2000, 200)) * np.arange(1, 201.0) ** -0.3
    sums = (draws**2).sum(axis=1)
    expected = 2 * sums.mean() ** 2 / sums.var()
    assert expected < 100  # not the 200 of equal ones
    # Fourth powers are estimated from the sample, which lacks its own largest: some 15 % too many.
    assert np.median(degrees_of_freedom(draws.T)) == pytest.approx(expected, rel=0.25)


def linear(n_targets=200, n_users=40, n_items=50, twice=0.0):
    rng = np.random.default_rng(2)
    users, items = rng.integers(0, n_users, n_targets), rng.integers(0, n_items, n_targets)
    users[:n_users], items[:n_items] = np.arange(n_users), np.arange(n_items)
    by_target = rng.standard_normal((n_targets, 2)) / n_targets
    by_item = np.stack([np.bincount(items, column) for column in by_target.T], axis=1)
    return Linear(np.ones(2), by_target, by_item, twice * np.eye(2)), users, items


def test_what_is_counted_twice_is_taken_off_but_never_more_than_half():
    it, users, items = linear()
    plain = RatioErrors.measure(it, np.eye(2), 1.0, users, items)
    less = linear(twice=0.1 * plain.variance[0])[0]
    some = RatioErrors.measure(less, np.eye(2), 1.0, users, items)
    assert some.variance[0] == pytest.approx(0.9 * plain.variance[0])
    assert some.freedom[0] == pytest.approx(0.81 * plain.freedom[0])
    most = RatioErrors.measure(linear(twice=9.0)[0], np.eye(2), 1.0, users, items)
    assert most.variance == pytest.approx(plain.variance / 2)


def test_freedom_is_that_of_the_scarcer_of_users_and_items():
    it, users, items = linear(n_users=4)
    assert RatioErrors.measure(it, np.eye(2), 1.0, users, items).freedom.max() <= 4
