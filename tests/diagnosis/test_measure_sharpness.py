import json

import numpy as np
import pytest
import torch
from scipy import stats

from tailwise.diagnosis._group_targets import GroupTargets, draw_halves
from tailwise.diagnosis._measure_sharpness import measure_sharpness
from tests.diagnosis.sharpness_worlds import Quadratic

STEEP = Quadratic(goals=[[1, 0, 0], [0, 3, 0]], bends=[[2, 1, 1], [1, 0.5, 1]])


def test_a_quadratic_without_noise_has_the_closed_form():
    # Gradient of the head -2e₁, of the tail -1.5e₂; θ moves by 0.1 away from the goal.
    head, tail = STEEP.measure().groups
    assert head.held_out.value == pytest.approx(0.1 * 2 + 0.5 * 0.01 * 2, abs=1e-9)
    assert tail.held_out.value == pytest.approx(0.1 * 1.5 + 0.5 * 0.01 * 0.5, abs=1e-9)
    assert head.curvature.value == pytest.approx(0.5 * 0.01 * 2, abs=1e-9)
    assert head.slope.value == pytest.approx(0.1 * 2, abs=1e-9)
    assert (head.gradient_norm, tail.gradient_norm) == (pytest.approx(2), pytest.approx(1.5))
    assert head.agreement == pytest.approx(1)
    assert head.in_sample == pytest.approx(head.held_out.value)
    assert head.loss.value == pytest.approx(1 + 0.5 * 2)
    assert head.relative.value == pytest.approx(head.held_out.value / 2)


def test_cross_terms_say_what_moving_to_one_groups_worst_does_to_the_other():
    head, tail = STEEP.measure().cross
    # The head's step is -0.1 e₁: for the tail, whose goal is on another axis, only the bend of 1.
    assert head[1].value == pytest.approx(0.5 * 0.01 * 1, abs=1e-9)
    assert tail[0].value == pytest.approx(0.5 * 0.01 * 1, abs=1e-9)
    assert head[0].value == STEEP.measure().group("head").held_out.value


def test_opposite_goals_make_one_groups_worst_the_others_gain():
    found = Quadratic(goals=[[1.0, 0.0], [-1.0, 0.0]], bends=[[1, 1], [1, 1]]).measure()
    assert found.cross[0][1].value == pytest.approx(-0.1 + 0.005, abs=1e-9)


def test_random_directions_raise_the_loss_by_half_the_mean_curvature():
    bends = [[1.0] * 50, [4.0] * 50]
    world = Quadratic(goals=[[0.0] * 50] * 2, bends=bends, noise=0.1, user_noise=0.1)
    head, tail = world.measure(rho=0.5, n_repeats=3, n_random=20).groups
    # Sixty directions in 50 dimensions with equal bends: ½ρ²·bend, but for the noise of the mean gradient.
    assert head.random.value == pytest.approx(0.125, abs=0.01)
    assert tail.random.value == pytest.approx(0.5, abs=0.04)
    assert head.above_random.value == pytest.approx(head.held_out.value - head.random.value)
    assert 0 < head.random_spread < 0.1


def test_the_excess_over_random_directions_is_paired_with_them():
    # One parameter: a random direction is the gradient's or its opposite.
    world = Quadratic(goals=[[1.0], [2.0]], bends=[[1.0], [1.0]], noise=0.3, user_noise=0.3)
    head = world.measure(seed=3).group("head")
    rises = [head.held_out.value - 2 * head.slope.value * (k / 6) for k in range(7)]  # k of six against it
    k = int(np.argmin(np.abs(np.array(rises) - head.random.value)))
    assert k == 1
    assert head.random.value == pytest.approx(rises[k], rel=1e-3)
    # Directions along the gradient err as the held-out rise does, and cancel in the difference.
    error, of_directions = (
        (u.high - u.low) / 2 / stats.t.ppf(0.975, head.n_users - 1) for u in (head.above_random, head.slope)
    )
    expected = np.hypot(2 * k / 6 * of_directions, head.random_spread / np.sqrt(6))
    assert error == pytest.approx(expected, rel=1e-3)  # the splits differ a little


