import itertools

import numpy as np
import pytest

from tailwise.experiments import OutcomeArrays
from tailwise.experiments._centring import potential_outcomes

RNG = np.random.default_rng(3)


def draw(n: int = 400) -> dict[str, np.ndarray]:
    return {
        "stage": np.sort(RNG.integers(0, 3, n)),
        "numerator": RNG.lognormal(size=n) + np.linspace(0, 5, n),
        "denominator": RNG.poisson(2.0, n).astype(float),
        "covariates": np.where(RNG.random(n) < 0.2, np.nan, RNG.normal(size=n)),
    }


def test_what_a_user_is_expected_to_do_comes_from_users_before_and_never_from_variants():
    data, treated = draw(), RNG.integers(0, 2, 400)
    changed = {**data, "numerator": data["numerator"].copy()}
    changed["numerator"][200:] += 1000.0

    def expected(of: dict[str, np.ndarray], variants: np.ndarray) -> np.ndarray:
        # half the sum of ψ1 and ψ0 is m + (Y − m): what is left of the values is the expectation
        psi = potential_outcomes(OutcomeArrays.of(variants, **of))
        values = np.stack([of["numerator"], of["denominator"]], axis=1)
        is_treated = variants.astype(bool)[:, None]
        return np.where(is_treated, psi[:, 2:], psi[:, :2]) + 0 * values

    first = expected(data, treated)
    assert np.allclose(first[:201], expected(changed, treated)[:201], rtol=1e-12)
    assert not np.allclose(first[201:], expected(changed, treated)[201:])
    assert np.allclose(first, expected(data, 1 - treated), rtol=1e-12)


@pytest.mark.parametrize("with_covariates", [False, True])
def test_over_all_assignments_the_estimates_average_to_the_true_means(with_covariates):
    n = 8
    under_control = np.array([3.0, 0.0, 1.0, 7.0, 2.0, 0.0, 5.0, 4.0])
    under_treatment = under_control + np.array([1.0, 0.0, 2.0, -1.0, 0.5, 0.0, 3.0, 0.0])
    stage = np.array([0, 0, 0, 1, 1, 0, 1, 1])
    x = np.arange(n) if with_covariates else None
    sums = np.zeros(2)
    for assigned in itertools.product((0, 1), repeat=n):
        treated = np.array(assigned)
        values = np.where(treated == 1, under_treatment, under_control)
        sums += potential_outcomes(OutcomeArrays.of(treated, stage, values, None, x)).mean(axis=0)
    # the expectation over 256 equally likely assignments, up to rounding
    assert sums / 2**n == pytest.approx([under_treatment.mean(), under_control.mean()], abs=1e-12)


def test_a_covariate_that_tells_the_outcome_takes_nearly_all_variance():
    n = 4000
    x = RNG.normal(size=n)
    treated = RNG.integers(0, 2, n)
    values = 3 * x + 0.1 * RNG.normal(size=n)
    plain = potential_outcomes(OutcomeArrays.of(treated, 0, values))
    cuped = potential_outcomes(OutcomeArrays.of(treated, 0, values, None, x))
    left = np.var(cuped[:, 0] - cuped[:, 1]) / np.var(plain[:, 0] - plain[:, 1])
    # noise is 0.01 of 9.01, the first fifty users of four thousand are not adjusted: at most 0.014
    assert left < 0.02


def test_the_mean_of_a_stage_is_that_of_the_stages_before_until_it_has_its_own():
    values = np.concatenate([np.full(50, 2.0), np.full(50, 8.0)])
    psi = potential_outcomes(OutcomeArrays.of(np.ones(100), np.repeat([0, 1], 50), values))
    # ψ0 of the treated is what was expected of them
    assert psi[50, 1] == pytest.approx(2.0)  # ten users' worth of the mean over all: 50 times 2
    overall = (50 * 2 + 10 * 8) / 60
    assert psi[60, 1] == pytest.approx((10 * 8 + 10 * overall) / 20)
    assert psi[0, 1] == 0.0
