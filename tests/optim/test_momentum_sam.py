import copy

import pytest
import torch

from tailwise.optim import MomentumSAM
from tailwise.optim.reference import momentum_sam_gradient

from .builders import (
    ITEMS,
    Counted,
    TinyRecommender,
    are_identical,
    copies,
    distance_from_reference,
    train_plainly,
)


def momentum_sam(model, base=torch.optim.AdamW, **arguments):
    return MomentumSAM(model.parameters(), base, **{"rho": 0.3, "lr": 0.05} | arguments)


class Watched(TinyRecommender):
    """Keeps its parameters, flat, as each evaluation found them."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.seen = []

    def losses(self, rows):
        self.seen.append(flat(self.parameters()))
        return super().losses(rows)


def flat(tensors):
    return torch.cat([t.detach().flatten() for t in tensors])


@pytest.mark.parametrize(("ascend", "second_gradient"), [(False, 2.2), (True, 3.2)])
def test_two_steps_on_a_quadratic_worked_by_hand(ascend, second_gradient):
    # l = x²/2 from 3 at a rate of 0.1: the first gradient is 3, there being no momentum, and
    # x = 2.7. The momentum is 3, so the second is taken at 2.7 - 0.5, or 2.7 + 0.5.
    theta = torch.nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
    optimizer = MomentumSAM([theta], torch.optim.SGD, rho=0.5, ascend=ascend, lr=0.1, momentum=0.9)
    losses = [optimizer.step(lambda rows: theta[rows] ** 2 / 2, torch.tensor([0])).item() for _ in range(2)]
    assert theta.grad.item() == pytest.approx(second_gradient, rel=1e-15)
    assert losses == pytest.approx(
        [4.5, second_gradient**2 / 2], rel=1e-15
    )  # the loss where it was evaluated


def test_fast_step_follows_reference_for_100_steps(model):
    def gradient_at(theta, base):
        momentum = [base.state[p].get("exp_avg", torch.zeros_like(p)) for p in theta]
        return momentum_sam_gradient(model.target_losses, theta, momentum, rho=0.3)

    # Sums in another order: 1e-16 per step, magnified by AdamW's division and by training itself.
    assert distance_from_reference(model, momentum_sam(model), gradient_at) < 1e-9


def test_zero_radius_equals_the_base_optimizer_bitwise():
    ours, plain = TinyRecommender(), TinyRecommender()
    optimizer = momentum_sam(ours, rho=0.0)
    for _ in range(50):
        optimizer.step(ours.losses, ITEMS)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 50)
    assert are_identical(ours.parameters(), plain.parameters())


def test_a_step_costs_one_forward_and_one_backward(model):
    optimizer = momentum_sam(model)
    loss_fn = Counted(model.losses)
    for _ in range(3):
        optimizer.step(loss_fn, ITEMS)
    assert (loss_fn.forwards, loss_fn.backwards) == (3, 3)


def test_the_first_step_is_the_base_optimizer_bitwise():
    ours, plain = TinyRecommender(), TinyRecommender()
    momentum_sam(ours).step(ours.losses, ITEMS)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 1)
    assert are_identical(ours.parameters(), plain.parameters())


def test_the_batch_is_evaluated_rho_away_where_the_base_optimizer_is_heading():
    model = Watched()
    optimizer = momentum_sam(model)
    for _ in range(3):
        optimizer.step(model.losses, ITEMS)
    before = flat(model.parameters())
    momentum = flat(optimizer.state[p]["exp_avg"] for p in model.parameters())
    optimizer.step(model.losses, ITEMS)
    moved = model.seen[-1] - before
    assert moved.norm().item() == pytest.approx(0.3, rel=1e-12)  # float64, parameters near 1
    assert torch.allclose(moved, -0.3 * momentum / momentum.norm(), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("base", "arguments", "key"),
    [
        (torch.optim.Adam, {}, "exp_avg"),
        (torch.optim.NAdam, {}, "exp_avg"),
        (torch.optim.SGD, {"momentum": 0.9}, "momentum_buffer"),
        (torch.optim.RMSprop, {"momentum": 0.9}, "momentum_buffer"),
    ],
)
def test_the_first_moment_of_the_base_optimizer_is_used_and_none_is_kept(base, arguments, key):
    model = Watched()
    optimizer = momentum_sam(model, base, **arguments)
    optimizer.step(model.losses, ITEMS)
    before = flat(model.parameters())
    momentum = flat(optimizer.state[p][key] for p in model.parameters())
    optimizer.step(model.losses, ITEMS)
    # float64; the difference of parameters near 1 is rounded at 1e-16.
    assert torch.allclose(model.seen[-1] - before, -0.3 * momentum / momentum.norm(), rtol=0, atol=1e-14)
    assert optimizer.state_dict()["tailwise"]["kept_average"] is None


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adafactor, torch.optim.Adagrad])
def test_without_a_first_moment_an_average_of_the_gradients_is_kept(base):
    model = Watched()
    optimizer = momentum_sam(model, base, decay=0.8)
    average = torch.zeros_like(flat(model.parameters()))
    for step in range(4):
        before = flat(model.parameters())
        optimizer.step(model.losses, ITEMS)
        if step > 0:
            expected = -0.3 * average / average.norm()
            assert torch.allclose(model.seen[-1] - before, expected, rtol=0, atol=1e-14)  # float64
        average = 0.8 * average + 0.2 * flat(p.grad for p in model.parameters())


def test_the_kept_average_is_dropped_once_the_base_optimizer_has_a_moment(model):
    optimizer = momentum_sam(model, torch.optim.SGD)
    optimizer.step(model.losses, ITEMS)
    assert optimizer.state_dict()["tailwise"]["kept_average"] is not None
    optimizer.param_groups[0]["momentum"] = 0.9
    optimizer.step(model.losses, ITEMS)
    assert optimizer.state_dict()["tailwise"]["kept_average"] is None


def test_the_kept_average_sees_gradients_as_they_were_clipped(model):
    optimizer = momentum_sam(model, torch.optim.SGD, decay=0.5)
    optimizer.compute_gradient(model.losses, ITEMS)
    torch.nn.utils.clip_grad_norm_(optimizer.parameters(), 1e-3)
    optimizer.step()
    kept = flat(optimizer.state_dict()["tailwise"]["kept_average"])
    assert kept.norm().item() == pytest.approx(0.5e-3, rel=1e-2)  # clip_grad_norm_ adds 1e-6 to the norm


def test_computing_a_gradient_does_not_change_the_kept_average(model):
    optimizer = momentum_sam(model, torch.optim.SGD)
    optimizer.step(model.losses, ITEMS)
    before = copies(optimizer.state_dict()["tailwise"]["kept_average"])
    optimizer.compute_gradient(model.losses, ITEMS)
    assert are_identical(optimizer.state_dict()["tailwise"]["kept_average"], before)


@pytest.mark.parametrize("base", [torch.optim.AdamW, torch.optim.SGD])  # with and without a moment of its own
@pytest.mark.parametrize("with_", ["exception", float("nan"), float("inf")])
def test_a_failure_at_the_perturbed_point_changes_nothing(base, with_):
    model, twin = TinyRecommender(dtype=torch.float32), TinyRecommender(dtype=torch.float32)
    optimizer, other = momentum_sam(model, base), momentum_sam(twin, base)
    for _ in range(3):
        optimizer.step(model.losses, ITEMS)
        other.step(twin.losses, ITEMS)
    before, n_steps = copies(model.parameters()), optimizer.n_steps

    def failing(rows):
        if with_ == "exception":
            raise RuntimeError("the loss function failed")
        return model.losses(rows) * with_

    with pytest.raises((RuntimeError, FloatingPointError)):
        optimizer.step(failing, ITEMS)
    assert are_identical(model.parameters(), before)
    assert optimizer.n_steps == n_steps
    optimizer.step(model.losses, ITEMS)  # training goes on as if nothing had happened
    other.step(twin.losses, ITEMS)
    assert are_identical(model.parameters(), twin.parameters())


def test_excluded_groups_are_trained_but_never_perturbed():
    model = Watched()
    groups = [{"params": [model.hidden, model.bias]}, {"params": [model.output], "perturb": False}]
    optimizer = MomentumSAM(groups, torch.optim.AdamW, rho=0.3, lr=0.05)
    optimizer.step(model.losses, ITEMS)
    before, n = flat(model.parameters()), model.output.numel()
    output = model.output.detach().clone()
    optimizer.step(model.losses, ITEMS)
    moved = model.seen[-1] - before
    assert torch.equal(moved[-n:], torch.zeros(n, dtype=torch.float64))
    assert moved.norm().item() == pytest.approx(0.3, rel=1e-12)  # the norm is over what moves
    assert not torch.equal(model.output, output)


def test_random_state_after_a_step_is_that_after_one_forward():
    model = TinyRecommender(dropout=0.5)
    optimizer = momentum_sam(model)
    optimizer.step(model.losses, ITEMS)
    torch.manual_seed(1)
    model.losses(torch.arange(len(ITEMS)))
    after_one_forward = torch.get_rng_state()
    torch.manual_seed(1)
    optimizer.step(model.losses, ITEMS)
    assert torch.equal(torch.get_rng_state(), after_one_forward)


def test_the_perturbation_arrives_under_bfloat16_autocast_and_leaves_again():
    """Autocast caches its copies of parameters; a radius that bfloat16 resolves must not hide behind them."""
    features, targets = torch.randn(6, 8), torch.arange(6) % 3
    weight = torch.nn.Parameter(torch.randn(3, 8))
    seen = []

    def losses(rows):
        as_used = torch.nn.functional.linear(torch.eye(8), weight)  # the weight in the product's precision
        seen.append(as_used.detach().float())
        scores = torch.nn.functional.linear(features[rows], weight).float()
        return torch.nn.functional.cross_entropy(scores, targets[rows], reduction="none")

    optimizer = MomentumSAM([weight], torch.optim.SGD, rho=5.0, lr=0.0, momentum=0.9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(2):
            optimizer.step(losses, targets)
        losses(torch.arange(6))
    first, there, after = seen
    # Entries move by 5/√24 = 1 on average; bfloat16 errors of entries below 4 are below 0.016 each.
    assert (there - first).norm().item() == pytest.approx(5.0, rel=0.02)
    assert torch.equal(after, first)


def test_a_copy_keeps_an_average_of_its_own():
    model = TinyRecommender()
    optimizer = momentum_sam(model, torch.optim.SGD)
    optimizer.step(model.losses, ITEMS)
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    before = copies(optimizer.state_dict()["tailwise"]["kept_average"])
    twin_optimizer.step(twin.losses, ITEMS)
    assert are_identical(optimizer.state_dict()["tailwise"]["kept_average"], before)


def test_a_loaded_state_brings_sign_and_decay_with_it(model):
    saved = momentum_sam(model, ascend=True, decay=0.5).state_dict()
    optimizer = momentum_sam(model)
    optimizer.load_state_dict(saved)
    assert (optimizer.ascend, optimizer.decay) == (True, 0.5)


def test_a_decay_out_of_range_is_refused_by_name_and_value(model):
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\); got 1.0"):
        momentum_sam(model, decay=1.0)
