import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tailwise.optim import EISAM, SAM, item_weights
from tailwise.optim.reference import eisam_gradient

from .builders import (
    ITEM_WEIGHTS,
    ITEMS,
    N_ITEMS,
    Counted,
    TinyRecommender,
    Watched,
    are_identical,
    copies,
    make,
    train_plainly,
)

ROWS_WITH_POSITIVE_WEIGHT = [0, 1, 3]  # item 0 weighs 0: rows 2 and 5 hold nothing else, row 4 no target


def eisam(model, base=torch.optim.AdamW, **arguments):
    settings = {"item_weights": ITEM_WEIGHTS, "rho": 0.3, "lr": 0.05} | arguments
    return EISAM(model.parameters(), base, **settings)


# Identities


@pytest.mark.parametrize("switched_off", [{"rho": 0.0}, {"strength": 0.0}])
def test_zero_radius_or_strength_equals_the_base_optimizer_bitwise(switched_off):
    ours, plain = TinyRecommender(), TinyRecommender()
    optimizer = eisam(ours, **switched_off)
    for _ in range(50):
        optimizer.step(ours.losses, ours.items)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 50)
    assert are_identical(ours.parameters(), plain.parameters())


@pytest.mark.parametrize("switched_off", [{"rho": 0.0}, {"strength": 0.0}])
def test_zero_radius_or_strength_without_short_circuit_agrees_within_rounding(switched_off):
    ours, plain = TinyRecommender(), TinyRecommender()
    optimizer = eisam(ours, short_circuit=False, **switched_off)
    for _ in range(50):
        optimizer.step(ours.losses, ours.items)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 50)
    for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
        # (1-c) g + c g rounds at 1e-16 per step, magnified by AdamW's division and by training itself.
        assert torch.allclose(p, q, rtol=0, atol=1e-10)


def test_a_batch_of_weightless_items_equals_the_base_optimizer_bitwise():
    ours, plain = TinyRecommender(), TinyRecommender()
    ours.items = plain.items = torch.zeros_like(ITEMS)  # item 0 weighs 0
    optimizer = eisam(ours)
    loss_fn = Counted(ours.losses)
    for _ in range(20):
        optimizer.step(loss_fn, ours.items)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 20)
    assert are_identical(ours.parameters(), plain.parameters())
    assert (loss_fn.forwards, loss_fn.backwards) == (20, 20)


def test_unit_weights_at_strength_one_are_sam_for_100_steps():
    ours, theirs = TinyRecommender(), TinyRecommender()
    optimizer = eisam(ours, item_weights=torch.ones(N_ITEMS), strength=1.0)
    sam = SAM(theirs.parameters(), torch.optim.AdamW, rho=0.3, lr=0.05)
    for _ in range(100):
        loss = optimizer.step(ours.losses, ours.items)
        loss_of_sam = sam.step(theirs.losses, theirs.items)
    assert loss.item() == pytest.approx(loss_of_sam.item(), rel=1e-9)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        # EISAM leaves out the row without a target: the same sums in another order, over 100 steps.
        assert torch.allclose(p, q, rtol=0, atol=1e-9)


def test_step_weights_at_strength_one_are_imbsam(model):
    """ImbSAM (arXiv:2308.07815): ``L_head(θ) + L_tail(θ + ρ ∇L_tail(θ)/‖∇L_tail(θ)‖)``, written directly."""
    counts = torch.tensor([90, 80, 5, 4, 3, 2, 0])
    is_tail_item = torch.tensor([False, True, True, True, True, True, True])
    weights = item_weights(counts, "step", head_share=0.2)
    assert weights.tolist() == is_tail_item.double().tolist()

    is_tail = is_tail_item[ITEMS[ITEMS >= 0]]
    theta = [p.detach().clone().requires_grad_() for p in model.parameters()]
    n = len(is_tail)
    tail_gradient = torch.autograd.grad(model.target_losses(theta)[is_tail].sum() / n, theta)
    norm = torch.cat([g.flatten() for g in tail_gradient]).norm()
    moved = [t + 0.3 * g / norm for t, g in zip(theta, tail_gradient, strict=True)]
    head_loss = model.target_losses(theta)[~is_tail].sum() / n
    expected = [
        a + b
        for a, b in zip(
            torch.autograd.grad(head_loss, theta),
            torch.autograd.grad(model.target_losses(moved)[is_tail].sum() / n, moved),
            strict=True,
        )
    ]

    eisam(model, item_weights=weights, strength=1.0).compute_gradient(model.losses, ITEMS)
    for p, g in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-12, atol=1e-14)  # sums of 10 float64 terms, reordered


