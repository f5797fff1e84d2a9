"""The estimators that evaluate a row once: ``single-pass``, and ``every-k`` between its exact steps."""

import copy

import pytest
import torch
from torch import nn

from tailwise.optim import EISAM
from tailwise.optim._row_draw import row_probabilities
from tailwise.optim.reference import draws, gradient_for_given_eps, single_pass_gradient

from .builders import (
    ITEM_WEIGHTS,
    ITEMS,
    N_ITEMS,
    Counted,
    TinyRecommender,
    are_identical,
    copies,
    outcome_at,
    train_plainly,
)

HAS_TARGET = ITEMS >= 0
ROW_OF_TARGET = HAS_TARGET.nonzero()[:, 0].tolist()
WEIGHTS = ITEM_WEIGHTS.double()


def single_pass(model, base=torch.optim.AdamW, **arguments):
    settings = {"item_weights": WEIGHTS, "rho": 0.3, "strength": 0.8, "lr": 0.05, "seed": 5}
    return EISAM(model.parameters(), base, estimator="single-pass", **settings | arguments)


def single_pass_over(*parameters):
    return EISAM(
        parameters, torch.optim.AdamW, item_weights=WEIGHTS, rho=0.3, estimator="single-pass", seed=5, lr=0.05
    )


def strengths(strength=0.8, weights=WEIGHTS, items=ITEMS):
    return torch.where(
        items >= 0, strength * weights[items.clamp_min(0)], torch.zeros((), dtype=torch.float64)
    )


def after_some_steps(model, n_steps=4, **arguments):
    """An optimizer with a direction, and the state to put it back to."""
    optimizer = single_pass(model, **arguments)
    for _ in range(n_steps):
        optimizer.step(model.losses, ITEMS)
    return optimizer, copy.deepcopy(optimizer.state_dict())


