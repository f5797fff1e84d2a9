import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from tailwise.experiments import critical_value, information_per_user, log_evidence

informations = st.floats(1e-3, 1e4)
alphas = st.floats(1e-4, 0.4)


@pytest.mark.parametrize("one_sided", [False, True])
def test_evidence_is_the_average_of_bets_over_the_normal_mixture(one_sided):
    total, squares, scale = 7.0, 12.0, 5.0

    def bet(lam: float) -> float:
        return np.exp(lam * total - lam**2 * squares / 2) * stats.norm.pdf(lam, scale=scale**-0.5)

    low = 0.0 if one_sided else -np.inf
    averaged = integrate.quad(bet, low, np.inf)[0] * (2 if one_sided else 1)
    found = np.exp(log_evidence(total / squares**0.5, squares / scale, one_sided=one_sided))
    # quad stops at a relative error of 1e-8
    assert found == pytest.approx(averaged, rel=1e-7)


@given(informations, alphas, st.booleans())
@settings(deadline=None)
def test_evidence_reaches_one_over_alpha_exactly_at_the_critical_value(information, alpha, one_sided):
    z = critical_value(information, alpha, one_sided=one_sided)
    # Newton ends within rounding; a relative error of 1e-9 in e is one of about 1e-10 in z
    reached = log_evidence(z, information, one_sided=one_sided)
    assert float(reached) == pytest.approx(-np.log(alpha), abs=1e-8)


@pytest.mark.parametrize("one_sided", [False, True])
def test_the_sequence_is_narrowest_at_the_number_of_users_it_is_tuned_for(one_sided):
    def width(tuned_for: float) -> float:
        rate = information_per_user(tuned_for, 0.05, one_sided=one_sided)
        return float(critical_value(1000 * rate, 0.05, one_sided=one_sided))

    # one side is tuned as two sides at 2α, which is its optimum but for a fraction of a per mille
    assert width(1000) <= min(width(f * 1000) for f in (0.3, 0.7, 1.5, 4.0)) * 1.0005


def test_one_side_is_tuned_as_two_sides_at_twice_the_error():
    assert information_per_user(50, 0.05, one_sided=True) == information_per_user(50, 0.1)


def test_being_wrong_tenfold_about_the_users_costs_less_than_a_third_of_the_width():
    rate = information_per_user(10_000)
    best = critical_value(10_000 * rate)
    assert critical_value(100_000 * rate) / best < 1.08
    assert critical_value(1_000 * rate) / best < 1.27


@given(
    st.lists(st.floats(0.01, 100.0), min_size=1, max_size=9),
    st.floats(1e-2, 1e4),
    st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_evidence_is_at_most_one_on_average_over_the_signs_of_any_sizes(sizes, scale, one_sided):
    signs = np.array(list(itertools.product((-1, 1), repeat=len(sizes))))
    totals, squares = signs @ np.array(sizes), float(np.square(sizes).sum())
    e = np.exp(log_evidence(totals / squares**0.5, squares / scale, one_sided=one_sided))
    # exact up to the rounding of a sum of at most 512 terms
    assert e.mean() <= 1 + 1e-9


@pytest.mark.parametrize("one_sided", [False, True])
def test_a_random_walk_leaves_the_sequence_with_less_than_its_error_probability(one_sided):
    n_walks, n_steps = 4000, 1500
    walks = np.cumsum(np.random.default_rng(0).standard_normal((n_walks, n_steps), dtype=np.float32), axis=1)
    steps = np.arange(1, n_steps + 1)
    rate = information_per_user(300, 0.1, one_sided=one_sided)
    z = critical_value(steps * rate, 0.1, one_sided=one_sided)
    standard = walks / np.sqrt(steps)
    left = ((standard if one_sided else np.abs(standard)) > z).any(axis=1).mean()
    assert 0.03 < left < 0.1  # an error probability of 0.1 over endless time; some of it is spent by now


def test_arguments_outside_their_range_are_named():
    with pytest.raises(ValueError, match=r"alpha must be .* got 0\.5"):
        critical_value(1.0, 0.5)
    with pytest.raises(ValueError, match=r"tuned_for must be .* got 0"):
        information_per_user(0)