# A quadratic worked by hand


def quadratic(theta, curvature):
    """Loss j is ``a_j θ_j²/2``: one parameter and one item per target."""
    return lambda rows: curvature[rows] * theta[rows] ** 2 / 2


@pytest.mark.parametrize(
    ("weights", "gradient"),
    [
        # theta = (3, 4), losses x²/2 and y²/2, N = 2, rho = 2.5.
        ([0.0, 0.0], [1.5, 2.0]),  # no perturbation: (3, 4)/2
        ([1.0, 1.0], [2.25, 3.0]),  # g_w ~ (3, 4), eps = 2.5 (3, 4)/5 = (1.5, 2): (4.5, 6)/2
        ([0.0, 1.0], [1.5, 3.25]),  # g_w ~ (0, 4), eps = (0, 2.5): (3, 6.5)/2
        # c = (0.5, 0.5): eps = (1.5, 2) as for ones; half of each loss moves: (3 + 0.75, 4 + 1)/2
        ([0.5, 0.5], [1.875, 2.5]),
        # c = (1, 0.5): g_w ~ (3, 2), eps = 2.5 (3, 2)/√13; (3 + eps_0, 4 + eps_1/2)/2
        ([1.0, 0.5], [1.5 + 3.75 / math.sqrt(13), 2.0 + 1.25 / math.sqrt(13)]),
    ],
)
def test_gradient_of_a_quadratic_worked_by_hand(weights, gradient):
    theta = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = EISAM([theta], torch.optim.SGD, item_weights=torch.tensor(weights), rho=2.5, lr=1.0)
    loss = optimizer.compute_gradient(
        quadratic(theta, torch.ones(2, dtype=torch.float64)), torch.tensor([0, 1])
    )
    assert loss.item() == 6.25  # (9/2 + 16/2)/2, at theta
    assert torch.allclose(theta.grad, torch.tensor(gradient, dtype=torch.float64), rtol=1e-14)


@pytest.mark.parametrize("rho", [0.01, 1.7])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_step_on_a_quadratic_has_its_closed_form(rho, strength):
    """``eps_j = ρ c_j a_j θ_j / ‖c a θ‖`` and ``G_j = a_j (θ_j + c_j eps_j)/N``."""
    a = torch.tensor([0.5, 3.0], dtype=torch.float64)
    start = torch.tensor([-2.0, 0.7], dtype=torch.float64)
    weights = torch.tensor([0.2, 0.9], dtype=torch.float64)
    theta = nn.Parameter(start.clone())
    optimizer = EISAM([theta], torch.optim.SGD, item_weights=weights, rho=rho, strength=strength, lr=0.1)
    optimizer.step(quadratic(theta, a), torch.tensor([0, 1]))

    c = strength * weights
    eps = rho * c * a * start / (c * a * start).norm()
    assert torch.allclose(theta, start - 0.1 * a * (start + c * eps) / 2, rtol=1e-14)


# Parity


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_fast_step_follows_reference_for_100_steps(model, strength):
    theta = [p.detach().clone().requires_grad_() for p in model.parameters()]
    base = torch.optim.AdamW(theta, lr=0.05)
    weights = ITEM_WEIGHTS.double()
    c = strength * weights[ITEMS[ITEMS >= 0]]
    optimizer = eisam(model, item_weights=weights, strength=strength)
    for _ in range(100):
        optimizer.step(model.losses, ITEMS)
        for p, g in zip(theta, eisam_gradient(model.target_losses, theta, c, rho=0.3), strict=True):
            p.grad = g
        base.step()
    for p, q in zip(model.parameters(), theta, strict=True):
        # Sums in another order: 1e-16 per step, magnified by AdamW's division and by training itself.
        assert torch.allclose(p, q, rtol=0, atol=1e-9)


def test_one_target_per_row_equals_the_same_targets_as_positions(model):
    flat = TinyRecommender(ITEMS.flatten())
    flat.features = model.features.flatten(0, 1)
    eisam(model).step(model.losses, model.items)
    eisam(flat).step(flat.losses, flat.items)
    for p, q in zip(model.parameters(), flat.parameters(), strict=True):
        # float64 sums in another order; AdamW's first step divides a gradient by itself.
        assert torch.allclose(p, q, rtol=0, atol=1e-10)


def test_losses_at_paddings_have_no_influence(model):
    clean, dirty = TinyRecommender(), TinyRecommender()
    paddings = ITEMS < 0

    def with_garbage(rows):
        return dirty.losses(rows).masked_fill(paddings[rows], float("nan"))

    loss = eisam(clean).step(clean.losses, ITEMS)
    assert eisam(dirty).step(with_garbage, ITEMS).item() == loss.item()
    assert are_identical(clean.parameters(), dirty.parameters())


