import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import zeta
from scipy.stats import geom, lognorm

from tailwise.diagnosis import Rival, fit_power_law
from tailwise.diagnosis._power_law import draw
from tailwise.diagnosis._power_law_rivals import compare_rivals
from tailwise.diagnosis._zeta import log_zeta
from tailwise.errors import DataError


def planted(exponent: float, n: int, *, seed: int, x_min: int = 1) -> np.ndarray:
    drawn = draw(exponent, x_min, n, np.random.default_rng(seed))
    return np.minimum(drawn, 1e15).astype(np.int64)


@pytest.fixture(scope="module")
def words() -> np.ndarray:
    """How often each word occurs in "Moby Dick": the data of Clauset et al., tables 6.1 to 6.3.

    From ``reference_data/words.txt`` of the package powerlaw 2.0.0 (MIT), counted.
    """
    table = pl.read_csv(Path(__file__).with_name("moby_dick_word_counts.csv"))
    return np.repeat(table["count"].to_numpy(), table["n_words"].to_numpy())


@given(st.floats(1.05, 19.0), st.integers(1, 10**6))
@settings(deadline=None)
def test_log_zeta_agrees_with_scipy(exponent, start):
    exact = zeta(exponent, start)
    if exact > 0:  # scipy underflows where the logarithm does not
        # the docstring's promise for large exponents
        assert float(log_zeta(exponent, start)) == pytest.approx(math.log(exact), abs=1e-5)


def test_log_zeta_of_common_exponents_is_good_to_ten_digits():
    exponents = np.linspace(1.05, 5, 40)[:, None]
    starts = np.array([1, 2, 19, 20, 21, 1000])
    assert np.abs(log_zeta(exponents, starts) - np.log(zeta(exponents, starts))).max() < 1e-9


def test_words_of_moby_dick_give_the_published_fit(words):
    fit = fit_power_law(words, n_resamples=0)
    # Clauset et al. 2009, table 6.1: n 18,855, x_min 7 ± 2, α 1.95(2), n_tail 2,958
    assert (words.size, fit.x_min, fit.n_fitted_items) == (18_855, 7, 2_958)
    assert round(fit.exponent, 2) == 1.95
    assert round(fit.standard_error, 2) == 0.02


def test_words_of_moby_dick_give_what_the_package_powerlaw_gives(words):
    # powerlaw 2.0.0, Fit(words, discrete=True, estimate_discrete=False), run outside this repository.
    # Its optimizer stops 1e-5 from the largest likelihood, which the other figures inherit.
    fit = fit_power_law(words, n_resamples=0)
    assert fit.exponent == pytest.approx(1.9527177, abs=2e-5)
    assert fit.ks_distance == pytest.approx(0.0082567, abs=1e-5)
    lognormal, exponential = fit.rivals
    assert exponential.log_likelihood_ratio == pytest.approx(3025.034, abs=0.01)
    assert exponential.parameters["rate"] == pytest.approx(0.018398, abs=2e-5)
    assert exponential.statistic == pytest.approx(9.1368, abs=0.01)
    assert lognormal.log_likelihood_ratio == pytest.approx(0.02, abs=0.1)  # both say: no difference
    assert lognormal.p == pytest.approx(0.6596, abs=0.02)
    assert fit_power_law(words, x_min=1, n_resamples=0).exponent == pytest.approx(1.7748018, abs=2e-5)


def test_all_words_prefer_a_lognormal_exactly_as_the_package_powerlaw_says(words):
    lognormal = fit_power_law(words, x_min=1, n_resamples=0).rivals[0]
    assert lognormal.log_likelihood_ratio == pytest.approx(-78.84915, abs=1e-4)
    assert lognormal.statistic == pytest.approx(-5.00666, abs=1e-4)
    assert lognormal.parameters["mu"] == pytest.approx(-3.58259, abs=1e-3)
    assert lognormal.parameters["sigma"] == pytest.approx(2.76084, abs=1e-3)


@pytest.mark.parametrize("exponent", [1.6, 2.2, 3.5])
def test_a_planted_law_is_recovered_within_its_interval_and_not_rejected(exponent):
    fit = fit_power_law(planted(exponent, 2_000, seed=3), n_resamples=40)
    assert fit.low <= exponent <= fit.high
    assert fit.exponent == pytest.approx(exponent, abs=4 * fit.standard_error)
    assert fit.support in ("moderate", "good")


