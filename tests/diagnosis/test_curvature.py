import json

import numpy as np
import pytest
import torch

from tailwise.diagnosis._curvature import measure_curvature
from tailwise.diagnosis._group_targets import GroupTargets, draw_halves
from tailwise.diagnosis._hessian import top_eigenvalue
from tailwise.diagnosis._measure_sharpness import targets_in_chunks
from tailwise.diagnosis._moved_losses import MovedLosses
from tests.diagnosis.sharpness_worlds import Quadratic


class TinyNetwork:
    """A random network of 63 parameters in float64 with a softmax over four classes: its Hessian is dense."""

    def __init__(self, seed: int = 0, n_targets: int = 48) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.parameters = [torch.nn.Parameter(draw(5, 6)), torch.nn.Parameter(draw(4, 6)), draw(9)]
        self.parameters[2].requires_grad_(True)
        self.inputs = draw(n_targets, 5)
        self.labels = torch.arange(n_targets) % 4
        self.targets = GroupTargets(
            ("head", "tail"), np.arange(n_targets) // (n_targets // 2), np.arange(n_targets) // 2
        )

    def losses(self, targets):
        first, second, third = self.parameters
        chosen = torch.from_numpy(targets)
        hidden = torch.tanh(self.inputs[chosen] @ first) + third[:6]
        scores = hidden @ second.T + third[5:9]
        return torch.nn.functional.cross_entropy(scores, self.labels[chosen], reduction="none")

    def dense_hessian(self, targets) -> torch.Tensor:
        shapes = [p.shape for p in self.parameters]
        sizes = [p.numel() for p in self.parameters]

        def loss(flat):
            kept = self.parameters
            self.parameters = [part.view(s) for part, s in zip(flat.split(sizes), shapes, strict=True)]
            value = self.losses(targets).mean()
            self.parameters = kept
            return value

        flat = torch.cat([p.detach().flatten() for p in self.parameters])
        return torch.autograd.functional.hessian(loss, flat)