# Price


def counted_step(model, **arguments):
    loss_fn = Counted(model.losses)
    eisam(model, **arguments).step(loss_fn, model.items)
    return loss_fn


def test_exact_costs_at_most_two_forwards_and_three_backwards(model):
    loss_fn = counted_step(model)
    assert (loss_fn.forwards, loss_fn.backwards) == (2, 3)


def test_unit_weights_cost_exactly_two_forwards_and_two_backwards(model):
    loss_fn = counted_step(model, item_weights=torch.ones(N_ITEMS))
    assert (loss_fn.forwards, loss_fn.backwards) == (2, 2)


def test_one_strength_for_all_rows_of_one_target_costs_two_forwards_and_two_backwards_and_is_the_definition():
    items = torch.tensor([0, 2, -1, 4, 5])
    model = TinyRecommender(items)
    theta = copies(model.parameters())
    settings = {"item_weights": torch.full((N_ITEMS,), 0.5, dtype=torch.float64), "strength": 0.6}
    loss_fn = Counted(model.losses)
    eisam(model, **settings).compute_gradient(loss_fn, items)
    assert (loss_fn.forwards, loss_fn.backwards) == (2, 2)
    expected = eisam_gradient(model.target_losses, theta, torch.full((4,), 0.3, dtype=torch.float64), rho=0.3)
    for p, g in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-10, atol=1e-13)  # float64 sums in another order


def test_zero_strength_costs_one_forward_and_one_backward(model):
    loss_fn = counted_step(model, strength=0.0)
    assert (loss_fn.forwards, loss_fn.backwards) == (1, 1)


def test_second_evaluation_covers_only_rows_with_a_weighted_target(model):
    loss_fn = counted_step(model)
    assert loss_fn.rows == [list(range(len(ITEMS))), ROWS_WITH_POSITIVE_WEIGHT]


def test_second_evaluation_covers_all_rows_when_random_numbers_are_drawn():
    loss_fn = counted_step(TinyRecommender(dropout=0.5))
    assert loss_fn.rows == [list(range(len(ITEMS)))] * 2


# Randomness


def test_both_evaluations_draw_the_same_dropout_masks(perturbing):
    model = TinyRecommender(dropout=0.5)
    seen = []

    def record(rows):
        seen.append(model.losses(rows))
        return seen[-1]

    # At a radius of 1e-12 another mask is the only thing that could move a loss visibly.
    make(perturbing, model.parameters(), torch.optim.SGD, rho=1e-12, lr=0.1).step(record, ITEMS)
    first, second = seen
    assert torch.allclose(first, second, rtol=0, atol=1e-9)
    assert not torch.allclose(first, model.losses(torch.arange(len(ITEMS))), rtol=0, atol=1e-3)


def test_random_state_after_a_step_is_that_after_one_forward(perturbing):
    model = TinyRecommender(dropout=0.5)
    model.losses(torch.arange(len(ITEMS)))
    after_one_forward = torch.get_rng_state()
    torch.manual_seed(0)  # the fixture's seed
    make(perturbing, model.parameters(), torch.optim.SGD, rho=0.3, lr=0.1).step(model.losses, ITEMS)
    assert torch.equal(torch.get_rng_state(), after_one_forward)


# Which parameters move


def test_realised_perturbation_has_norm_rho_over_all_tensors_together():
    model = Watched()
    eisam(model, strength=0.4).step(model.losses, ITEMS)
    first, second = model.seen
    total = torch.cat([(second[name] - first[name]).flatten() for name in first]).norm().item()
    assert total == pytest.approx(0.3, rel=1e-12)  # float64, parameters near 1


def test_excluded_groups_are_trained_but_never_perturbed(perturbing):
    model = Watched()
    groups = [
        {"params": [model.hidden, model.bias]},
        {"params": [model.output], "perturb": False},
    ]
    make(perturbing, groups, torch.optim.SGD, rho=0.3, lr=0.1).step(model.losses, ITEMS)
    first, second = model.seen
    assert torch.equal(first["output"], second["output"])
    moved = torch.cat([(second[name] - first[name]).flatten() for name in ("hidden", "bias")])
    assert moved.norm().item() == pytest.approx(0.3, rel=1e-12)  # the norm is over what moves
    assert not torch.equal(model.output, first["output"])


