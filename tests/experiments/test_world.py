"""The simulated shop does what it says, and its truth is what its draws average to."""

import dataclasses

import numpy as np
import pytest

from tailwise.experiments import SCENARIOS, Behaviour, Scenario, World, population, simulate_windows

N = 60_000


def draws(scenario: Scenario, *, treated: bool, window_days: float = 3.0, at: float = 0.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    people = population(dataclasses.replace(scenario.world, n_users=N), rng)
    return people, simulate_windows(
        scenario,
        people,
        np.full(N, treated),
        np.full(N, at),
        window_days=window_days,
        service_window_days=1 / 24,
        rng=rng,
    )


def test_slots_are_looked_at_less_the_further_down_they_are():
    """Bias 1 on three slots: 1 + 1/2 + 1/3 are looked at."""
    assert World(slots=3, position_bias=1.0).looked_at == pytest.approx(11 / 6)
    assert World(slots=3, position_bias=0.0).looked_at == 3


@pytest.mark.parametrize("name", ["uplift", "over-correction", "broken", "at-the-margin"])
def test_the_stated_effect_is_what_drawn_users_average_to(name):
    scenario = SCENARIOS[name]
    _, old = draws(scenario, treated=False)
    _, new = draws(scenario, treated=True, seed=1)
    for column in ("clicks", "head_purchases", "tail_clicks"):
        ratio = new[column].mean() / old[column].mean() - 1
        spread = np.hypot(
            new[column].std() / new[column].mean(), old[column].std() / old[column].mean()
        ) / np.sqrt(N)
        assert abs(ratio - scenario.effect(column, window_days=3.0)) < 4 * spread  # four standard errors


@pytest.mark.parametrize("name", ["aa", "bots", "drift"])
def test_equal_models_have_no_effect(name):
    assert SCENARIOS[name].effect("clicks", window_days=3.0) == 0


def test_over_correction_lifts_the_tail_and_costs_head_and_all():
    effect = {
        column: SCENARIOS["over-correction"].effect(column, window_days=3.0)
        for column in ("tail_clicks", "head_purchases", "clicks", "gmv")
    }
    assert effect["tail_clicks"] > 0.4
    assert effect["head_purchases"] < -0.25
    assert effect["clicks"] < -0.1
    assert effect["gmv"] < -0.1


def test_novelty_fades():
    effects = [SCENARIOS["novelty"].effect("tail_clicks", window_days=days) for days in (1.0, 3.0, 30.0)]
    assert effects[0] > effects[1] > effects[2] > 0
    assert effects[2] < effects[0] / 4


def test_base_rates_drift_for_both_models_alike():
    scenario = Scenario("d", World(drift_per_day=0.05), Behaviour(), Behaviour())
    means = [
        draws(scenario, treated=t, at=at)[1]["clicks"].mean() for t in (False, True) for at in (0.0, 10.0)
    ]
    assert means[1] / means[0] == pytest.approx(1.05**10, rel=0.05)
    assert means[3] / means[2] == pytest.approx(1.05**10, rel=0.05)


def test_bots_visit_much_and_never_buy():
    scenario = Scenario("b", World(bot_share=0.1), Behaviour(), Behaviour())
    people, found = draws(scenario, treated=False)
    assert 0.08 < people.is_bot.mean() < 0.12
    assert found["purchases"][people.is_bot].sum() == 0
    assert found["sessions"][people.is_bot].mean() > 10 * found["sessions"][~people.is_bot].mean()


def test_a_broken_model_fails_and_is_slow_as_often_as_it_says():
    _, found = draws(SCENARIOS["broken"], treated=True)
    requests = found["requests"].sum()
    assert found["errors"].sum() / requests == pytest.approx(0.05, abs=0.004)
    assert found["slow_requests"].sum() / requests == pytest.approx(0.2, abs=0.007)


def test_columns_agree_with_each_other():
    _, found = draws(SCENARIOS["uplift"], treated=True)
    assert (found["clicks"] == found["head_clicks"] + found["tail_clicks"]).all()
    assert (found["head_purchases"] <= found["head_clicks"]).all()
    assert ((found["gmv"] > 0) == (found["purchases"] > 0)).all()
    assert ((found["converted"] == 1) == (found["purchases"] > 0)).all()
    assert (found["sessions"] >= 1).all()


def test_what_users_did_before_is_unknown_of_users_who_had_not_come():
    people, found = draws(SCENARIOS["aa"], treated=False, at=10.0)
    assert np.isnan(found["pre_clicks"][people.came_at > 7]).all()
    known = people.came_at < 6
    assert np.isfinite(found["pre_clicks"][known]).all()
    assert np.corrcoef(found["pre_clicks"][known], found["clicks"][known])[0, 1] > 0.05
