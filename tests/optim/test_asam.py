import math

import pytest
import torch

from tailwise.optim import ASAM, SAM
from tailwise.optim.reference import asam_gradient

from .builders import Counted, TinyRecommender, are_identical, distance_from_reference, train_plainly


def test_gradient_of_a_quadratic_worked_by_hand():
    # l_0 = x²/2, l_1 = y²/2 at (3, -1), eta = 1: T = (4, 2), T g = (12, -2)/2, so that
    # eps = rho (48, -4)/√148, and the gradient at theta + eps is half of it.
    theta = torch.nn.Parameter(torch.tensor([3.0, -1.0], dtype=torch.float64))
    optimizer = ASAM([theta], torch.optim.SGD, rho=0.5, eta=1.0, lr=1.0)
    loss = optimizer.compute_gradient(lambda rows: theta[rows] ** 2 / 2, torch.tensor([0, 1]))
    assert loss.item() == 2.5
    expected = [(3 + 24 / math.sqrt(148)) / 2, (-1 - 2 / math.sqrt(148)) / 2]
    assert theta.grad.tolist() == pytest.approx(expected, rel=1e-14)


def test_fast_step_follows_reference_for_100_steps(model):
    optimizer = ASAM(model.parameters(), torch.optim.AdamW, rho=0.5, eta=0.05, lr=0.05)
    distance = distance_from_reference(
        model, optimizer, lambda theta, _: asam_gradient(model.target_losses, theta, rho=0.5, eta=0.05)
    )
    # Sums in another order: 1e-16 per step, magnified by AdamW's division and by training itself.
    assert distance < 1e-9


def test_asam_is_adaptive_sam_bitwise():
    ours, theirs = TinyRecommender(), TinyRecommender()
    asam = ASAM(ours.parameters(), torch.optim.AdamW, rho=0.5, eta=0.05, lr=0.05)
    sam = SAM(theirs.parameters(), torch.optim.AdamW, rho=0.5, eta=0.05, adaptive=True, lr=0.05)
    for _ in range(20):
        asam.step(ours.losses, ours.items)
        sam.step(theirs.losses, theirs.items)
    assert are_identical(ours.parameters(), theirs.parameters())


def test_without_floor_the_loss_seen_does_not_change_when_layers_are_rescaled_against_each_other():
    """A linear two-layer model is the same function with its first layer times 8 and its second over 8."""
    features = torch.randn(6, 4, dtype=torch.float64)
    start = torch.randn(4, 3, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)

    def perturbed_losses(method, factor, **arguments):
        first, second = (torch.nn.Parameter(w * f) for w, f in zip(start, (factor, 1 / factor), strict=True))
        seen = []

        def losses(rows):
            seen.append((features[rows] @ first @ second).pow(2).sum(1))
            return seen[-1]

        method([first, second], torch.optim.SGD, rho=0.5, **arguments).compute_gradient(
            losses, torch.arange(6)
        )
        return seen[1].detach()

    plain, rescaled = (perturbed_losses(ASAM, factor, eta=0.0) for factor in (1, 8))
    assert torch.allclose(plain, rescaled, rtol=1e-12)  # products of powers of two are exact; norms are not
    plain, rescaled = (perturbed_losses(SAM, factor) for factor in (1, 8))
    assert not torch.allclose(plain, rescaled, rtol=0.1)


def test_biases_are_scaled_like_weights():
    """The authors' code leaves T at 1 for biases; here an entry at zero moves by ρ η² g/‖T g‖ like any."""
    model = torch.nn.Linear(2, 3, dtype=torch.float64)
    torch.nn.init.zeros_(model.bias)
    seen = []

    def losses(rows):
        seen.append(model.bias.detach().clone())
        return torch.nn.functional.cross_entropy(
            model(torch.ones(3, 2, dtype=torch.float64))[rows], torch.arange(3)[rows] % 2, reduction="none"
        )

    ASAM(model.parameters(), torch.optim.SGD, rho=0.5, eta=0.01).compute_gradient(losses, torch.arange(3))
    assert 0 < (seen[1] - seen[0]).norm().item() < 0.01  # T is 0.01 there, and near 0.5 at the weights


def test_zero_radius_equals_the_base_optimizer_bitwise():
    ours, plain = TinyRecommender(), TinyRecommender()
    optimizer = ASAM(ours.parameters(), torch.optim.AdamW, rho=0.0, lr=0.05)
    for _ in range(50):
        optimizer.step(ours.losses, ours.items)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 50)
    assert are_identical(ours.parameters(), plain.parameters())


def test_a_step_costs_two_forwards_and_two_backwards(model):
    loss_fn = Counted(model.losses)
    ASAM(model.parameters(), torch.optim.AdamW).step(loss_fn, model.items)
    assert (loss_fn.forwards, loss_fn.backwards) == (2, 2)