def test_a_group_whose_loss_no_parameter_moves_is_flat():
    point = torch.nn.Parameter(torch.ones(2))
    moves = torch.tensor([1.0, 0.0])
    targets = GroupTargets(("a", "b"), [0, 1] * 10, np.repeat(np.arange(10), 2))
    found = measure_sharpness(
        lambda t: 3 + moves[torch.from_numpy(t) % 2] * point.square().sum(), [point], targets
    )
    flat = found.group("b")
    assert (flat.held_out.value, flat.curvature.value, flat.agreement, flat.gradient_norm) == (0, 0, 0, 0)
    assert found.group("a").held_out.value > 0


def test_pure_noise_makes_a_small_group_look_sharper_in_sample_and_not_held_out():
    # Equal true curvature, no gradient at all. The naive way: all targets of each group, its own
    # gradient, its own loss. The tail has a thirtieth of the head's targets.
    naive, held_out = [], []
    for seed in range(8):
        world = Quadratic(
            goals=[[0.0] * 30] * 2, bends=[[1.0] * 30] * 2, n_users=60, n_per_user=(30, 1), noise=1, seed=seed
        )
        gradients = [-world.x[world.groups == g].mean(0) for g in (0, 1)]
        naive.append([float(0.3 * slope.norm() + 0.5 * 0.09) for slope in gradients])
        held_out.append([group.held_out.value for group in world.measure(rho=0.3).groups])
    head, tail = np.mean(naive, axis=0)
    assert tail > 2 * head  # 0.3·√(30/60) against 0.3·√(30/1800), beside 0.045 of curvature
    differences = np.diff(held_out, axis=1)
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    assert abs(differences.mean()) < 3 * error  # noise alone: three standard errors
    assert np.mean(held_out) == pytest.approx(0.045, abs=3 * np.std(held_out) / 4)


def test_in_sample_lies_above_held_out_by_the_noise_of_the_direction():
    world = Quadratic(goals=[[0.0] * 30] * 2, bends=[[1.0] * 30] * 2, noise=1, seed=3)
    for group in world.measure().groups:
        assert group.in_sample > group.held_out.value + 0.05
        assert abs(group.agreement) < 0.5


def test_every_group_is_measured_on_as_many_targets_as_the_scarcest_has():
    world = Quadratic(goals=[[1, 0], [0, 1]], bends=[[1, 1], [1, 1]], n_users=11, n_per_user=(7, 3))
    found = world.measure()
    assert found.n_per_group == 5 * 3  # of 11 users a half has at least 5, three tail targets each
    assert [group.n_available for group in found.groups] == [77, 33]
    assert world.measure(n_targets_per_group=4).n_per_group == 4


