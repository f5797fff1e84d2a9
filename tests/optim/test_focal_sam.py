import pytest
import torch

from tailwise.optim import EISAM, SAM, FocalSAM
from tailwise.optim.reference import focal_sam_gradient

from .builders import (
    COUNTS,
    ITEMS,
    N_ITEMS,
    Counted,
    TinyRecommender,
    are_identical,
    distance_from_reference,
    train_plainly,
)


def focal_sam(model, **arguments):
    settings = {"counts": COUNTS, "gamma": 2.0, "rho": 0.3, "strength": 0.75, "lr": 0.05} | arguments
    return FocalSAM(model.parameters(), torch.optim.AdamW, **settings)


@pytest.mark.parametrize(
    ("strength", "gradient"),
    [
        # counts 3 and 1, gamma 1: weights 1/4 and 3/4. At (3, 4), N = 2:
        # L^γ = (x²/8 + 3y²/8)/2 has the gradient (3/4, 3)/2, of direction (1, 4)/√17;
        # eps = √17 (1, 4)/√17 = (1, 4); and G_j = (θ_j + λ w_j eps_j)/2.
        (1.0, [(3 + 1 / 4) / 2, (4 + 3) / 2]),
        (2.0, [(3 + 1 / 2) / 2, (4 + 6) / 2]),  # λ beyond 1 goes on linearly
    ],
)
def test_gradient_of_a_quadratic_worked_by_hand(strength, gradient):
    theta = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = FocalSAM(
        [theta],
        torch.optim.SGD,
        counts=torch.tensor([3, 1]),
        gamma=1.0,
        rho=17**0.5,
        strength=strength,
        lr=1.0,
    )
    optimizer.compute_gradient(lambda rows: theta[rows] ** 2 / 2, torch.tensor([0, 1]))
    assert theta.grad.tolist() == pytest.approx(gradient, rel=1e-14)


@pytest.mark.parametrize("strength", [0.75, 1.25])
def test_fast_step_follows_reference_for_100_steps(model, strength):
    # λw is rounded to float32, which the reference does not do: it gets what gives the same product.
    weights = (strength * ((1 - COUNTS.double() / 100) ** 2).float()).double() / strength
    focal = weights[ITEMS[ITEMS >= 0]]
    distance = distance_from_reference(
        model,
        focal_sam(model, strength=strength),
        lambda theta, _: focal_sam_gradient(model.target_losses, theta, focal, rho=0.3, strength=strength),
    )
    # Sums in another order: 1e-16 per step, magnified by AdamW's division and by training itself.
    assert distance < 1e-9


def test_weights_of_one_at_strength_one_are_sam():
    ours, theirs = TinyRecommender(), TinyRecommender()
    optimizer = focal_sam(ours, gamma=0.0, strength=1.0)
    sam = SAM(theirs.parameters(), torch.optim.AdamW, rho=0.3, lr=0.05)
    for _ in range(20):
        optimizer.step(ours.losses, ITEMS)
        sam.step(theirs.losses, ITEMS)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        # The row without a target is left out: the same sums in another order, over 20 steps.
        assert torch.allclose(p, q, rtol=0, atol=1e-10)


def test_focal_sam_is_eisam_with_focal_weights_bitwise():
    ours, theirs = TinyRecommender(), TinyRecommender()
    optimizer = focal_sam(ours)
    weights = ((1 - COUNTS.double() / 100) ** 2).float()
    eisam = EISAM(
        theirs.parameters(), torch.optim.AdamW, item_weights=weights, strength=0.75, rho=0.3, lr=0.05
    )
    for _ in range(20):
        optimizer.step(ours.losses, ITEMS)
        eisam.step(theirs.losses, ITEMS)
    assert are_identical(ours.parameters(), theirs.parameters())


@pytest.mark.parametrize("switched_off", [{"rho": 0.0}, {"strength": 0.0}])
def test_zero_radius_or_strength_equals_the_base_optimizer_bitwise(switched_off):
    ours, plain = TinyRecommender(), TinyRecommender()
    optimizer = focal_sam(ours, **switched_off)
    for _ in range(20):
        optimizer.step(ours.losses, ITEMS)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 20)
    assert are_identical(ours.parameters(), plain.parameters())


def test_the_focal_weight_is_the_power_of_one_minus_the_share_of_interactions(model):
    # Shares 0.4, 0.3, 0.12, 0.08, 0.06, 0.04 and 0, squared complements.
    expected = [0.36, 0.49, 0.7744, 0.8464, 0.8836, 0.9216, 1.0]
    assert focal_sam(model).item_weights.tolist() == pytest.approx(expected, rel=1e-7)  # float32


def test_in_a_catalogue_of_thousands_every_focal_weight_is_near_one():
    counts = 10_000 / torch.arange(1, 5001)  # Zipf: the first item holds 11 % of all interactions
    theta = torch.nn.Parameter(torch.ones(1))
    weights = FocalSAM([theta], torch.optim.SGD, counts=counts, gamma=1.0, rho=0.1).item_weights
    assert weights.min() < 0.9
    assert (weights > 0.99).float().mean() > 0.99  # eleven items hold more than 1 % each


def test_a_single_item_with_all_interactions_weighs_nothing(model):
    counts = torch.zeros(N_ITEMS)
    counts[0] = 5
    assert focal_sam(model, counts=counts).item_weights.tolist() == [0.0, *[1.0] * (N_ITEMS - 1)]


def test_a_step_costs_two_forwards_and_three_backwards(model):
    loss_fn = Counted(model.losses)
    focal_sam(model).step(loss_fn, ITEMS)
    assert (loss_fn.forwards, loss_fn.backwards) == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": -1.0}, r"gamma must be .*; got -1.0"),
        ({"strength": -0.5}, r"strength must be .*; got -0.5"),
        ({"strength": float("inf")}, r"strength must be .*; got inf"),
        ({"counts": torch.zeros(N_ITEMS)}, r"counts must be .*; got values from 0.0 to 0.0"),
        ({"counts": -COUNTS}, r"counts must be .*; got values from -40.0 to -?0.0"),
        ({"counts": COUNTS[None]}, r"counts must be a vector .*; got shape \(1, 7\)"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name_and_value(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        focal_sam(model, **arguments)


def test_a_loaded_state_brings_a_strength_beyond_one_with_it(model):
    saved = focal_sam(model, strength=1.5).state_dict()
    optimizer = focal_sam(model)
    optimizer.load_state_dict(saved)
    assert optimizer.strength == 1.5
