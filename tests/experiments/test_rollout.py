"""The state machine and the decision, worked by hand."""

import dataclasses
import itertools

import pytest

from tailwise.experiments import (
    EffectLimit,
    IllegalTransitionError,
    Rollout,
    SampleEvidence,
    decide,
    legal_actions,
    transition,
)
from tailwise.experiments._rollout import ACTIONS, STATES
from tests.experiments.rollouts import POLICY, effect, evidence, experiment, running, with_proof

HARM = effect("clicks", -0.2, -0.3, -0.06)  # red at a margin of 5 %
DOUBT = effect("clicks", -0.2, -0.3, 0.1)  # amber
CALM = evidence().limits
BETTER = (effect("tail_clicks", 0.2, 0.05, 0.4),)
EXCLUDED = (effect("clicks", 0.0, -0.04, 0.04), effect("head_purchases", 0.0, -0.1, 0.1))
LOST = SampleEvidence(600, 400, 1e-6)

TABLE = {
    # what is seen -> what is done, at 5 % (stage 1) unless it says otherwise
    "nothing unusual": ({}, POLICY, 1, "ramp", "No harm seen. On to 25 %."),
    "harm shown": ({"limits": (HARM, CALM[1])}, POLICY, 1, "rollback", "clicks changed by -20.0%"),
    "harm shown, too early": (
        {"limits": (HARM, CALM[1]), "days_in_stage": 0.1, "n_users_in_stage": 3},
        POLICY,
        1,
        "rollback",
        "worse",
    ),
    "harm looks likely": ({"limits": (DOUBT, CALM[1])}, POLICY, 1, "hold", "not shown"),
    "too few days": ({"days_in_stage": 1.9}, POLICY, 1, "hold", "1.9 of 2 days"),
    "too few users": ({"n_users_in_stage": 399}, POLICY, 1, "hold", "399 of 400 users"),
    "unequal cohorts": ({"sample": LOST}, POLICY, 1, "pause", "not equal"),
    "harm and unequal cohorts": (
        {"limits": (HARM, CALM[1]), "sample": LOST},
        POLICY,
        1,
        "rollback",
        "clicks",
    ),
    "red that only holds": (
        {"limits": (HARM, CALM[1])},
        dataclasses.replace(POLICY, effects=(EffectLimit("clicks", 0.05, "hold"), POLICY.effects[1])),
        1,
        "hold",
        "worse",
    ),
    "first stage, harm looks likely": (
        {"limits": (DOUBT, CALM[1])},
        with_proof(5.0, "no-harm-shown"),
        1,
        "ramp",
        "No harm shown.",
    ),
    "first stage, harm shown": (
        {"limits": (HARM, CALM[1])},
        with_proof(5.0, "no-harm-shown"),
        1,
        "rollback",
        "worse",
    ),
    "margin not excluded": ({}, with_proof(5.0, "non-inferior"), 1, "hold", "not excluded in clicks, head"),
    "margin excluded": ({"limits": EXCLUDED}, with_proof(5.0, "non-inferior"), 1, "ramp", "excludes harm"),
    "no effect shown": (
        {},
        with_proof(50.0, "effect-shown"),
        3,
        "hold",
        "None of tail_clicks, tail_purchases",
    ),
    "effect shown": (
        {"goals": BETTER},
        with_proof(50.0, "effect-shown"),
        3,
        "ramp",
        "better: tail_clicks. On to 100 %.",
    ),
    "effect shown and doubt": (
        {"goals": BETTER, "limits": (DOUBT, CALM[1])},
        with_proof(50.0, "effect-shown"),
        3,
        "hold",
        "not shown",
    ),
    "last step by hand": (
        {},
        dataclasses.replace(POLICY, last_step_needs_person=True),
        3,
        "hold",
        "A person has to take the step to 100 %",
    ),
    "earlier step, last by hand": (
        {},
        dataclasses.replace(POLICY, last_step_needs_person=True),
        2,
        "ramp",
        "On to 50 %",
    ),
    "at 100 %": ({}, POLICY, 4, "complete", "No harm seen."),
    "harm at 100 %": ({"limits": (HARM, CALM[1])}, POLICY, 4, "rollback", "worse"),
}


@pytest.mark.parametrize("case", TABLE)
def test_what_is_done_about_what_is_seen(case):
    changes, policy, stage, action, words = TABLE[case]
    found = decide(evidence(**changes), policy, running(stage, policy=policy))
    assert found.action == action
    assert words in found.reason


