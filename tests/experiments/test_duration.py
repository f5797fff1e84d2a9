import numpy as np
import pytest
from statsmodels.stats.power import NormalIndPower

from tailwise.experiments import OutcomeArrays, PrePeriod, anytime_path, plan_duration

BEFORE = PrePeriod(mean=2.0, variance=9.0)


def test_users_for_one_look_agree_with_statsmodels():
    plan = plan_duration(BEFORE, users_per_day=100, relative_effect=1e-2)
    per_variant = NormalIndPower().solve_power(0.02 / 3.0, alpha=0.05, power=0.8)
    # ours lets the variance under treatment grow with its mean: by half of 1 % on average
    assert plan.users_fixed == pytest.approx(2 * per_variant * 1.005, rel=1e-4)


def test_planned_users_let_a_sequence_exclude_no_effect_as_often_as_promised():
    plan = plan_duration(BEFORE, users_per_day=100, relative_effect=0.3)
    runs = 300
    at_end = ever = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        n = plan.users_anytime
        treated = rng.integers(0, 2, n)
        values = 2 + plan.effect * treated + 3 * np.sqrt(1 + 0.3 * treated) * rng.normal(size=n)
        path = anytime_path(
            OutcomeArrays.of(treated, 0, values), np.linspace(200, n, 40).astype(int), tuned_for=n
        )
        at_end, ever = at_end + (path.low[-1] > 0), ever + (path.low > 0).any()
    # 0.8 within three standard errors of 300 runs, 0.07
    assert 0.73 < at_end / runs < 0.87
    assert ever >= at_end


def test_planned_users_let_a_bound_rule_a_margin_out_as_often_as_promised():
    margin, runs, wins = 0.3, 400, 0
    plan = plan_duration(BEFORE, users_per_day=100, relative_margin=margin)
    n = plan.users_anytime
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        path = anytime_path(
            OutcomeArrays.of(rng.integers(0, 2, n), 0, 2 + 3 * rng.normal(size=n)), tuned_for=n
        )
        wins += path.relative_lower[0] > -margin
    # 0.8 within two and a half standard errors of 400 runs, 0.05; a variance of 2 + 2 in place of
    # 2 + 2 * 0.49 would give 0.93
    assert 0.75 < wins / runs < 0.85


def test_the_stated_width_is_that_of_the_sequence_at_the_planned_users():
    plan = plan_duration(BEFORE, users_per_day=100, relative_effect=0.3)
    rng = np.random.default_rng(0)
    n = plan.users_anytime
    treated = rng.integers(0, 2, n)
    values = 2 + plan.effect * treated + 3 * np.sqrt(1 + 0.3 * treated) * rng.normal(size=n)
    path = anytime_path(OutcomeArrays.of(treated, 0, values), tuned_for=n)
    # a standard deviation from some 4,000 users is known to about 1 %
    assert path.high[0] - path.low[0] == pytest.approx(plan.width, rel=0.05)


def test_days_are_those_of_enrolment_and_the_last_window():
    plan = plan_duration(BEFORE, users_per_day=1000, share=0.5, window_days=3, relative_effect=0.3)
    assert plan.days_anytime == pytest.approx(plan.users_anytime / 500 + 3)
    assert plan.users_anytime > plan.users_fixed


def test_out_of_reach_is_said_plainly_with_what_would_be_in_reach():
    plan = plan_duration(BEFORE, users_per_day=100, relative_effect=0.01, max_days=28)
    assert not plan.within_reach
    assert plan.sentence.startswith("Out of reach: a difference of 1.0% of the mean takes about")
    assert "at most 2,100 finish within 28 days" in plan.sentence
    smallest = plan.smallest_effect / 2.0
    # rounded up to whole users
    assert plan_duration(BEFORE, users_per_day=100, relative_effect=smallest).users_anytime in (2100, 2101)


def test_the_smallest_difference_from_a_margin_is_found_too():
    plan = plan_duration(BEFORE, users_per_day=100, relative_margin=0.1, relative_effect=0.02)
    smallest = plan.smallest_effect / 2.0 - 0.1
    again = plan_duration(BEFORE, users_per_day=100, relative_margin=0.1, relative_effect=smallest)
    assert again.users_anytime in (2100, 2101)


def test_users_that_do_not_exist_are_out_of_reach_however_long_one_waits():
    plan = plan_duration(BEFORE, users_per_day=1e6, relative_effect=0.05, max_users=1000)
    assert plan.days_anytime == np.inf
    assert not plan.within_reach


def test_no_window_closes_in_time():
    plan = plan_duration(BEFORE, users_per_day=10, relative_effect=1.0, window_days=30, max_days=28)
    assert "no user's window closes within 28 days" in plan.sentence
    assert plan.smallest_effect == np.inf


def test_a_margin_needs_one_side_and_fewer_users_than_an_effect_of_its_size():
    margin = plan_duration(BEFORE, users_per_day=100, relative_margin=0.1)
    effect = plan_duration(BEFORE, users_per_day=100, relative_effect=0.1)
    assert margin.against == pytest.approx(-0.2)
    assert margin.users_anytime < effect.users_anytime


def test_cuped_saves_the_users_whose_variance_it_takes():
    half = PrePeriod(mean=2.0, variance=9.0, variance_left=0.5)
    whole = plan_duration(BEFORE, users_per_day=100, relative_effect=0.1).users_fixed
    assert plan_duration(half, users_per_day=100, relative_effect=0.1).users_fixed == pytest.approx(
        whole / 2, abs=1
    )


def test_the_variance_of_a_ratio_is_that_of_its_linear_part():
    orders = np.array([1.0, 2.0, 0.0, 1.0])
    before = PrePeriod.of(10 * orders + [1, -1, 0, 0], orders)
    assert before.mean == pytest.approx(10.0)
    assert before.variance == pytest.approx(np.var([1, -1, 0, 0], ddof=1))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="relative_effect must differ from what is tested; got 0"):
        plan_duration(BEFORE, users_per_day=1)
    with pytest.raises(
        ValueError, match=r"relative_effect must differ .* got -0\.2 with relative_margin 0\.1"
    ):
        plan_duration(BEFORE, users_per_day=1, relative_effect=-0.2, relative_margin=0.1)
    with pytest.raises(ValueError, match="users_per_day must be > 0; got 0"):
        plan_duration(BEFORE, users_per_day=0, relative_effect=0.1)
    with pytest.raises(ValueError, match="mean must be > 0; got 0"):
        PrePeriod(mean=0.0, variance=1.0)
    with pytest.raises(ValueError, match="variance must be > 0; got 0"):
        PrePeriod(mean=1.0, variance=0.0)