def gradient_of_each_draw(optimizer, state, model, items=ITEMS):
    """(probability, gradient) of every outcome of the next step's draw."""
    c = optimizer._target_strengths(items)
    q = row_probabilities(c, items >= 0, row_weights=optimizer.row_weights)
    left = 0.0
    for length, _ in draws(q.tolist()):
        optimizer.load_state_dict(copy.deepcopy(state))
        optimizer._uniform = lambda u=left + length / 2: u
        optimizer.compute_gradient(model.losses, items)
        left += length
        yield length, [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def kept_eps(state, rho=0.3):
    direction = state["tailwise"]["kept_direction"]
    norm = torch.cat([d.flatten() for d in direction]).norm()
    return [rho * d / norm for d in direction]


# Expectation


@pytest.mark.parametrize("strength", [0.8, 1.0, 0.3])
def test_expectation_over_the_draw_is_exact_for_the_same_perturbation(model, strength):
    optimizer, state = after_some_steps(model, strength=strength)
    theta = copies(model.parameters())
    expected = gradient_for_given_eps(
        model.target_losses, theta, strengths(strength)[HAS_TARGET], kept_eps(state)
    )
    outcomes = list(gradient_of_each_draw(optimizer, state, model))
    assert len(outcomes) > 3
    for p, g in enumerate(expected):
        mean = sum(length * gradients[p] for length, gradients in outcomes)
        assert torch.allclose(mean, g, rtol=1e-10, atol=1e-13)  # float64 sums in another order
        # The single draws do differ from it, so the test is not trivial.
        assert any(not torch.allclose(gradients[p], g, rtol=1e-2) for _, gradients in outcomes)


@pytest.mark.parametrize("switched_off", [{"rho": 0.0}, {"strength": 0.0}])
def test_switched_off_without_short_circuit_it_is_plain_training_in_expectation(model, switched_off):
    optimizer, state = after_some_steps(model, short_circuit=False, **switched_off)
    plain = torch.autograd.grad(
        model.losses(torch.arange(len(ITEMS)))[HAS_TARGET].mean(), list(model.parameters())
    )
    outcomes = list(gradient_of_each_draw(optimizer, state, model))
    for p, g in enumerate(plain):
        assert torch.allclose(sum(length * gradients[p] for length, gradients in outcomes), g, rtol=1e-10)


def test_unit_weights_are_unbiased_for_the_mean_strength_of_each_row(model):
    optimizer, state = after_some_steps(model, row_weights="unit")
    c = strengths()
    row_means = c.sum(1) / HAS_TARGET.sum(1).clamp_min(1)
    expected = gradient_for_given_eps(
        model.target_losses,
        copies(model.parameters()),
        row_means[:, None].expand_as(c)[HAS_TARGET],
        kept_eps(state),
    )
    outcomes = list(gradient_of_each_draw(optimizer, state, model))
    for p, g in enumerate(expected):
        assert torch.allclose(sum(length * gradients[p] for length, gradients in outcomes), g, rtol=1e-10)


def test_with_one_target_per_row_unit_and_unbiased_are_the_same_bitwise():
    """A row of one target is drawn with its own strength: the factors are one."""
    trained = []
    for row_weights in ("unit", "unbiased"):
        model = TinyRecommender(ITEMS[HAS_TARGET])
        optimizer = single_pass(model, row_weights=row_weights)
        for _ in range(30):
            optimizer.step(model.losses, model.items)
        trained.append(copies(model.parameters()))
    assert are_identical(*trained)


# Parity and identities


def test_fast_step_follows_reference_for_100_steps(model):
    theta = [p.detach().clone().requires_grad_() for p in model.parameters()]
    base = torch.optim.AdamW(theta, lr=0.05)
    optimizer = single_pass(model, direction_decay=0.7)
    c = strengths()
    q = row_probabilities(c, HAS_TARGET).tolist()
    average = None
    for _ in range(100):
        uniform = optimizer._uniform()
        optimizer.step(model.losses, ITEMS)
        is_drawn = outcome_at(q, uniform)
        eps = [torch.zeros_like(t) for t in theta]
        if average is not None:
            norm = torch.cat([d.flatten() for d in average]).norm()
            eps = [0.3 * d / norm for d in average]
        gradient, of_drawn = single_pass_gradient(
            model.target_losses,
            theta,
            c[HAS_TARGET],
            row_of_target=ROW_OF_TARGET,
            q=q,
            is_drawn=is_drawn,
            eps=eps,
        )
        if any(is_drawn):
            average = (
                of_drawn
                if average is None
                else [0.7 * a + 0.3 * g for a, g in zip(average, of_drawn, strict=True)]
            )
        for p, g in zip(theta, gradient, strict=True):
            p.grad = g
        base.step()
    for p, q_ in zip(model.parameters(), theta, strict=True):
        # Sums in another order: 1e-16 per step, magnified by AdamW's division and by training itself.
        assert torch.allclose(p, q_, rtol=0, atol=1e-9)


def test_all_strengths_one_evaluate_the_whole_batch_beside_the_parameters(model):
    """Then q = 1 everywhere: gradient of the mean loss at θ + ρ·(average)/‖average‖."""
    optimizer, state = after_some_steps(model, item_weights=torch.ones(N_ITEMS).double(), strength=1.0)
    moved = [
        (p.detach() + e).requires_grad_() for p, e in zip(model.parameters(), kept_eps(state), strict=True)
    ]
    expected = torch.autograd.grad(model.target_losses(moved).mean(), moved)
    optimizer.compute_gradient(model.losses, ITEMS)
    for p, g in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-10, atol=1e-14)  # float64 sums in another order


@pytest.mark.parametrize("switched_off", [{"rho": 0.0}, {"strength": 0.0}])
def test_zero_radius_or_strength_equals_the_base_optimizer_bitwise(switched_off):
    ours, plain = TinyRecommender(), TinyRecommender()
    optimizer = single_pass(ours, **switched_off)
    for _ in range(50):
        optimizer.step(ours.losses, ours.items)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 50)
    assert are_identical(ours.parameters(), plain.parameters())