def test_the_beginning_of_a_planted_law_is_found():
    bulk = np.random.default_rng(0).integers(1, 10, 1_500)  # flat below 10, unlike any power law
    fit = fit_power_law(np.concatenate([bulk, planted(2.5, 1_500, seed=0, x_min=10)]), n_resamples=0)
    assert 8 <= fit.x_min <= 14
    assert fit.exponent == pytest.approx(2.5, abs=4 * fit.standard_error)


def test_exponential_counts_are_rejected():
    counts = np.random.default_rng(0).geometric(0.05, 2_000)
    fit = fit_power_law(counts, n_resamples=40)
    assert fit.ks_p <= 0.1
    assert fit.support == "none"
    exponential = {r.name: r for r in fit.rivals}["exponential"]
    assert exponential.log_likelihood_ratio < 0
    assert exponential.p < 0.05


def test_lognormal_counts_favour_the_lognormal():
    rng = np.random.default_rng(0)
    counts = np.maximum(np.rint(np.exp(rng.normal(2.5, 1.0, 2_000))), 1).astype(np.int64)
    lognormal = {r.name: r for r in fit_power_law(counts, x_min=1, n_resamples=0).rivals}["lognormal"]
    assert lognormal.log_likelihood_ratio < 0
    assert lognormal.p < 0.001
    # x_min=1 keeps all, so the planted parameters come back; 2,000 logs have errors near 0.03
    assert lognormal.parameters["mu"] == pytest.approx(2.5, abs=0.1)
    assert lognormal.parameters["sigma"] == pytest.approx(1.0, abs=0.1)


def test_p_values_of_planted_laws_are_spread_over_the_unit_interval():
    p = [fit_power_law(planted(2.2, 150, seed=i), n_resamples=19).ks_p for i in range(30)]
    # uniform: Binomial(30, 0.1) exceeds 9 with probability 5e-4, Binomial(30, 0.5) leaves
    # 5..25 with probability 1e-4
    assert sum(value <= 0.1 for value in p) <= 9
    assert 5 <= sum(value <= 0.5 for value in p) <= 25


def test_the_standard_error_is_the_spread_of_fits():
    fits = [fit_power_law(planted(2.0, 500, seed=i), x_min=1, n_resamples=0) for i in range(60)]
    spread = np.std([fit.exponent for fit in fits])
    # a standard deviation from 60 values is known to 9 %; three of these
    assert spread == pytest.approx(np.mean([fit.standard_error for fit in fits]), rel=0.28)


def test_drawn_counts_follow_the_law():
    drawn = draw(2.0, 1, 20_000, np.random.default_rng(0))
    assert drawn.min() == 1
    for x in (1, 2, 10, 100):
        share = 1 - zeta(2, x) / zeta(2, 1) + x**-2.0 / zeta(2, 1)  # P(X <= x)
        assert np.mean(drawn <= x) == pytest.approx(share, abs=4 * 0.5 / math.sqrt(20_000))


def test_draws_beyond_the_table_stay_on_the_law():
    drawn = draw(1.3, 1, 20_000, np.random.default_rng(0))
    assert np.isfinite(drawn).all()
    share = zeta(1.3, 10**6) / zeta(1.3, 1)  # P(X >= 10^6), 1.3 % of the draws
    assert np.mean(drawn >= 10**6) == pytest.approx(share, abs=4 * math.sqrt(share / 20_000))


