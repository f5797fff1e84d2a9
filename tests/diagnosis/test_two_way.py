import numpy as np
import pytest

from tailwise.diagnosis._two_way import two_way_variance, two_way_weights
from tailwise.diagnosis._uncertain import Uncertain, shaped_interval


def test_variance_worked_by_hand():
    # Users 0, 0, 1 and items 0, 1, 1: sums by user 3, 3; by item 1, 5; by pair 1, 2, 3.
    slopes = np.array([[1.0], [2.0], [3.0]])
    found = two_way_variance(slopes, np.array([0, 0, 1]), np.array([0, 1, 1]))
    assert found == pytest.approx([(9 + 9) * 2 + (1 + 25) * 2 - (1 + 4 + 9) * 1.5])


def test_mean_of_crossed_effects_is_covered_95_times_in_100():
    rng = np.random.default_rng(0)
    n_covered, n_repeats = 0, 400
    for _ in range(n_repeats):
        users, items = rng.integers(0, 60, 600), rng.integers(0, 80, 600)
        y = 0.3 * rng.standard_normal(60)[users] + 0.3 * rng.standard_normal(80)[items]
        y = y + rng.standard_normal(600)
        slopes = (y - y.mean())[:, None] / 600
        n_covered += abs(y.mean()) < 1.96 * np.sqrt(two_way_variance(slopes, users, items)[0])
    # 95 % ± 3 binomial standard deviations of 1.1 points; the pigeonhole bootstrap alone gives 99.8 %.
    assert 0.917 < n_covered / n_repeats < 0.983


def test_pigeonhole_weights_alone_would_count_the_noise_three_times():
    rng = np.random.default_rng(1)
    users, items = rng.integers(0, 100, 2000), rng.integers(0, 100, 2000)
    y = rng.standard_normal(2000)  # noise alone: neither users nor items differ
    means = [
        np.average(y, weights=a[users] * b[items])
        for a, b in two_way_weights(100, 100, n_resamples=2000, seed=2)
    ]
    once = two_way_variance((y - y.mean())[:, None] / 2000, users, items)[0]
    # Three in expectation over data sets; of this one data set users and items vary by chance.
    assert 2.0 < np.var(means) / once < 4.0


def test_interval_is_as_wide_as_the_error_says_and_as_lopsided_as_the_bootstrap():
    resampled = np.exp(np.random.default_rng(0).standard_normal(4000))
    found = shaped_interval(1.0, 0.5, resampled)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5, rel=1e-4)  # 1.96 is 1.95996
    assert found.high - 1.0 > 3 * (1.0 - found.low)


def test_nothing_that_varies_gives_an_interval_of_no_width_only_without_error():
    same = np.zeros(50)
    assert shaped_interval(0.0, 0.0, same) == Uncertain(0.0, 0.0, 0.0)
    assert shaped_interval(0.0, 0.1, same) == Uncertain(0.0)