def test_a_quadratic_worked_by_hand():
    # theta = (3, 4), losses x²/2 and y²/2, one row each, weights (1, 0), rho = 2.5, lr = 0. The row of
    # weight 1 is drawn at every step, that of weight 0 never. First step: no direction yet, G = (3, 4)/2,
    # and the drawn row's gradient is (3, 0)/2. Second step: eps = 2.5 (1, 0), G = ((3 + 2.5)/2, 4/2).
    theta = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = EISAM(
        [theta],
        torch.optim.SGD,
        item_weights=torch.tensor([1.0, 0.0]),
        rho=2.5,
        lr=0.0,
        estimator="single-pass",
    )
    seen = []
    for _ in range(2):
        optimizer.step(lambda rows: theta[rows] ** 2 / 2, torch.tensor([0, 1]))
        seen.append(theta.grad.tolist())
    assert seen == [[1.5, 2.0], [2.75, 2.0]]


def test_the_loss_returned_is_that_of_each_row_where_it_was_evaluated(model):
    optimizer, state = after_some_steps(model)
    eps = kept_eps(state)
    theta = copies(model.parameters())
    is_drawn = outcome_at(row_probabilities(strengths(), HAS_TARGET).tolist(), optimizer._uniform())
    here, there = (model.target_losses(p) for p in (theta, [t + e for t, e in zip(theta, eps, strict=True)]))
    expected = torch.where(torch.tensor([is_drawn[b] for b in ROW_OF_TARGET]), there, here).mean()
    loss = optimizer.compute_gradient(model.losses, ITEMS)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)  # float64 sums in another order


# Price


@pytest.mark.parametrize("row_weights", ["unbiased", "unit"])
def test_every_row_with_a_target_is_evaluated_exactly_once(row_weights):
    model = TinyRecommender()
    optimizer = single_pass(model, row_weights=row_weights)
    for _ in range(20):
        loss_fn = Counted(model.losses)
        optimizer.step(loss_fn, ITEMS)
        assert sorted(row for rows in loss_fn.rows for row in rows) == [0, 1, 2, 3, 5]  # row 4 has no target
        assert loss_fn.forwards == loss_fn.backwards <= 2


def test_every_k_is_exact_every_k_steps_and_one_pass_between(model):
    optimizer = EISAM(
        model.parameters(),
        torch.optim.AdamW,
        item_weights=WEIGHTS,
        rho=0.3,
        estimator="every-k",
        every=3,
        seed=1,
    )
    n_rows = []
    for _ in range(7):
        loss_fn = Counted(model.losses)
        optimizer.step(loss_fn, ITEMS)
        n_rows.append(sum(len(rows) for rows in loss_fn.rows))
    # Exact: six rows, then the three that hold a weighted target; between: the five with a target.
    assert n_rows == [9, 5, 5, 9, 5, 5, 9]


def test_every_1_is_exact_bitwise():
    trained = []
    for estimator in ({"estimator": "every-k", "every": 1}, {"estimator": "exact"}):
        model = TinyRecommender()
        optimizer = EISAM(
            model.parameters(), torch.optim.AdamW, item_weights=WEIGHTS, rho=0.3, lr=0.05, **estimator
        )
        for _ in range(20):
            optimizer.step(model.losses, ITEMS)
        trained.append(copies(model.parameters()))
    assert are_identical(*trained)


def test_between_exact_steps_every_k_keeps_the_last_exact_direction(model):
    optimizer = EISAM(
        model.parameters(),
        torch.optim.SGD,
        item_weights=WEIGHTS,
        rho=0.3,
        lr=0.05,
        estimator="every-k",
        every=4,
    )
    c = WEIGHTS[ITEMS[HAS_TARGET]]
    leaves = [p.detach().clone().requires_grad_() for p in model.parameters()]
    g_w = torch.autograd.grad((c * model.target_losses(leaves)).sum() / len(c), leaves)
    for _ in range(4):
        optimizer.step(model.losses, ITEMS)
        kept = optimizer.state_dict()["tailwise"]["kept_direction"]
        for k, g in zip(kept, g_w, strict=True):
            assert torch.allclose(k, g, rtol=1e-12, atol=1e-15)  # float64 sums in another order
    optimizer.step(model.losses, ITEMS)
    assert not torch.allclose(optimizer.state_dict()["tailwise"]["kept_direction"][0], g_w[0], rtol=1e-3)


