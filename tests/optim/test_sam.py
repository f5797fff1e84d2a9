import pytest
import torch

from tailwise.optim import SAM
from tailwise.optim.reference import sam_gradient

from .builders import Counted, TinyRecommender, are_identical, train_plainly


def test_gradient_of_a_quadratic_worked_by_hand():
    # l_0 = x²/2, l_1 = y²/2 at (3, 4): g = (3, 4)/2, eps = 2.5 (3, 4)/5 = (1.5, 2), and the
    # gradient at (4.5, 6) is (4.5, 6)/2. The mean loss at theta is (9/2 + 16/2)/2.
    theta = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = SAM([theta], torch.optim.SGD, rho=2.5, lr=1.0)
    loss = optimizer.compute_gradient(lambda rows: theta[rows] ** 2 / 2, torch.tensor([0, 1]))
    assert loss.item() == 6.25
    assert torch.allclose(theta.grad, torch.tensor([2.25, 3.0], dtype=torch.float64), rtol=1e-15)


def test_fast_step_follows_reference_for_100_steps(model):
    theta = [p.detach().clone().requires_grad_() for p in model.parameters()]
    base = torch.optim.AdamW(theta, lr=0.05)
    optimizer = SAM(model.parameters(), torch.optim.AdamW, rho=0.3, lr=0.05)
    for _ in range(100):
        optimizer.step(model.losses, model.items)
        for p, g in zip(theta, sam_gradient(model.target_losses, theta, rho=0.3), strict=True):
            p.grad = g
        base.step()
    for p, q in zip(model.parameters(), theta, strict=True):
        # Sums in another order: 1e-16 per step, magnified by AdamW's division and by training itself.
        assert torch.allclose(p, q, rtol=0, atol=1e-9)


def test_zero_radius_equals_the_base_optimizer_bitwise():
    ours, plain = TinyRecommender(), TinyRecommender()
    optimizer = SAM(ours.parameters(), torch.optim.AdamW, rho=0.0, lr=0.05)
    loss_fn = Counted(ours.losses)
    for _ in range(50):
        optimizer.step(loss_fn, ours.items)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 50)
    assert are_identical(ours.parameters(), plain.parameters())
    assert (loss_fn.forwards, loss_fn.backwards) == (50, 50)


def test_a_step_costs_two_forwards_and_two_backwards(model):
    loss_fn = Counted(model.losses)
    SAM(model.parameters(), torch.optim.AdamW, rho=0.3).step(loss_fn, model.items)
    assert (loss_fn.forwards, loss_fn.backwards) == (2, 2)


@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf")])
def test_radius_out_of_range_is_refused(rho):
    with pytest.raises(ValueError, match=f"rho must be .*; got {rho}"):
        SAM([torch.nn.Parameter(torch.ones(1))], torch.optim.SGD, rho=rho)