@pytest.mark.parametrize(
    ("changes", "stage", "asks"),
    [({}, 3, True), ({"limits": (DOUBT, CALM[1])}, 1, False), ({"sample": LOST}, 1, True)],
)
def test_a_person_is_asked_for_when_only_a_person_can_go_on(changes, stage, asks):
    policy = dataclasses.replace(POLICY, last_step_needs_person=True)
    assert decide(evidence(**changes), policy, running(stage, policy=policy)).needs_person is asks


def test_a_stage_that_takes_too_long_asks_for_a_person():
    found = decide(evidence(days_in_stage=29.0, n_users_in_stage=3), POLICY, running(1))
    assert (found.action, found.needs_person) == ("hold", True)
    assert "More than 28 days" in found.reason


def test_without_a_hold_out_the_last_stage_waits_for_days_alone():
    seen = evidence(n_users_in_stage=0)
    assert decide(seen, POLICY, running(4, hold_out_percent=0.0)).action == "complete"
    assert decide(seen, POLICY, running(4)).action == "hold"


@pytest.mark.parametrize("action", ["pause", "rollback"])
def test_nothing_is_decided_while_it_does_not_run(action):
    rollout = transition(running(1), action, 9.0)
    found = decide(evidence(limits=(HARM, CALM[1])), POLICY, rollout)
    assert found.action == "hold"
    assert rollout.state in found.reason


def test_deciding_twice_on_the_same_evidence_says_the_same():
    assert decide(evidence(), POLICY, running(1)) == decide(evidence(), POLICY, running(1))


def rollout_in(state: str, stage: int) -> Rollout:
    return dataclasses.replace(Rollout(experiment()), state=state, stage=stage)


@pytest.mark.parametrize(("state", "stage", "action"), list(itertools.product(STATES, (0, 4), ACTIONS)))
def test_an_action_is_done_or_refused_with_what_is_legal(state, stage, action):
    """The whole table: 6 states x first and last stage x 8 actions."""
    legal = {
        "draft": {"start", "stop"},
        "running": {"hold", "pause", "stop", "rollback", "ramp" if stage == 0 else "complete"},
        "paused": {"hold", "resume", "stop", "rollback"},
        "completed": {"hold", "stop", "rollback"},
        "rolled_back": {"rollback"},
        "stopped": {"stop"},
    }[state]
    rollout = rollout_in(state, stage)
    assert set(legal_actions(rollout)) == legal
    if action in legal:
        transition(rollout, action, 1.0)
        return
    with pytest.raises(IllegalTransitionError, match=rf"as it is {state} .*got '{action}'") as refused:
        transition(rollout, action, 1.0)
    assert all(name in str(refused.value) for name in legal)


@pytest.mark.parametrize(("action", "state"), [("rollback", "rolled_back"), ("stop", "stopped")])
def test_ending_again_changes_nothing(action, state):
    ended = transition(running(2), action, 9.0)
    assert ended.state == state
    assert transition(ended, action, 10.0) == ended


def test_every_change_counts_a_version_and_holding_does_not():
    rollout = running(2)
    assert rollout.version == 3  # start, ramp, ramp
    assert transition(rollout, "hold", 9.0) is rollout
    assert [moment.action for moment in rollout.timeline] == ["start", "ramp", "ramp"]


def test_the_stage_begins_anew_when_it_is_resumed():
    paused = transition(running(1), "pause", 50.0)
    assert transition(paused, "resume", 70.0).stage_began_at == 70.0
    assert Rollout(experiment()).stage_began_at is None


def test_breaks_are_where_a_counted_user_may_have_changed_models():
    rollout = running(4)  # ramps at 1, 2, 3, 4; the last one to 100 %
    assert rollout.breaks == (4.0,)
    paused = transition(transition(running(1), "pause", 50.0), "resume", 70.0)
    assert paused.breaks == (50.0, 70.0)
    assert transition(running(1), "rollback", 9.0).breaks == (9.0,)


@pytest.mark.parametrize(("stage", "percent"), [(0, 1.0), (3, 50.0), (4, 95.0)])
def test_the_share_served_at_100_percent_leaves_the_hold_out(stage, percent):
    assert running(stage).percent == percent
    assert transition(running(stage), "pause", 9.0).percent == 0
