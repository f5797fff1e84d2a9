import torch

from tailwise.optim.reference import eisam_gradient, sam_gradient

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
