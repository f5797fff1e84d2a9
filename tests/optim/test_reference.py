import pytest
import torch

from tailwise.optim.reference import (
    asam_gradient,
    eisam_gradient,
    focal_sam_gradient,
    group_sam_gradient,
    imbsam_gradient,
    look_sam_gradient,
    momentum_sam_gradient,
    sam_gradient,
)

# l_0 = x²/2 and l_1 = y²/2 at (3, 4): gradients (3, 0) and (0, 4), N = 2.
THETA = [torch.tensor([3.0, 4.0], dtype=torch.float64)]


def halved_squares(parameters):
    return parameters[0] ** 2 / 2


def test_sam_reference_of_a_quadratic_worked_by_hand():
    # g = (3, 4)/2, eps = 2.5 (3, 4)/5 = (1.5, 2), gradient at (4.5, 6) = (4.5, 6)/2.
    (gradient,) = sam_gradient(halved_squares, THETA, rho=2.5)
    assert torch.allclose(gradient, torch.tensor([2.25, 3.0], dtype=torch.float64))


def test_eisam_reference_of_a_quadratic_worked_by_hand():
    # c = (0, 1): g_w = (0, 4)/2, eps = (0, 2.5); head at theta, tail at 6.5: (3, 6.5)/2.
    (gradient,) = eisam_gradient(halved_squares, THETA, torch.tensor([0.0, 1.0]), rho=2.5)
    assert torch.allclose(gradient, torch.tensor([1.5, 3.25], dtype=torch.float64))


def test_eisam_reference_with_unit_strengths_is_the_sam_reference(model):
    theta = list(model.parameters())
    n_targets = int((model.items >= 0).sum())
    of_sam = sam_gradient(model.target_losses, theta, rho=0.3)
    of_eisam = eisam_gradient(model.target_losses, theta, torch.ones(n_targets), rho=0.3)
    for a, b in zip(of_sam, of_eisam, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)  # sums of 10 float64 terms in another order


def test_references_at_a_stationary_point_are_zero():
    stationary = [torch.zeros(2, dtype=torch.float64)]
    assert sam_gradient(halved_squares, stationary, rho=1.0)[0].tolist() == [0.0, 0.0]
    assert eisam_gradient(halved_squares, stationary, torch.ones(2), rho=1.0)[0].tolist() == [0.0, 0.0]


# The rivals' references, at (3, 4) with two targets unless said otherwise


def test_asam_reference_of_a_quadratic_worked_by_hand():
    # T = (4, 5), T g = (12, 20)/2, T² g = (48, 100)/2: eps = rho (48, 100)/√544.
    (gradient,) = asam_gradient(halved_squares, THETA, rho=544**0.5, eta=1.0)
    assert gradient.tolist() == pytest.approx([51 / 2, 104 / 2], rel=1e-14)


def test_imbsam_reference_of_a_quadratic_worked_by_hand():
    (gradient,) = imbsam_gradient(halved_squares, THETA, torch.tensor([False, True]), rho=2.5)
    assert gradient.tolist() == [1.5, 3.25]


def test_focal_sam_reference_of_a_quadratic_worked_by_hand():
    # Weights (1/4, 3/4): ∇L^γ = (3/4, 3)/2, eps = √17 (1, 4)/√17, G_j = (θ_j + 2 w_j eps_j)/2.
    focal = torch.tensor([0.25, 0.75], dtype=torch.float64)
    (gradient,) = focal_sam_gradient(halved_squares, THETA, focal, rho=17**0.5, strength=2.0)
    assert gradient.tolist() == pytest.approx([(3 + 0.5) / 2, (4 + 6) / 2], rel=1e-14)


def test_group_sam_reference_of_a_quadratic_worked_by_hand():
    (gradient,) = group_sam_gradient(halved_squares, THETA, torch.tensor([0, 1]), rhos=[1.0, 2.0])
    assert gradient.tolist() == pytest.approx([(3 + 1) / 2, (4 + 2) / 2], rel=1e-14)


def test_look_sam_reference_of_a_quadratic_worked_by_hand():
    # One target (x² + 3y²)/2 at (1, 1): g = (1, 3), g_s = (2, 12), g_v = g_s − 3.8 g = (−1.8, 0.6).
    def loss(parameters):
        return ((parameters[0] ** 2 * torch.tensor([1.0, 3.0])) / 2).sum()[None]

    theta = [torch.ones(2, dtype=torch.float64)]
    (gradient,), g_v = look_sam_gradient(loss, theta, None, rho=10**0.5, alpha=0.5)
    assert gradient.tolist() == pytest.approx([2.0, 12.0], rel=1e-14)
    assert g_v[0].tolist() == pytest.approx([-1.8, 0.6], rel=1e-14)
    (gradient,), _ = look_sam_gradient(loss, theta, g_v, rho=10**0.5, alpha=0.5)
    assert gradient.tolist() == pytest.approx([1 - 1.5, 3 + 0.5], rel=1e-14)  # ‖g‖/‖g_v‖ = √(10/3.6) = 5/3


def test_momentum_sam_reference_of_a_quadratic_worked_by_hand():
    # The momentum (0, -7) points down the second axis; against it lies (0, 2).
    momentum = [torch.tensor([0.0, -7.0], dtype=torch.float64)]
    (gradient,) = momentum_sam_gradient(halved_squares, THETA, momentum, rho=2.0)
    assert gradient.tolist() == [1.5, 3.0]
