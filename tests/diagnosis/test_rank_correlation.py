import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from tailwise.diagnosis._rank_correlation import rank_correlation

NAN = float("nan")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(5, 60), st.integers(2, 30))
def test_the_value_is_scipys_spearman_ties_included(seed, n, n_levels):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, n_levels, n), rng.integers(0, n_levels, n)
    found = rank_correlation(x, y, n_resamples=0).value
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_a_resample_is_ranked_like_the_same_items_written_out():
    # The bootstrap ranks by weights; scipy ranks the drawn items one by one.
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 9, 40), rng.integers(0, 9, 40)
    draws, written = np.random.default_rng(0), []
    for _ in range(200):
        rows = draws.integers(0, 40, 40)
        written.append(spearmanr(x[rows], y[rows]).statistic)
    low, high = np.quantile(written, [0.025, 0.975])
    found = rank_correlation(x, y, n_resamples=200, seed=0)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))


def test_the_partial_correlation_is_that_of_the_residuals_of_ranks():
    rng = np.random.default_rng(0)
    z = rng.standard_normal(300)
    x, y = z + rng.standard_normal(300), z + rng.standard_normal(300)
    a, b, c = (rankdata(values) for values in (x, y, z))
    line = np.column_stack([np.ones(300), c])
    left = [values - line @ np.linalg.lstsq(line, values, rcond=None)[0] for values in (a, b)]
    found = rank_correlation(x, y, given=z, n_resamples=50)
    assert found.value == pytest.approx(np.corrcoef(left)[0, 1], abs=1e-12)
    assert rank_correlation(x, y, n_resamples=0).value > found.value + 0.2  # z is what they share


def test_items_without_both_values_are_left_out():
    x, y = [1, 2, NAN, 4, 5, 6, 7.5], [2, 1, 5, NAN, 5, 7, 6]
    both = [0, 1, 4, 5, 6]
    expected = spearmanr(np.array(x)[both], np.array(y)[both]).statistic
    assert rank_correlation(x, y, n_resamples=0).value == pytest.approx(expected, abs=1e-12)


def test_too_few_items_and_constants_have_no_correlation():
    assert rank_correlation([1, 2, 3, 4], [1, 2, 3, 4]).value is None
    assert rank_correlation([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).value is None


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    truth = 6 / np.pi * np.arcsin(0.4 / 2)  # Spearman of two normals that correlate 0.4
    n_covered = 0
    for seed in range(200):
        x = rng.standard_normal(150)
        y = 0.4 * x + np.sqrt(1 - 0.16) * rng.standard_normal(150)
        found = rank_correlation(x, y, n_resamples=200, seed=seed)
        n_covered += found.low <= truth <= found.high
    assert 180 <= n_covered <= 199  # 190 expected, one standard error is 3


def test_the_seed_decides_the_interval_and_not_the_value():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 50))
    one, same, other = (rank_correlation(x, y, n_resamples=100, seed=s) for s in (1, 1, 2))
    assert one == same
    assert (other.value, other.low == one.low) == (one.value, False)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"first and second .* got shapes \[\(3,\), \(2,\)\]"):
        rank_correlation([1, 2, 3], [1, 2])
