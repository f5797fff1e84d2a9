"""Who gets which model: sticky, nested, disjoint, of equal size, and nobody of control switches early."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.experiments import HashAssignment, bucket, cohorts_of, transition
from tailwise.experiments._assignment import is_in_layer_part, place_within
from tests.experiments.rollouts import experiment, running

USERS = [f"u{number}" for number in range(20_000)]
ramps = st.lists(st.floats(0.001, 0.5), min_size=1, max_size=6, unique=True).map(sorted)
places = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=50).map(np.array)


def test_the_bucket_is_the_documented_hash():
    """The first 53 bits of SHA-256 of "space\\nuser"; worked out with sha256sum."""
    assert bucket("layer/default", "u1") == int("cc297a67b35b1239", 16) // 2**11 / 2**53


def test_the_bucket_does_not_hang_on_the_process_as_pythons_own_hash_does():
    """Hexadecimal digits from sha256sum, of a user with a character beyond ASCII."""
    assert bucket("experiment/shelf/0", "ü 1") == int("d25bdb53de53b38f", 16) // 2**11 / 2**53


def test_any_text_is_a_user_even_half_a_surrogate_pair():
    assert 0 <= bucket("layer/default", "\ud800") < 1


def test_buckets_are_even_and_two_spaces_know_nothing_of_each_other():
    first = np.array([bucket("layer/default", user) for user in USERS])
    second = np.array([bucket("experiment/shelf/0", user) for user in USERS])
    counts, _, _ = np.histogram2d(first, second, bins=20, range=((0, 1), (0, 1)))
    expected = len(USERS) / 400
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert abs(statistic - 399) < 5 * math.sqrt(2 * 399)  # five standard deviations of chi-squared


@given(places=places, ramp=ramps, hold_out=st.floats(0, 0.5))
def test_nobody_who_got_the_treatment_loses_it_as_the_ramp_grows(places, ramp, hold_out):
    stages = [*ramp, 1.0] if max(ramp) <= 1 - hold_out else ramp
    before = np.zeros(places.size, dtype=bool)
    for share in stages:
        treated = cohorts_of(places, share, hold_out).is_treated
        assert (treated >= before).all()
        before = treated


@given(places=places, ramp=ramps)
def test_nobody_of_the_control_cohort_switches_before_100_percent(places, ramp):
    was_control = np.zeros(places.size, dtype=bool)
    for share in ramp:
        treated, counted = cohorts_of(places, share, 0.05)
        assert not (was_control & treated).any()
        assert (was_control <= (counted & ~treated)).all()  # and nobody leaves the cohort either
        was_control = counted & ~treated


@given(places=places, share=st.floats(0.001, 0.5), hold_out=st.floats(0, 0.5))
def test_the_hold_out_is_served_control_in_every_stage(places, share, hold_out):
    held = ~cohorts_of(places, 1.0, hold_out).is_treated
    assert (held == (places >= 1 - hold_out)).all()
    early = cohorts_of(places, min(share, 1 - hold_out), hold_out).is_treated
    assert not (held & early).any()


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5, 1.0])
def test_both_cohorts_are_of_equal_size_within_what_chance_allows(share):
    rows = np.array([place_within(experiment(), user) for user in USERS])
    treated, counted = cohorts_of(rows, share, 0.05)
    size = 0.05 if share == 1 else share
    bound = 5 * math.sqrt(len(USERS) * size * (1 - size))  # five standard deviations of a binomial
    for cohort in (treated & counted, counted & ~treated):
        assert abs(cohort.sum() - len(USERS) * size) <= bound


def test_at_half_everybody_is_counted_and_at_the_edges_nobody_is_counted_twice():
    treated, counted = cohorts_of(np.array([0.0, 0.49999, 0.5, 0.99999]), 0.5, 0.05)
    assert treated.tolist() == [True, True, False, False]
    assert counted.all()


def test_a_user_keeps_the_variant_through_the_whole_ramp():
    by_stage = []
    for stage in range(5):
        assignment = HashAssignment([running(stage)])
        by_stage.append([assignment.assign(user, "discovery") for user in USERS[:3000]])
    for user in zip(*by_stage, strict=True):
        variants = [assigned.variant for assigned in user]
        assert "control" not in variants[variants.index("treatment") :] if "treatment" in variants else True
        cohort = {a.variant for a in user[:4] if a.in_experiment}
        assert len(cohort) <= 1  # once counted, counted as the same until 50 %
        assert [a.stage for a in user] == [0, 1, 2, 3, 4]


def test_the_rest_is_served_control_and_not_counted_until_100_percent():
    early, late = (HashAssignment([running(stage)]) for stage in (1, 4))
    users = [user for user in USERS[:2000] if not early.assign(user, "discovery").in_experiment]
    assert len(users) > 1700
    assert {early.assign(user, "discovery").variant for user in users} == {"control"}
    variants = [late.assign(user, "discovery").variant for user in users]
    assert variants.count("treatment") == len(users)  # the hold-out was counted at 5 % already


@settings(max_examples=25)
@given(cut=st.floats(5, 95), seed=st.integers(0, 1000))
def test_experiments_of_one_layer_never_meet_in_one_user(cut, seed):
    first = experiment(layer_percent=(0.0, cut), seed=seed)
    second = dataclasses.replace(first, name="second", layer_percent=(cut, 100.0))
    owned = [(is_in_layer_part(first, user), is_in_layer_part(second, user)) for user in USERS[:300]]
    assert all(one != other for one, other in owned)  # exactly one of them


def test_two_experiments_of_a_layer_share_a_surface_user_by_user():
    first = running(3, layer_percent=(0.0, 40.0))
    second = running(3, name="second", layer_percent=(40.0, 100.0))
    assignment = HashAssignment([first, second])
    names = [assignment.assign(user, "discovery").experiment for user in USERS[:5000]]
    assert abs(names.count("shelf") - 2000) < 5 * math.sqrt(5000 * 0.4 * 0.6)
    assert names.count("second") == 5000 - names.count("shelf")


def test_a_part_of_a_layer_is_split_in_halves_again_whichever_part_it_is():
    for part in ((0.0, 40.0), (40.0, 100.0)):
        assignment = HashAssignment([running(3, layer_percent=part)])
        found = [a for user in USERS[:5000] if (a := assignment.assign(user, "discovery")).experiment]
        treated = sum(assigned.variant == "treatment" for assigned in found)
        assert abs(treated - len(found) / 2) < 5 * math.sqrt(len(found) / 4)


def test_a_part_of_the_layer_that_nobody_owns_is_served_control():
    assignment = HashAssignment([running(3, layer_percent=(0.0, 40.0))])
    outside = [a for user in USERS[:1000] if (a := assignment.assign(user, "discovery")).experiment is None]
    assert len(outside) > 500
    assert {(a.variant, a.in_experiment) for a in outside} == {("control", False)}


def test_anonymous_users_and_other_surfaces_are_served_control_uncounted():
    assignment = HashAssignment([running(4, control="old")], default="basic")
    assert assignment.assign(None, "discovery").variant == "old"
    assert assignment.assign("u1", "home").variant == "basic"
    for assigned in (assignment.assign(None, "discovery"), assignment.assign("u1", "home")):
        assert (assigned.experiment, assigned.stage, assigned.in_experiment) == (None, None, False)


@pytest.mark.parametrize("ending", ["pause", "stop", "rollback"])
def test_after_an_end_everybody_is_served_control_and_nobody_is_counted(ending):
    assignment = HashAssignment([transition(running(3), ending, 9.0)])
    found = [assignment.assign(user, "discovery") for user in USERS[:500]]
    assert {(a.variant, a.in_experiment) for a in found} == {("control", False)}


def test_a_pause_and_its_end_give_everybody_the_same_cohort_back():
    before = running(2)
    after = transition(transition(before, "pause", 9.0), "resume", 10.0)
    for user in USERS[:500]:
        assert HashAssignment([before]).assign(user, "discovery") == HashAssignment([after]).assign(
            user, "discovery"
        )


def test_completed_experiments_go_on_serving_with_their_hold_out():
    assignment = HashAssignment([transition(running(4), "complete", 9.0)])
    variants = [assignment.assign(user, "discovery").variant for user in USERS[:4000]]
    assert abs(variants.count("control") - 200) < 5 * math.sqrt(4000 * 0.05 * 0.95)
