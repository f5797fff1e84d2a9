import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.diagnosis import PlantedWorld, prior_reliability
from tailwise.diagnosis._features import normal_scores


def test_reliability_is_cronbachs_alpha_of_the_normal_scores():
    rng = np.random.default_rng(0)
    priors = rng.standard_normal((300, 1)) + rng.standard_normal((300, 3))
    scores = np.stack([normal_scores(column, np.ones(300)) for column in priors.T], axis=1)
    alpha = 3 / 2 * (1 - scores.var(axis=0).sum() / scores.sum(axis=1).var())
    found = prior_reliability(priors, rng.poisson(5, 300))
    assert found.reliability == pytest.approx(alpha)  # the same sums in another order


def test_two_estimates_give_spearman_and_browns_formula():
    rng = np.random.default_rng(1)
    priors = rng.standard_normal((500, 1)) + rng.standard_normal((500, 2))
    found = prior_reliability(priors, rng.poisson(5, 500))
    r = found.mean_correlation
    assert found.reliability == pytest.approx(2 * r / (1 + r))


@pytest.mark.parametrize("reliability", [0.4, 0.7, 0.95])
def test_planted_reliability_is_found_overall_and_among_items_of_equal_count(reliability):
    world = PlantedWorld(n_items=4000, n_targets=10, reliability=reliability, correlation=0.6)
    outcomes = world.draw(0).outcomes
    found = prior_reliability(outcomes.priors, outcomes.counts)
    # Given the counts, the prior keeps 1 - 0.6² of its variance and the error keeps all of its own.
    error = 1 / reliability - 1
    assert found.reliability == pytest.approx(reliability, abs=0.03)  # 4,000 items: one error is 0.01
    assert found.given_data == pytest.approx(0.64 / (0.64 + error), abs=0.03)


def test_identical_estimates_are_perfectly_reliable_and_one_tells_nothing():
    column = np.random.default_rng(0).standard_normal((50, 1))
    counts = np.arange(50)
    assert prior_reliability(np.hstack([column, column]), counts).reliability == pytest.approx(1.0)
    single = prior_reliability(column, counts)
    assert (single.reliability, single.given_data, single.mean_correlation) == (None, None, None)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 3.0))
def test_rising_transformations_of_an_estimate_change_nothing(seed, power):
    rng = np.random.default_rng(seed)
    priors = rng.random((40, 3)) + rng.random((40, 1))
    counts = rng.poisson(4, 40)
    bent = np.column_stack([priors[:, 0] ** power, priors[:, 1] * power, np.log(priors[:, 2])])
    first, second = (prior_reliability(x, counts) for x in (priors, bent))
    assert second.reliability == pytest.approx(first.reliability)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"priors .* got shapes \(4, 2\) and \(3,\)"):
        prior_reliability(np.ones((4, 2)), np.ones(3))