def test_products_with_vectors_are_those_of_the_dense_hessian():
    network = TinyNetwork()
    chosen = np.arange(20)
    for size in (20, 7):  # one batch, or three
        at = MovedLosses(
            network.losses,
            network.parameters,
            lambda t, n=size: [t[i : i + n] for i in range(0, len(t), n)],
        )
        vector = torch.randn(63, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        parts = [v.view(p.shape) for v, p in zip(vector.split([30, 24, 9]), network.parameters, strict=True)]
        found = torch.cat([f.flatten() for f in at.hessian_product(chosen, parts)])
        torch.testing.assert_close(found, network.dense_hessian(chosen) @ vector)


@pytest.mark.parametrize("seed", range(3))
def test_the_top_eigenvalue_is_that_of_the_dense_hessian(seed):
    network = TinyNetwork(seed)
    found = measure_curvature(network.losses, network.parameters, network.targets, tolerance=1e-6)
    halves = draw_halves(network.targets, at_most=300, n_splits=1, seed=0).targets[0]
    for g, group in enumerate(found.groups):
        hessians = [network.dense_hessian(half[g]) for half in halves]
        values, vectors = zip(*(torch.linalg.eigh(h) for h in hessians), strict=True)
        # A relative residual of 1e-6 bounds the error of an eigenvalue by 1e-6 of it.
        assert group.eigenvalue == pytest.approx(float(sum(v[-1] for v in values)) / 2, rel=1e-6)
        tops = [v[:, -1] for v in vectors]
        held_out = [float(top @ h @ top) for top, h in zip(tops, hessians[::-1], strict=True)]
        assert group.held_out.value == pytest.approx(np.mean(held_out), rel=1e-4)
        assert group.is_converged
        assert group.residual <= 1e-6
        assert group.held_out.low < group.held_out.value < group.held_out.high


def test_the_largest_algebraic_eigenvalue_is_found_beside_a_larger_negative_one():
    world = Quadratic(goals=[[0.0] * 3] * 2, bends=[[-7, 2, 1], [-1, -2, -3]])
    head, tail = measure_curvature(world.losses, [world.point], world.targets).groups
    assert head.eigenvalue == pytest.approx(2, rel=0.02)  # the tolerance is 0.01
    assert tail.eigenvalue == pytest.approx(-1, rel=0.02)


def test_noise_inflates_the_eigenvalue_of_a_sample_and_not_its_companion():
    # Logistic losses at zero: the Hessian of a mean is the mean of xxᵀ/4, with truth 1/4 everywhere.
    inflated, held_out = [], []
    for seed in range(6):
        x = torch.from_numpy(np.random.default_rng(seed).standard_normal((80, 20)))
        point = torch.nn.Parameter(torch.zeros(20, dtype=torch.float64))
        targets = GroupTargets(("a",), np.zeros(80), np.arange(80))
        found = measure_curvature(
            lambda t, x=x, point=point: torch.nn.functional.softplus(x[t] @ point), [point], targets
        )
        inflated.append(found.groups[0].eigenvalue)
        held_out.append(found.groups[0].held_out.value)
    assert min(inflated) > 0.45  # of 40 vectors in 20 dimensions: (1 + √½)²/4 = 0.73 in the limit
    error = np.std(held_out, ddof=1) / np.sqrt(6)
    assert abs(np.mean(held_out) - 0.25) < 4 * error  # t with 5 degrees of freedom: 1 in 100


def test_too_few_products_are_reported_and_give_no_number():
    generator = np.random.default_rng(0)
    bends = torch.from_numpy(np.sort(1 + 1e-3 * generator.random(400)))  # all alike: hard to tell apart
    point = torch.nn.Parameter(torch.zeros(400, dtype=torch.float64))
    targets = GroupTargets(("a",), [0] * 8, list(range(8)))
    found = measure_curvature(
        lambda t: 0.5 * (bends * point.square()).sum() * torch.ones(t.size),
        [point],
        targets,
        tolerance=1e-9,
        max_products=20,
    )
    (group,) = found.groups
    assert (group.eigenvalue, group.held_out.value, group.residual) == (None, None, None)
    assert not group.is_converged
    assert group.n_products >= 20


def test_a_loss_without_curvature_has_eigenvalue_zero():
    point = torch.nn.Parameter(torch.ones(3))
    targets = GroupTargets(("a",), [0] * 8, list(range(8)))
    for losses in (lambda t: point.sum() * torch.ones(t.size), lambda t: torch.ones(t.size) + 0 * point[0]):
        (group,) = measure_curvature(losses, [point], targets).groups
        assert (group.eigenvalue, group.held_out.value, group.is_converged) == (0.0, 0.0, True)


def test_a_single_parameter_needs_no_iteration():
    world = Quadratic(goals=[[1.0], [2.0]], bends=[[3.0], [5.0]])
    head, tail = measure_curvature(world.losses, [world.point], world.targets).groups
    assert (head.eigenvalue, tail.eigenvalue) == (pytest.approx(3), pytest.approx(5))
    assert head.n_products == 2


def test_the_start_is_seeded_and_float32_parameters_are_served_in_float32():
    bend = torch.linspace(1, 30, 30)
    point = torch.nn.Parameter(torch.zeros(30))
    targets = GroupTargets(("a",), [0] * 8, list(range(8)))
    at = MovedLosses(
        lambda t: 0.5 * (bend * point.square()).sum() * torch.ones(t.size),
        [point],
        targets_in_chunks(targets),
    )
    tops = [
        top_eigenvalue(at, np.arange(8), tolerance=0.001, max_products=200, seed=seed) for seed in (0, 0, 1)
    ]
    assert tops[0].vector[0].dtype == torch.float32
    assert torch.equal(tops[0].vector[0], tops[1].vector[0])
    assert not torch.equal(tops[0].vector[0], tops[2].vector[0])
    assert tops[2].value == pytest.approx(30, rel=0.002)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": 0.0}, r"tolerance must be in \(0, 1\); got 0.0"),
        ({"tolerance": 1.0}, r"tolerance must be in \(0, 1\); got 1.0"),
        ({"max_products": 19}, r"max_products must be >= 20; got 19"),
        ({"n_targets_per_group": 1}, r"n_targets_per_group must be >= 2; got 1"),
    ],
)
def test_arguments_out_of_range_are_refused(settings, message):
    world = Quadratic(goals=[[1.0, 1.0]] * 2, bends=[[3.0, 1.0]] * 2)
    with pytest.raises(ValueError, match=message):
        measure_curvature(world.losses, [world.point], world.targets, **settings)


def test_results_are_plain_json_and_products_are_told():
    world = Quadratic(goals=[[1.0, 1.0, 1.0]] * 2, bends=[[3.0, 1.0, 2.0]] * 2)
    seen = []
    found = measure_curvature(world.losses, [world.point], world.targets, progress=seen.append)
    assert json.loads(json.dumps(found.as_dict()))["groups"][0]["name"] == "head"
    assert seen[0] == 1
    assert sum(group.n_products for group in found.groups) == len(seen)
