"""Whole rollouts in a small shop: tens of runs each, seeds fixed.

The judged numbers, 1,000 runs in a larger shop, are those of
``benchmarks/does_the_rollout_decide_rightly.py``; here a broken rule has to show, no more.
"""

import dataclasses

import numpy as np
import pytest

from tailwise.experiments import (
    SCENARIOS,
    Policy,
    Scenario,
    StageOverride,
    StageRule,
    evidence_at,
    run_experiment,
    transition,
)
from tailwise.experiments._simulate import _Crowd
from tests.experiments.rollouts import experiment

POLICY = Policy(
    look_every_hours=6,
    every_stage=StageRule(minimum_days=2, minimum_users=400),
    stages=(
        StageOverride(10, proof="no-harm-shown"),
        StageOverride(50, proof="effect-shown"),
        StageOverride(100, minimum_users=50),
    ),
)
SHELF = experiment(ramp_percent=(10.0, 25.0, 50.0, 100.0), policy=POLICY)
RUNS = 10


def small(name: str) -> Scenario:
    scenario = SCENARIOS[name]
    return dataclasses.replace(scenario, world=dataclasses.replace(scenario.world, n_users=30_000))


def runs(name: str, days: float, n: int = RUNS):
    return [run_experiment(small(name), SHELF, seed=seed, days=days) for seed in range(n)]


def test_over_correction_is_rolled_back_before_half_of_the_users_see_it():
    found = runs("over-correction", 30.0)
    assert sum(one.state == "rolled_back" for one in found) >= 9
    assert sum(one.highest_percent < 50 for one in found) >= 9


def test_a_real_uplift_reaches_everybody_but_the_hold_out():
    found = runs("uplift", 30.0, 6)
    assert sum(one.highest_percent == 95 for one in found) >= 5
    assert not any(one.state == "rolled_back" for one in found)


def test_equal_models_are_neither_rolled_back_nor_said_to_differ():
    found = runs("aa", 20.0, 8)
    assert sum(one.state != "running" or one.highest_percent > 50 for one in found) <= 1


def test_a_broken_treatment_is_rolled_back_within_two_days_in_the_first_stage():
    found = runs("broken", 10.0)
    assert all(one.state == "rolled_back" and one.highest_percent == 10 for one in found)
    assert max(one.days for one in found) <= 2


def test_one_seed_is_one_course_of_events():
    first, second = (run_experiment(small("over-correction"), SHELF, seed=3) for _ in range(2))
    assert first.decisions == second.decisions
    assert np.array_equal(first.enrolled.exposed_at, second.enrolled.exposed_at)
    assert run_experiment(small("over-correction"), SHELF, seed=4).days != first.days


def test_the_start_of_the_clock_changes_nothing_but_the_clock():
    first = run_experiment(small("over-correction"), SHELF, seed=3)
    late = run_experiment(small("over-correction"), SHELF, seed=3, began_at=1_700_000_000.0)
    assert late.days == first.days
    assert [made.decision.action for made in late.decisions] == [
        made.decision.action for made in first.decisions
    ]
    assert late.rollout.timeline[0].at == 1_700_000_000.0


def test_the_machine_decides_on_what_a_look_at_that_moment_shows():
    found = run_experiment(small("over-correction"), SHELF, seed=3)
    rollout = transition(
        dataclasses.replace(found.rollout, state="draft", stage=0, timeline=()), "start", 0.0
    )
    for made in found.decisions:
        seen = evidence_at(found.enrolled, rollout, made.day * 86_400)
        assert made.decision.guardrails[0].reason.split(" (")[0] in (
            f"clicks changed by {seen.limits[0].effect:+.1%}",
            f"clicks: too early to judge; {seen.n_users:,} users per cohort have closed windows",
        )
        rollout = transition(rollout, made.decision.action, made.day * 86_400)


def test_users_count_once_in_the_stage_of_their_first_exposure_and_in_equal_cohorts():
    found = run_experiment(small("uplift"), SHELF, seed=0, days=30.0)
    ramps = [moment.at for moment in found.rollout.timeline if moment.action in ("start", "ramp")]
    stages = np.searchsorted(ramps, found.enrolled.exposed_at, side="left") - 1
    assert (found.enrolled.stage == stages).all()
    for stage in range(len(ramps)):
        mine = found.enrolled.treated[found.enrolled.stage == stage]
        assert abs(mine.mean() - 0.5) < 5 * 0.5 / np.sqrt(mine.size)  # five standard deviations


def test_nobody_is_exposed_twice():
    crowd = _Crowd(small("aa"), SHELF, np.random.default_rng(0))
    crowd.come(0, 0.0, 4.0)
    before = crowd._users
    crowd.forget_after(2.0)
    assert crowd._users.size < before.size
    assert crowd._is_out[np.setdiff1d(before, crowd._users)].all()  # who was taken back may come again
    crowd.come(1, 2.0, 9.0)
    assert np.unique(crowd._users).size == crowd._users.size
    assert (np.diff(crowd._days) >= 0).all()


def test_time_for_one_look_is_needed():
    with pytest.raises(ValueError, match=r"days must leave time for one look, 0.25 days; got 0.1"):
        run_experiment(small("aa"), SHELF, seed=0, days=0.1)