def test_gradient_of_an_excluded_parameter_is_taken_at_the_perturbed_point(model):
    """G of the excluded output layer is ``(1−c) ∇l(θ) + c ∇l(θ+ε)`` with ε in the other tensors alone."""
    theta = [p.detach().clone().requires_grad_() for p in model.parameters()]
    c = ITEM_WEIGHTS.double()[ITEMS[ITEMS >= 0]]
    n = len(c)
    g_w = torch.autograd.grad((c * model.target_losses(theta)).sum() / n, theta[:2])
    norm = torch.cat([g.flatten() for g in g_w]).norm()
    moved = [*(t + 0.3 * g / norm for t, g in zip(theta[:2], g_w, strict=True)), theta[2]]
    objective = ((1 - c) * model.target_losses(theta) + c * model.target_losses(moved)).sum() / n
    (expected,) = torch.autograd.grad(objective, theta[2:])

    groups = [{"params": [model.hidden, model.bias]}, {"params": [model.output], "perturb": False}]
    optimizer = EISAM(groups, torch.optim.SGD, item_weights=ITEM_WEIGHTS.double(), rho=0.3)
    optimizer.compute_gradient(model.losses, ITEMS)
    assert torch.allclose(model.output.grad, expected, rtol=1e-12, atol=1e-14)  # float64, reordered sums


# Parameters that take no part


def test_frozen_and_unused_parameters_stay_as_they_are(model, perturbing):
    frozen = nn.Parameter(torch.ones(3, dtype=torch.float64), requires_grad=False)
    unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = make(
        perturbing, [*model.parameters(), frozen, unused], torch.optim.AdamW, rho=0.3, weight_decay=0.1
    )
    before = copies(model.parameters())
    optimizer.step(model.losses, ITEMS)
    assert not are_identical(before, model.parameters())
    # As with any PyTorch optimizer, no gradient means no update, not even decay.
    assert frozen.grad is None
    assert unused.grad is None
    assert frozen.tolist() == unused.tolist() == [1.0, 1.0, 1.0]


def test_sparse_embedding_gradients_give_the_step_of_dense_ones(perturbing):
    ids = torch.tensor([[0, 0], [1, 3]])  # the repeated row arrives uncoalesced
    target = torch.tensor([1, 2])
    trained = []
    for sparse in (False, True):
        torch.manual_seed(3)
        embedding = nn.Embedding(5, 3, sparse=sparse, dtype=torch.float64)
        optimizer = make(perturbing, embedding.parameters(), torch.optim.SGD, rho=0.5, lr=0.3)
        for _ in range(3):
            optimizer.step(
                lambda rows, e=embedding: F.cross_entropy(
                    e(ids[rows]).sum(1), target[rows], reduction="none"
                ),
                target,
            )
        trained.append(embedding.weight.detach())
    assert torch.allclose(*trained, rtol=1e-12)  # float64, three steps


def test_a_vanishing_direction_does_not_perturb(perturbing):
    """A batch that is fitted perfectly has gradients that float32 can hardly hold; ρ/‖g‖ it cannot."""
    theta = nn.Parameter(torch.ones(2))
    optimizer = make(perturbing, [theta], torch.optim.SGD, rho=0.5, lr=0.1)
    for slope in (0.0, 1e-44):
        optimizer.step(lambda rows, slope=slope: slope * theta[rows], torch.tensor([1, 2]))
        assert theta.tolist() == [1.0, 1.0]


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rho": -1.0}, r"rho must be .*; got -1.0"),
        ({"rho": float("nan")}, r"rho must be .*; got nan"),
        ({"strength": 1.5}, r"strength must be in \[0, 1\]; got 1.5"),
        ({"strength": float("nan")}, r"strength must be .*; got nan"),
        ({"estimator": "approximate"}, r"estimator must be one of exact.*; got 'approximate'"),
        ({"item_weights": torch.ones(2, 3)}, r"item_weights must be .*; got .* shape \(2, 3\)"),
        ({"item_weights": torch.tensor([3, 1])}, r"item_weights must be .*; got torch.int64"),
        ({"item_weights": torch.tensor([0.5, 1.5])}, r"item_weights must be .*; got .* 0.5 to 1.5"),
        ({"item_weights": torch.tensor([-0.5, 1.0])}, r"item_weights must be .*; got .* -0.5 to 1.0"),
        ({"item_weights": torch.tensor([0.5, float("nan")])}, r"item_weights must be .*; got .*nan"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name_and_value(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        eisam(model, **arguments)


def test_items_beyond_the_catalogue_are_refused_before_the_model_is_evaluated(model):
    loss_fn = Counted(model.losses)
    with pytest.raises(ValueError, match="items must be below 7, the length of item_weights; got 9"):
        eisam(model).step(loss_fn, ITEMS.masked_fill(ITEMS == 5, 9))
    assert loss_fn.forwards == 0
