import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from tailwise.diagnosis._bradley_terry import fit_bradley_terry
from tailwise.diagnosis._comparison_design import comparison_pairs


def _planted(n_items, per_item, seed):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal(n_items)
    pairs = comparison_pairs(n_items, per_item=per_item, seed=seed)
    return scores - scores.mean(), pairs, expit(scores[pairs[:, 0]] - scores[pairs[:, 1]])


def test_exact_probabilities_give_the_planted_scores_back():
    scores, pairs, p = _planted(60, 10, 0)
    found = fit_bradley_terry(pairs, p, 60, prior_wins=1e-9)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)  # the iteration stops at 1e-8 per step
    assert found.errors.max() < 1e-4  # outcomes that follow the model to the letter leave no doubt


def test_two_items_by_hand():
    # (0.9 + 0.1) wins against (0.1 + 0.1): odds of 5, so the scores differ by log 5.
    found = fit_bradley_terry([[0, 1]], [0.9], 2)
    assert found.scores == pytest.approx([np.log(5) / 2, -np.log(5) / 2])


def test_the_fit_maximises_the_likelihood_of_soft_outcomes_with_prior_wins():
    _, pairs, p = _planted(25, 6, 1)
    y = np.clip(p + 0.2 * np.random.default_rng(0).standard_normal(p.size), 0, 1)
    w = 0.3

    def loss(theta):
        q = expit(theta[pairs[:, 0]] - theta[pairs[:, 1]])
        return -np.sum((y + w) * np.log(q) + (1 - y + w) * np.log(1 - q)) + theta.mean() ** 2

    best = minimize(loss, np.zeros(25), tol=1e-12).x
    found = fit_bradley_terry(pairs, y, 25, prior_wins=w)
    np.testing.assert_allclose(found.scores, best - best.mean(), atol=1e-4)  # BFGS stops first


def test_the_planted_order_is_recovered_from_won_and_lost_games():
    scores, pairs, p = _planted(200, 20, 2)
    won = np.random.default_rng(3).random(p.size) < p
    found = fit_bradley_terry(pairs, won.astype(float), 200)
    assert np.corrcoef(found.scores, scores)[0, 1] > 0.8


def test_standard_errors_cover_the_planted_scores():
    covered = []
    for seed in range(10):
        scores, pairs, p = _planted(150, 20, seed)
        won = np.random.default_rng(100 + seed).random(p.size) < p
        found = fit_bradley_terry(pairs, won.astype(float), 150)
        covered.append(np.abs(found.scores - scores) < 1.96 * found.errors)
    # 1,500 scores; the sandwich is known to be a few percent short at 20 games per item.
    assert 0.9 < np.mean(covered) < 0.97


def test_an_item_that_wins_or_loses_everything_stays_finite():
    pairs = comparison_pairs(30, per_item=6, seed=0)
    strength = np.arange(30)
    won = (strength[pairs[:, 0]] > strength[pairs[:, 1]]).astype(float)
    found = fit_bradley_terry(pairs, won, 30)
    assert np.isfinite(found.scores).all()
    assert np.isfinite(found.errors).all()
    assert np.corrcoef(found.scores, strength)[0, 1] > 0.9
    assert found.scores[29] > found.scores[pairs[(pairs == 29).any(axis=1)]].min()


def test_turning_a_pair_around_changes_nothing():
    _, pairs, p = _planted(20, 6, 5)
    one, other = fit_bradley_terry(pairs, p, 20), fit_bradley_terry(pairs[:, ::-1], 1 - p, 20)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
    np.testing.assert_allclose(one.errors, other.errors, atol=1e-6)


def test_items_without_a_comparison_between_them_are_refused():
    with pytest.raises(ValueError, match="pairs must connect all items; got 2 groups"):
        fit_bradley_terry([[0, 1], [2, 3]], [1.0, 0.0], 4)


@pytest.mark.parametrize("wrong", [1.5, -0.1, float("nan")])
def test_outcomes_outside_are_refused(wrong):
    with pytest.raises(ValueError, match=r"outcomes must lie in \[0, 1\]; got "):
        fit_bradley_terry([[0, 1], [1, 0]], [0.5, wrong], 2)