@given(st.lists(st.integers(1, 60), min_size=60, max_size=120), st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_the_ks_distance_is_the_largest_gap_over_all_whole_numbers(values, x_min):
    counts = np.array(values)
    above = counts[counts >= x_min]
    if above.size < 50 or np.unique(above).size < 2:
        return
    fit = fit_power_law(counts, x_min=x_min, n_resamples=0)
    x = np.arange(x_min, above.max() + 2)
    model = np.exp(log_zeta(fit.exponent, x) - log_zeta(fit.exponent, x_min))
    share = np.array([(above >= value).mean() for value in x])
    assert fit.ks_distance == pytest.approx(np.abs(model - share).max(), abs=1e-9)


def test_rivals_have_the_likelihoods_of_scipys_distributions():
    # rising before it falls, so that the lognormal has a peak inside
    values, items = np.array([3.0, 6.0, 8.0, 9.0, 12.0, 30.0]), np.array([1, 4, 6, 4, 3, 1])
    lognormal, exponential = compare_rivals(values, items, exponent=2.0, x_min=3.0)
    power_law = items @ np.log(values**-2.0 / zeta(2.0, 3))
    p = 1 - math.exp(-exponential.parameters["rate"])
    theirs = items @ geom.logpmf(values - 2, p)
    assert exponential.log_likelihood_ratio == pytest.approx(power_law - theirs, abs=1e-9)
    law = lognorm(lognormal.parameters["sigma"], scale=math.exp(lognormal.parameters["mu"]))
    inside = (law.cdf(values + 0.5) - law.cdf(values - 0.5)) / law.sf(2.5)
    # scipy's differences of cumulative probabilities cancel some digits
    assert lognormal.log_likelihood_ratio == pytest.approx(power_law - items @ np.log(inside), abs=1e-6)


@pytest.mark.parametrize(
    ("ks_p", "statistics", "ps", "support"),
    [
        (0.05, (3, 9), (0.0, 0.0), "none"),
        (0.50, (-3, 9), (0.01, 0.0), "none"),
        (0.50, (-1, 9), (0.40, 0.0), "moderate"),
        (0.50, (3, 9), (0.01, 0.0), "good"),
    ],
)
def test_support_follows_the_distance_and_the_rivals(ks_p, statistics, ps, support):
    rivals = tuple(Rival("lognormal", 0.0, s, p, {}) for s, p in zip(statistics, ps, strict=True))
    fit = fit_power_law(planted(2.0, 100, seed=0), n_resamples=0)
    assert fit.support is None
    assert replace(fit, ks_p=ks_p, rivals=rivals).support == support


def test_a_law_of_exponent_two_falls_with_the_first_power_of_the_rank():
    fit = fit_power_law(planted(2.0, 20_000, seed=0), n_resamples=0)
    assert fit.zipf_exponent == pytest.approx(1.0, abs=0.05)  # standard error near 0.01


def test_at_least_a_tenth_of_the_items_is_fitted_unless_asked_otherwise():
    counts = np.random.default_rng(0).geometric(0.05, 2_000)
    assert fit_power_law(counts, n_resamples=0).fitted_item_share >= 0.1
    assert fit_power_law(counts, n_resamples=0, min_fitted_share=0).fitted_item_share < 0.1


def test_the_fit_is_the_same_whatever_the_order_and_the_cold_items():
    counts = planted(2.0, 300, seed=0)
    shuffled = np.random.default_rng(1).permutation(np.append(counts, np.zeros(50, dtype=np.int64)))
    assert fit_power_law(shuffled, n_resamples=5) == fit_power_law(counts, n_resamples=5)


def test_a_log_whose_resamples_allow_no_fit_has_no_interval():
    # a second count that one item has: resamples without that item hold one count only
    fits = [fit_power_law(np.repeat([1, 2], [60, 1]), n_resamples=1, seed=seed) for seed in range(10)]
    assert any(fit.low is None for fit in fits)


def test_the_object_is_ready_for_json():
    fit = fit_power_law(planted(2.0, 100, seed=0), n_resamples=5).as_dict()
    assert json.loads(json.dumps(fit)) == fit
    assert [rival["name"] for rival in fit["rivals"]] == ["lognormal", "exponential"]


def test_too_few_items_are_refused_with_their_number():
    with pytest.raises(DataError, match="got 49 items with 49 different counts"):
        fit_power_law(np.arange(50), n_resamples=0)
    with pytest.raises(DataError, match="got 100 items with 1 different counts"):
        fit_power_law(np.full(100, 3), n_resamples=0)
    with pytest.raises(DataError, match="got 10 items with 10 different counts from x_min=91"):
        fit_power_law(np.arange(101), x_min=91)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x_min": 0}, r"x_min must be a whole number >= 1; got 0"),
        ({"x_min": 1.5}, r"x_min must be a whole number >= 1; got 1.5"),
        ({"n_resamples": -1}, r"n_resamples must be a whole number in 0..10000; got -1"),
        ({"min_fitted_share": 20}, r"min_fitted_share must be a fraction in \[0, 1\]; got 20"),
    ],
)
def test_arguments_out_of_range_are_refused_by_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_power_law(np.arange(100), **arguments)


def test_counts_that_are_negative_or_not_whole_are_refused():
    with pytest.raises(ValueError, match="counts must be >= 0; got -2 for item 1"):
        fit_power_law(np.array([5, -2]))
    with pytest.raises(ValueError, match="whole numbers; got shape \\(2,\\) of float64"):
        fit_power_law(np.array([5.0, 2.0]))
