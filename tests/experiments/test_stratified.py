import numpy as np
import pandas as pd
import pytest
import tea_tasting
from scipy import stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from tailwise.experiments import FixedEffect, OutcomeArrays, fixed_effect, stage_sizes
from tailwise.experiments._cuped import adjust_by_covariates


def draw(n: int = 3000, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    treated, taste = rng.integers(0, 2, n), rng.gamma(2.0, 0.5, n)
    orders = rng.poisson(0.5 * taste)
    gmv = orders * rng.lognormal(3, 0.8, n) * np.where(treated == 1, 1.1, 1.0)
    return {"variant": treated, "orders": orders, "gmv": gmv, "before": rng.gamma(5 * taste, 1.0, n)}


def ours(
    data: dict[str, np.ndarray], numerator: str, denominator: str | None = None, before: str | None = None
) -> FixedEffect:
    below, known = (None if name is None else data[name] for name in (denominator, before))
    found = fixed_effect(OutcomeArrays.of(data["variant"], 0, data[numerator], below, known))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["mean", "ratio", "cuped"])
def test_one_stage_agrees_with_tea_tasting(kind):
    data = draw()
    metric, found = {
        "mean": (tea_tasting.Mean("gmv"), ours(data, "gmv")),
        "ratio": (tea_tasting.RatioOfMeans("gmv", "orders"), ours(data, "gmv", "orders")),
        "cuped": (tea_tasting.Mean("gmv", "before"), ours(data, "gmv", before="before")),
    }[kind]
    theirs = tea_tasting.Experiment(m=metric).analyze(pd.DataFrame(data))["m"]
    # the same formulas in another order: rounding alone
    expected = [
        theirs.control,
        theirs.treatment,
        theirs.effect_size,
        theirs.effect_size_ci_lower,
        theirs.effect_size_ci_upper,
        theirs.pvalue,
        theirs.rel_effect_size,
    ]
    assert [
        found.control,
        found.treatment,
        found.difference,
        found.interval.low,
        found.interval.high,
        found.p_value,
        found.relative,
    ] == pytest.approx(expected, rel=1e-9)
    # theirs is symmetric on the logarithmic scale, ours is Fieller's: a few per cent of the width apart
    width = theirs.rel_effect_size_ci_upper - theirs.rel_effect_size_ci_lower
    assert found.relative_interval.low == pytest.approx(theirs.rel_effect_size_ci_lower, abs=0.05 * width)
    assert found.relative_interval.high == pytest.approx(theirs.rel_effect_size_ci_upper, abs=0.05 * width)


def test_one_stage_agrees_with_statsmodels():
    data = draw()
    treated = data["variant"] == 1
    compared = CompareMeans(DescrStatsW(data["gmv"][treated]), DescrStatsW(data["gmv"][~treated]))
    found = ours(data, "gmv")
    # the same formulas in another order: rounding alone
    assert found.interval.low == pytest.approx(compared.tconfint_diff(usevar="unequal")[0], rel=1e-9)
    assert found.p_value == pytest.approx(compared.ttest_ind(usevar="unequal")[1], rel=1e-9)
    assert found.degrees_of_freedom == pytest.approx(compared.dof_satt(), rel=1e-9)


def test_stages_agree_with_a_weighed_sum_worked_out_on_its_own():
    data = draw()
    stage = np.repeat([0, 1, 2], [200, 800, 2000])
    found = fixed_effect(OutcomeArrays.of(data["variant"], stage, data["gmv"] + 100 * stage))
    differences, variances = [], []
    for s in range(3):
        sides = [data["gmv"][(stage == s) & (data["variant"] == v)] + 100 * s for v in (1, 0)]
        differences.append(sides[0].mean() - sides[1].mean())
        variances.append(sum(side.var(ddof=1) / side.size for side in sides))
    weights = np.array([200, 800, 2000]) / 3000
    assert found is not None
    assert found.difference == pytest.approx(weights @ differences)
    assert found.standard_error == pytest.approx(np.sqrt(weights**2 @ variances))


def test_stages_of_unequal_shares_manufacture_no_effect():
    # base rates 10 and 1; treatment is 10 % of the first stage and half of the second (Simpson)
    treated = np.concatenate([np.arange(1000) % 10 == 0, np.arange(1000) % 2 == 0])
    stage = np.repeat([0, 1], 1000)
    values = np.where(stage == 0, 10.0, 1.0) + np.tile([0.1, -0.1, -0.1, 0.1], 500)
    found = fixed_effect(OutcomeArrays.of(treated, stage, values))
    assert values[treated].mean() - values[~treated].mean() < -3
    assert found is not None
    assert abs(found.difference) < 0.05


def test_a_stage_without_two_users_of_each_variant_has_no_weight():
    treated = np.array([1, 0, 0, 1, 1, 0, 0])
    sizes = stage_sizes(treated.astype(bool), np.array([0, 0, 0, 1, 1, 1, 1]))
    assert [(s.stage, s.n_control, s.n_treatment, s.weight) for s in sizes] == [
        (0, 2, 1, 0.0),
        (1, 2, 2, 1.0),
    ]


def test_what_cannot_be_computed_is_none():
    assert fixed_effect(OutcomeArrays.of([1, 0, 0], 0, [1.0, 2.0, 3.0])) is None
    assert fixed_effect(OutcomeArrays.of([1, 1, 0, 0], 0, [1.0, 2, 3, 4], [1.0, 1, 0, 0])) is None


def test_the_relative_interval_of_a_control_that_may_be_zero_has_no_ends():
    found = fixed_effect(OutcomeArrays.of([1, 1, 1, 0, 0, 0], 0, [5.0, 6.0, 7.0, 1.0, -1.0, 0.5]))
    assert found is not None
    assert found.relative_interval.low == -np.inf
    assert found.relative_interval.high == np.inf


def test_fieller_holds_the_ratios_that_a_test_does_not_reject():
    data = draw(400)
    found = ours(data, "gmv")
    treated = data["variant"] == 1
    a, b = data["gmv"][treated], data["gmv"][~treated]
    for end in (found.relative_interval.low, found.relative_interval.high):
        error = np.sqrt(a.var(ddof=1) / a.size + (1 + end) ** 2 * b.var(ddof=1) / b.size)
        z = abs(a.mean() - (1 + end) * b.mean()) / error
        assert z == pytest.approx(stats.t.ppf(0.975, found.degrees_of_freedom))


def test_cuped_keeps_stage_means_and_takes_the_correlated_part_of_the_variance():
    rng = np.random.default_rng(1)
    n, stage = 4000, np.repeat([0, 1], 2000)
    x = rng.normal(size=n) + 5 * stage
    values = 2 * (x - 5 * stage) + rng.normal(size=n) - 3 * stage
    adjusted = adjust_by_covariates(OutcomeArrays.of(np.zeros(n), stage, values, None, x))[:, 0]
    for s in (0, 1):
        assert adjusted[stage == s].mean() == pytest.approx(values[stage == s].mean())
    # of a variance of 5 the noise's 1 is left; the standard error of a variance is √(2/2000) = 3 %
    assert adjusted[stage == 0].var() == pytest.approx(1.0, rel=0.1)


def test_an_unknown_covariate_counts_as_the_mean_of_its_stage():
    x = np.array([1.0, np.nan, 3.0, 5.0])
    values = np.array([1.0, 9.0, 3.0, 5.0])
    adjusted = adjust_by_covariates(OutcomeArrays.of([0, 1, 0, 1], 0, values, None, x))[:, 0]
    assert adjusted[1] == 9.0
    assert adjusted[0] != 1.0