# Randomness


def test_draws_follow_the_seed_and_leave_torch_alone():
    before = torch.get_rng_state()
    uniforms = []
    for seed in (5, 5, 6):
        optimizer = single_pass(TinyRecommender(), seed=seed)
        uniforms.append([])
        for _ in range(5):
            uniforms[-1].append(optimizer._uniform())
            optimizer.n_steps += 1
    assert uniforms[0] == uniforms[1] != uniforms[2]
    assert len({*uniforms[0], *uniforms[2]}) == 10
    assert torch.equal(torch.get_rng_state(), before)


def test_uniform_numbers_of_neighbouring_steps_and_seeds_are_spread_evenly():
    optimizer = single_pass(TinyRecommender(), seed=0)
    numbers = []
    for optimizer.seed in range(20):
        for optimizer.n_steps in range(50):
            numbers.append(optimizer._uniform())
    quartiles = torch.histc(torch.tensor(numbers), bins=4, min=0, max=1)
    # 1,000 numbers, 250 expected in each quarter, standard deviation 14: five of them.
    assert ((quartiles - 250).abs() < 70).all()
    steps = torch.tensor(numbers).view(20, 50)
    assert abs(torch.corrcoef(torch.stack([steps[:, :-1].flatten(), steps[:, 1:].flatten()]))[0, 1]) < 0.15


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"row_weights": "half"}, r"row_weights must be one of unbiased, unit; got 'half'"),
        ({"direction_decay": 1.0}, r"direction_decay must be in \[0, 1\); got 1.0"),
        ({"direction_decay": -0.1}, r"direction_decay must be in \[0, 1\); got -0.1"),
        ({"every": 0}, r"every must be >= 1; got 0"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name_and_value(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        single_pass(model, **arguments)


# Failure


@pytest.mark.parametrize("failure", ["exception", "not finite"])
@pytest.mark.parametrize("at", [1, 2])
def test_a_failure_at_either_point_changes_nothing(model, at, failure):
    optimizer, state = after_some_steps(model)
    parameters = copies(model.parameters())
    optimizer._uniform = lambda: 0.5  # draws some rows and leaves some
    n = 0

    def failing(rows):
        nonlocal n
        n += 1
        if n < at:
            return model.losses(rows)
        if failure == "exception":
            raise RuntimeError("the loss function failed")
        return model.losses(rows) * float("nan")

    with pytest.raises(
        (RuntimeError, FloatingPointError), match=r"loss function failed|losses must be finite"
    ):
        optimizer.step(failing, ITEMS)
    assert n == at
    assert are_identical(model.parameters(), parameters)
    own, own_before = optimizer.state_dict()["tailwise"], state["tailwise"]
    assert own["n_steps"] == own_before["n_steps"]
    assert are_identical(own["kept_direction"], own_before["kept_direction"])


# State


def test_a_parameter_added_later_starts_the_direction_anew(model):
    optimizer = single_pass_over(model.hidden, model.bias)
    for _ in range(3):
        optimizer.step(model.losses, ITEMS)
    optimizer.add_param_group({"params": [model.output]})
    for _ in range(3):
        optimizer.step(model.losses, ITEMS)
    assert len(optimizer.state_dict()["tailwise"]["kept_direction"]) == 3


def test_a_state_of_other_perturbed_parameters_is_refused(model):
    _, state = after_some_steps(model)
    for direction in (state["tailwise"]["kept_direction"][:-1], [torch.zeros(2)] * 3):
        damaged = copy.deepcopy(state)
        damaged["tailwise"]["kept_direction"] = direction
        with pytest.raises(ValueError, match=rf"direction of 3 tensors.*got {len(direction)}"):
            single_pass(TinyRecommender()).load_state_dict(damaged)