def test_influences_are_the_derivatives_of_the_average_by_the_weights_of_users():
    world = Quadratic(
        goals=[[0.5, 0, 0], [0, 0.4, 0]], bends=[[3.0, 1, 0.5], [1, 2, 0.5]], noise=0.8, user_noise=0.5
    )
    found = world.measure(n_repeats=1, rho=0.3)
    halves = draw_halves(world.targets, at_most=None, n_splits=1, seed=0).targets[0]
    weights = torch.ones(world.n_users, dtype=torch.float64, requires_grad=True)
    for g in (0, 1):

        def mean(values, half):  # of targets that weigh as their users do
            of_targets = weights[torch.from_numpy(world.users[half])]
            return of_targets @ values / of_targets.sum()

        rises, bends = [], []
        for here, there in ((halves[0][g], halves[1][g]), (halves[1][g], halves[0][g])):
            bend = world.bend[here]
            slope = mean(-bend * world.x[here], here)
            step = 0.3 * slope / slope.norm()
            apart = [sign * step - world.x[there] for sign in (1, 0, -1)]
            ahead, still, behind = ((0.5 * world.bend[there] * a * a).sum(1) for a in apart)
            rises.append(mean(ahead - still, there))
            bends.append(mean((ahead + behind) / 2 - still, there))
        for what, of_users in ((rises, found.rises), (bends, found.bends)):
            (expected,) = torch.autograd.grad(sum(what) / 2, weights, retain_graph=True)
            # Equal bends within a group: the one-sided difference is exact up to float64.
            np.testing.assert_allclose(of_users[:, g], expected.numpy(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("what", "position"), [("held_out", 0), ("curvature", 1), ("difference", 2)])
def test_intervals_hold_the_truth_in_about_95_of_100_draws(what, position, coverage):
    truth = coverage.values[:, position].mean()  # over draws: the expectation at this number of targets
    low, high = coverage.intervals[:, position].T
    held = np.mean((low <= truth) & (truth <= high))
    # 60 draws at 95 %: below 0.85 once in 1,000. Curvature is skewed, and covered less (decision 0012).
    assert held >= (0.8 if what == "curvature" else 0.85)
    error = coverage.values[:, position].std(ddof=1)
    assert 0.75 < np.mean(high - low) / 4 / error < 1.6


class _Coverage:
    def __init__(self) -> None:
        values, intervals = [], []
        for seed in range(60):
            world = Quadratic(
                goals=[[0.6, 0, 0, 0, 0, 0], [0, 0.6, 0, 0, 0, 0]],
                bends=[[3, 1, 1, 0.5, 0.5, 0.5], [1, 3, 1, 0.5, 0.5, 0.5]],
                n_users=50,
                n_per_user=(3, 5),
                noise=0.7,
                user_noise=0.7,
                seed=seed,
            )
            found = world.measure(rho=0.3, n_repeats=2, seed=seed)
            seen = (found.groups[0].held_out, found.groups[0].curvature, found.difference("tail", "head"))
            values.append([u.value for u in seen])
            intervals.append([(u.low, u.high) for u in seen])
        self.values, self.intervals = np.array(values), np.array(intervals)


@pytest.fixture(scope="module")
def coverage():
    return _Coverage()


def test_the_interval_is_wider_where_targets_of_a_user_are_alike():
    def width(noise, user_noise):
        world = Quadratic(
            goals=[[1, 0], [0, 1]], bends=[[1, 1], [1, 1]], n_users=60, noise=noise, user_noise=user_noise
        )
        rise = world.measure().group("head").held_out
        return rise.high - rise.low

    # Four targets of a user count as one: twice the width, up to the draw.
    assert width(0.0, 0.5) > 1.5 * width(0.5, 0.0)


def test_parameters_are_restored_bit_for_bit_and_gradients_left_alone():
    point = torch.nn.Parameter(torch.randn(5, generator=torch.Generator().manual_seed(0)) / 3)
    before = point.detach().clone()
    targets = GroupTargets(("a", "b"), [0, 1] * 10, np.repeat(np.arange(10), 2))
    measure_sharpness(lambda t: (point * torch.from_numpy(t)[:, None]).square().sum(1), [point], targets)
    assert torch.equal(point, before)
    assert point.grad is None


def test_parameters_are_restored_after_an_error():
    point = torch.nn.Parameter(torch.full((3,), 1 / 3))
    before = point.detach().clone()

    def losses(targets):
        if not torch.equal(point, before):
            raise RuntimeError("while moved")
        return point.sum() * torch.from_numpy(targets).float()

    targets = GroupTargets(("a",), [0] * 8, list(range(8)))
    with pytest.raises(RuntimeError, match="while moved"):
        measure_sharpness(losses, [point], targets)
    assert torch.equal(point, before)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_other_draws():
    world = Quadratic(goals=[[1, 0], [0, 1]], bends=[[1, 2], [1, 1]], noise=1)
    first, again, other = (world.measure(n_targets_per_group=7, seed=seed) for seed in (0, 0, 1))
    assert first.groups == again.groups
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert np.array_equal(first.rises, again.rises)


def test_batches_change_nothing_but_rounding():
    world = Quadratic(goals=[[1, 0], [0, 1]], bends=[[1, 2], [1, 1]], noise=1)
    whole = world.measure()
    seen = []

    def threes(targets):
        seen.append(targets.size)
        return np.array_split(targets, max(1, targets.size // 3))

    parts = world.measure(batches=threes)
    assert seen
    for one, other in zip(whole.groups, parts.groups, strict=True):
        # Means of float64 losses in another order.
        assert other.held_out.value == pytest.approx(one.held_out.value, rel=1e-9)
        assert other.held_out.high == pytest.approx(one.held_out.high, rel=1e-6)


def test_per_item_parameters_stay_put_unless_asked_to_move():
    shared, rows = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(4))

    def losses(targets):
        return shared.square().sum() + rows[torch.from_numpy(targets) % 4]

    targets = GroupTargets(("a",), [0] * 12, list(range(12)))
    groups = [{"params": [("shared", shared)]}, {"params": [("rows", rows)], "per_item": True}]
    assert measure_sharpness(losses, groups, targets).n_parameters == 2
    assert measure_sharpness(losses, groups, targets, perturb="all").n_parameters == 6
    assert measure_sharpness(losses, groups, targets, perturb="ro*").n_parameters == 4
    assert set(groups[0]) == {"params"}  # the caller's groups are not written to


def test_a_target_of_no_group_is_never_evaluated():
    point = torch.nn.Parameter(torch.ones(2))
    seen = set()

    def losses(targets):
        seen.update(targets.tolist())
        return point.square().sum() * torch.ones(targets.size)

    labels = [0, -1] * 10
    targets = GroupTargets(("a",), labels, np.repeat(np.arange(10), 2))
    measure_sharpness(losses, [point], targets, n_targets_per_group=None)
    assert seen
    assert all(t % 2 == 0 for t in seen)


def test_dropout_left_on_is_noticed():
    point = torch.nn.Parameter(torch.linspace(1, 2, 50).square())  # no two masks give the same sum
    targets = GroupTargets(("a",), [0] * 8, list(range(8)))
    with pytest.raises(
        ValueError, match=r"losses must be the same when evaluated twice; got (?s:.*)eval\(\)"
    ):
        measure_sharpness(
            lambda t: torch.nn.functional.dropout(point).sum() * torch.ones(t.size), [point], targets
        )


def test_low_precision_is_refused_where_it_would_swallow_the_step():
    half = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    targets = GroupTargets(("a",), [0] * 8, list(range(8)))
    with pytest.raises(ValueError, match=r"float32 or float64; got torch.bfloat16"):
        measure_sharpness(lambda t: half.sum() * torch.ones(t.size), [half], targets)
    full = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match=r"losses must be float32 or float64; got torch.bfloat16"):
        measure_sharpness(lambda t: (full.sum() * torch.ones(t.size)).bfloat16(), [full], targets)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rho": 0.0}, r"rho must be a finite number > 0; got 0.0"),
        ({"rho": float("nan")}, r"rho must be a finite number > 0; got nan"),
        ({"n_repeats": 0}, r"n_repeats must be >= 1; got 0"),
        ({"n_random": 1}, r"n_random must be >= 2; got 1"),
        ({"n_targets_per_group": 1}, r"n_targets_per_group must be >= 2; got 1"),
        ({"perturb": "lora*"}, r"perturb='lora\*' needs parameters with names"),
    ],
)
def test_arguments_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        STEEP.measure(**settings)


def test_a_loss_that_is_not_finite_or_not_one_per_target_is_refused():
    point = torch.nn.Parameter(torch.ones(1))
    targets = GroupTargets(("a",), [0] * 8, list(range(8)))
    with pytest.raises(FloatingPointError, match="got 8 of 8 that are not"):
        measure_sharpness(lambda t: point / 0 * torch.ones(t.size), [point], targets)
    with pytest.raises(ValueError, match=r"one loss per target, shape \(8,\); got \(1,\)"):
        measure_sharpness(lambda t: point, [point], targets)


def test_progress_ends_at_its_total():
    seen = []
    STEEP.measure(progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] == 3 * (2 + 2 * 2 * 5 + 2 * 2)


def test_results_are_plain_json():
    text = json.dumps(STEEP.measure().as_dict())
    assert '"held_out"' in text
    assert json.loads(text)["n_parameters"] == 3


def test_an_unknown_group_is_refused():
    with pytest.raises(ValueError, match="group must be one of head, tail; got 'mid'"):
        STEEP.measure().group("mid")
