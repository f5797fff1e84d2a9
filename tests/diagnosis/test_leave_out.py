import numpy as np
import pytest

from tailwise.diagnosis._leave_out import LeaveOutFit

RNG = np.random.default_rng(0)
N = 30
X = np.column_stack([np.ones(N), RNG.standard_normal((N, 2))])
WEIGHT = RNG.exponential(size=N)
SUMS = WEIGHT * RNG.standard_normal(N)


def fit(weight=WEIGHT, sums=SUMS):
    return LeaveOutFit.of(X, weight, sums, X.T @ (weight[:, None] * X))


def refit_without(i):
    """Predict item i from all others, by ordinary means."""
    other = np.arange(N) != i
    root = np.sqrt(WEIGHT[other])
    mean = SUMS[other] / WEIGHT[other]
    return float(X[i] @ np.linalg.lstsq(X[other] * root[:, None], mean * root, rcond=None)[0])


def test_explained_is_the_sum_of_products_with_predictions_by_refits_without_the_item():
    expected = sum(SUMS[i] * refit_without(i) for i in range(N))
    assert fit().explained == pytest.approx(expected, rel=1e-9)  # two ways of solving the same equations


def test_residuals_are_orthogonal_to_the_columns():
    assert X.T @ fit().residual == pytest.approx(np.zeros(3), abs=1e-12)


def test_leaving_an_item_out_stretches_its_residual_as_leverage_says():
    found = fit()
    for i in (0, 7, 29):
        left_out = SUMS[i] / WEIGHT[i] - refit_without(i)
        assert found.kept[i] * found.residual[i] / WEIGHT[i] == pytest.approx(left_out)


def test_taught_is_the_derivative_of_others_explained_sums_by_an_items_residual():
    base = fit()
    for i in (3, 11):
        step = 1e-6 * np.eye(N)[i]
        moved = [fit(sums=SUMS + sign * step) for sign in (1, -1)]
        own = [m.sums[i] * (m.fitted[i] - m.kept[i] * m.pull[i] * m.residual[i]) for m in moved]
        others = (moved[0].explained - own[0] - moved[1].explained + own[1]) / 2e-6
        assert base.taught[i] == pytest.approx(others, rel=1e-6)  # a difference of doubles over 2e-6


def test_an_item_that_decides_the_fit_alone_is_not_divided_by_nothing():
    weight = np.where(np.arange(N) == 0, 1e9, 1.0)
    assert fit(weight=weight, sums=weight).kept.max() == pytest.approx(20.0)  # 1 / (1 − 0.95)
