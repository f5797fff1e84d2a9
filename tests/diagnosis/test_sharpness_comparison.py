import json
from dataclasses import replace

import numpy as np
import pytest

from tailwise.diagnosis._sharpness_comparison import compare_sharpness
from tailwise.diagnosis._uncertain import Uncertain
from tests.diagnosis.sharpness_worlds import Quadratic


def world(tail_goal=2.0, tail_bend=1.0, seed=0, noise=0.3, **others):
    """A model whose tail has a gradient of length ``tail_goal * tail_bend``; users are drawn by ``seed``."""
    return Quadratic(
        goals=[[1.0, 0, 0], [0, tail_goal, 0]],
        bends=[[1.0, 1, 1], [1, tail_bend, 1]],
        n_users=40,
        noise=noise,
        user_noise=noise,
        seed=seed,
        **others,
    )


def test_differences_and_ratios_are_those_of_the_two_measurements():
    before, after = world().measure(), world(tail_goal=1.0).measure()
    found = compare_sharpness(before, after)
    tail = found.group("tail")
    values = [s.group("tail").held_out.value for s in (before, after)]
    assert (tail.before, tail.after) == tuple(values)
    assert tail.difference.value == pytest.approx(values[1] - values[0])
    assert tail.ratio.value == pytest.approx(values[1] / values[0])
    assert tail.relative_difference.value == pytest.approx(
        after.group("tail").relative.value - before.group("tail").relative.value
    )
    assert tail.curvature_difference.value == pytest.approx(
        after.group("tail").curvature.value - before.group("tail").curvature.value
    )
    assert tail.ratio.low < tail.ratio.value < tail.ratio.high
    assert (tail.verdict, found.group("head").verdict) == ("flatter", "unclear")
    assert compare_sharpness(after, before).group("tail").verdict == "sharper"


def test_a_model_compared_with_itself_has_not_changed():
    one = world().measure()
    found = compare_sharpness(one, one)
    for group in found.groups:
        assert group.difference.value == 0
        assert group.verdict == "unclear"
        assert group.ratio.value == 1


def test_pairing_on_the_same_targets_makes_the_interval_narrow():
    # The same users with the same noise: both rises err together.
    before, after = world(noise=1.0).measure(), world(noise=1.0, tail_goal=1.9).measure()
    change = compare_sharpness(before, after).group("tail").difference
    alone = before.group("tail").held_out
    assert change.high - change.low < 0.5 * (alone.high - alone.low)


def test_a_treatment_that_does_nothing_is_called_flatter_or_sharper_in_about_5_of_100():
    calls = []
    for seed in range(40):
        before = world(seed=seed, noise=0.8).measure(n_repeats=1, seed=seed)
        # The same curvature and goals, other noise of the same users: a second training of the same kind.
        after = world(seed=seed + 1000, noise=0.8).measure(n_repeats=1, seed=seed)
        calls.append(compare_sharpness(before, after).group("tail").verdict != "unclear")
    assert np.mean(calls) <= 0.15  # six of 40 at 5 %: once in 100


def test_several_seeds_add_their_spread_and_use_its_degrees_of_freedom():
    before = [world(tail_goal=goal).measure() for goal in (2.0, 2.1, 1.9)]
    after = [world(tail_goal=goal).measure() for goal in (1.0, 1.4, 0.6)]
    found = compare_sharpness(before, after)
    tail = found.group("tail")
    differences = [
        b.group("tail").held_out.value - a.group("tail").held_out.value
        for a, b in zip(before, after, strict=True)
    ]
    assert tail.difference.value == pytest.approx(np.mean(differences))
    assert tail.ratio.value == pytest.approx(tail.after / tail.before)  # of means, not mean of ratios
    of_seeds = np.std(differences, ddof=1) / np.sqrt(3)
    users = compare_sharpness(before[0], after[0]).group("tail").difference
    half = (tail.difference.high - tail.difference.low) / 2
    assert half > 4.302 * of_seeds  # t with two degrees of freedom, and the users' part on top
    assert half < 4.303 * np.hypot(of_seeds, (users.high - users.low) / 2)
    assert found.variance == "users+seeds"
    assert found.n_seeds == 3


def test_one_seed_says_that_it_says_nothing_about_training():
    one, two = world().measure(), world(tail_goal=1.0).measure()
    found = compare_sharpness(one, two)
    assert found.variance == "users"
    assert found.notes[0].startswith("One training of each")
    assert found.sentence.startswith("In one training of each, the treatment flattened the tail")
    several = compare_sharpness([one, one], [two, two], treatment_name="EISAM")
    assert several.sentence.startswith("EISAM flattened the tail")
    assert not any("One training" in note for note in several.notes)


def test_intervals_are_those_of_the_treatment_where_the_baseline_is_known():
    before, after = world().measure(), world(tail_goal=1.0).measure()
    zero = np.zeros_like(before.rises)
    known = replace(before, rises=zero, bends=zero, losses=zero)
    tail, alone = compare_sharpness(known, after).group("tail"), after.group("tail")

    def half(u):
        return (u.high - u.low) / 2

    assert half(tail.difference) == pytest.approx(half(alone.held_out))
    assert half(tail.relative_difference) == pytest.approx(half(alone.relative))
    assert half(tail.curvature_difference) == pytest.approx(half(alone.curvature))
    in_logs = np.log(tail.ratio.high / tail.ratio.low) / 2
    assert in_logs == pytest.approx(half(alone.held_out) / alone.held_out.value)
    gap = after.difference("tail", "head")
    assert half(compare_sharpness(known, after).between("tail", "head")) == pytest.approx(half(gap))
    nothing = compare_sharpness(after, after).between("tail", "head")
    assert (nothing.value, nothing.low) == (0, None)  # the same users, the same errors: nothing is left


def test_between_says_whether_one_group_gained_more():
    before, after = world().measure(), world(tail_goal=1.0).measure()
    found = compare_sharpness(before, after)
    gap = found.between("tail", "head")
    tail, head = (found.group(name).difference.value for name in ("tail", "head"))
    assert gap.value == pytest.approx(tail - head)
    assert gap.high < 0
    assert found.between("head", "tail").low == pytest.approx(-gap.high)
    with pytest.raises(ValueError, match="group must be one of head, tail; got 'mid'"):
        found.between("tail", "mid")


def test_a_ratio_needs_values_above_zero():
    before = world().measure()
    negative = replace(before.groups[1], held_out=Uncertain(-0.1))
    found = compare_sharpness(before, replace(before, groups=(before.groups[0], negative)))
    assert found.group("tail").ratio == Uncertain(None)
    assert found.group("tail").difference.value is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 1}, "fingerprint must be the same"),
        ({"rho": 0.2}, "rho must be the same in all measurements; got 0.1 and 0.2"),
        ({"n_random": 3}, "n_random must be the same"),
    ],
)
def test_measurements_of_other_targets_or_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        compare_sharpness(world().measure(), world().measure(**settings))


def test_numbers_of_seeds_that_differ_are_refused():
    one = world().measure()
    with pytest.raises(ValueError, match=r"as many seeds, at least one; got 2 and 1"):
        compare_sharpness([one, one], [one])
    with pytest.raises(ValueError, match=r"as many seeds, at least one; got 0 and 0"):
        compare_sharpness([], [])


def test_results_are_plain_json():
    one = world().measure()
    plain = json.loads(json.dumps(compare_sharpness(one, one).as_dict()))
    assert plain["groups"][1]["verdict"] == "unclear"
    assert plain["variance"] == "users"
