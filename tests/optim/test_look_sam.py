import pytest
import torch

from tailwise.optim import SAM, LookSAM
from tailwise.optim.reference import look_sam_gradient

from .builders import (
    ITEMS,
    Counted,
    TinyRecommender,
    are_identical,
    copies,
    distance_from_reference,
    train_plainly,
)


def look_sam(model, **arguments):
    settings = {"rho": 0.3, "every": 4, "alpha": 0.7, "lr": 0.05} | arguments
    return LookSAM(model.parameters(), torch.optim.AdamW, **settings)


def test_two_steps_on_a_quadratic_worked_by_hand():
    # One target, l = (x² + 3y²)/2, at (1, 1): g = (1, 3). eps = √10 g/√10 = (1, 3), and
    # g_s = (2, 12) at (2, 4). Along g lies ⟨g_s, g⟩/10 g = 3.8 (1, 3), so g_v = (-1.8, 0.6).
    # With a rate of 0 the next step is at (1, 1) again: g + 0.5 √10/√3.6 g_v, √(10/3.6) = 5/3.
    theta = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    curvature = torch.tensor([1.0, 3.0], dtype=torch.float64)
    optimizer = LookSAM([theta], torch.optim.SGD, rho=10**0.5, every=2, alpha=0.5, lr=0.0)

    def losses(rows):
        return (curvature * theta**2 / 2).sum().expand(len(rows))

    optimizer.step(losses, torch.tensor([0]))
    assert theta.grad.tolist() == pytest.approx([2.0, 12.0], rel=1e-14)
    optimizer.step(losses, torch.tensor([0]))
    assert theta.grad.tolist() == pytest.approx([1 - 1.5, 3 + 0.5], rel=1e-13)
    optimizer.step(losses, torch.tensor([0]))  # the third step is full again
    assert theta.grad.tolist() == pytest.approx([2.0, 12.0], rel=1e-14)


def test_fast_step_follows_reference_for_100_steps(model):
    g_v = None
    n_steps = 0

    def gradient_at(theta, _):
        nonlocal g_v, n_steps
        is_full = n_steps % 4 == 0
        gradient, g_v = look_sam_gradient(
            model.target_losses, theta, None if is_full else g_v, rho=0.3, alpha=0.7
        )
        n_steps += 1
        return gradient

    # Sums in another order: 1e-16 per step, magnified by AdamW's division and by training itself.
    assert distance_from_reference(model, look_sam(model), gradient_at) < 1e-9


def test_a_full_step_at_every_step_is_sam_bitwise():
    ours, theirs = TinyRecommender(), TinyRecommender()
    optimizer = look_sam(ours, every=1)
    sam = SAM(theirs.parameters(), torch.optim.AdamW, rho=0.3, lr=0.05)
    for _ in range(20):
        optimizer.step(ours.losses, ITEMS)
        sam.step(theirs.losses, ITEMS)
    assert are_identical(ours.parameters(), theirs.parameters())


def test_zero_radius_equals_the_base_optimizer_bitwise():
    ours, plain = TinyRecommender(), TinyRecommender()
    optimizer = look_sam(ours, rho=0.0)
    for _ in range(20):
        optimizer.step(ours.losses, ITEMS)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 20)
    assert are_identical(ours.parameters(), plain.parameters())


def test_what_is_kept_is_orthogonal_to_the_gradient_and_added_at_its_share_of_the_length(model):
    plain = TinyRecommender()
    optimizer = look_sam(model, lr=0.0, weight_decay=0.0)
    train_plainly(plain, torch.optim.SGD(plain.parameters(), lr=0.0), 1)
    optimizer.step(model.losses, ITEMS)
    optimizer.step(model.losses, ITEMS)  # at the same parameters
    g = torch.cat([p.grad.flatten() for p in plain.parameters()])
    added = torch.cat([p.grad.flatten() for p in model.parameters()]) - g
    assert added.norm().item() == pytest.approx(0.7 * g.norm().item(), rel=1e-12)
    assert abs(added @ g).item() < 1e-12 * g.norm().item() ** 2  # float64


def test_four_steps_cost_five_forwards_and_five_backwards(model):
    optimizer = look_sam(model)
    loss_fn = Counted(model.losses)
    prices = []
    for _ in range(8):
        before = loss_fn.forwards
        optimizer.step(loss_fn, ITEMS)
        prices.append(loss_fn.forwards - before)
    assert prices == [2, 1, 1, 1, 2, 1, 1, 1]
    assert loss_fn.backwards == loss_fn.forwards == 10


def test_the_first_perturbed_step_after_a_late_start_is_full(model):
    optimizer = look_sam(model, start_step=3)  # step 3 is not a multiple of 4
    loss_fn = Counted(model.losses)
    prices = []
    for _ in range(5):
        before = loss_fn.forwards
        optimizer.step(loss_fn, ITEMS)
        prices.append(loss_fn.forwards - before)
    assert prices == [1, 1, 1, 2, 2]


def test_a_group_added_between_full_steps_makes_the_next_one_full():
    model = TinyRecommender()
    optimizer = LookSAM([model.hidden, model.bias], torch.optim.AdamW, rho=0.3, every=4, lr=0.05)
    loss_fn = Counted(model.losses)
    optimizer.step(loss_fn, ITEMS)
    optimizer.add_param_group({"params": [model.output]})
    optimizer.step(loss_fn, ITEMS)
    assert loss_fn.forwards == 4


def test_rounding_is_not_scaled_up_to_a_direction():
    """On ‖θ‖²/2 SAM's gradient is a multiple of the plain one: across it rounding is all there is."""
    theta = torch.nn.Parameter(torch.randn(50))
    optimizer = LookSAM([theta], torch.optim.SGD, rho=0.3, every=2, alpha=0.7, lr=0.1)
    for _ in range(2):
        optimizer.step(lambda rows: (theta**2).sum().expand(len(rows)) / 2, torch.tensor([0]))
    assert torch.allclose(
        theta.grad * 0.9, theta, rtol=1e-6
    )  # the second gradient is θ before the step, float32


def test_parameters_that_are_not_perturbed_get_the_plain_gradient_between():
    model, plain = TinyRecommender(), TinyRecommender()
    groups = [{"params": [model.hidden, model.bias]}, {"params": [model.output], "per_item": True}]
    optimizer = LookSAM(groups, torch.optim.SGD, rho=0.3, every=2, lr=0.0)
    for _ in range(2):
        optimizer.step(model.losses, ITEMS)
    train_plainly(plain, torch.optim.SGD(plain.parameters(), lr=0.0), 1)
    assert torch.equal(model.output.grad, plain.output.grad)
    assert not torch.allclose(model.hidden.grad, plain.hidden.grad)


def test_a_failed_full_step_leaves_what_was_kept(model):
    optimizer = look_sam(model, every=2)
    for _ in range(2):
        optimizer.step(model.losses, ITEMS)
    before = copies(optimizer.state_dict()["tailwise"]["kept_across"])
    n = 0

    def failing(rows):
        nonlocal n
        n += 1
        return model.losses(rows) * (float("nan") if n == 2 else 1.0)

    with pytest.raises(FloatingPointError):
        optimizer.step(failing, ITEMS)
    assert are_identical(optimizer.state_dict()["tailwise"]["kept_across"], before)
    assert optimizer.n_steps == 2


@pytest.mark.parametrize("n_before", [1, 3, 4])
def test_a_restart_between_full_steps_matches_the_uninterrupted_run(n_before):
    whole, first, second = TinyRecommender(), TinyRecommender(), TinyRecommender()
    optimizer = look_sam(whole)
    for _ in range(8):
        optimizer.step(whole.losses, ITEMS)
    optimizer = look_sam(first)
    for _ in range(n_before):
        optimizer.step(first.losses, ITEMS)
    resumed = look_sam(second, every=9, alpha=0.1)  # the state knows better
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    for _ in range(8 - n_before):
        resumed.step(second.losses, ITEMS)
    assert are_identical(whole.parameters(), second.parameters())


def test_a_state_that_keeps_a_vector_of_other_parameters_is_refused():
    def of(sizes, perturb):
        parameters = [torch.nn.Parameter(torch.ones(size)) for size in sizes]
        groups = [{"params": [p], "perturb": moves} for p, moves in zip(parameters, perturb, strict=True)]
        optimizer = LookSAM(groups, torch.optim.SGD, rho=0.1, lr=0.1)
        optimizer.step(
            lambda rows: sum(p.sum() ** 2 for p in parameters).expand(len(rows)), torch.tensor([0])
        )
        return optimizer

    saved = of((2, 3), (True, False)).state_dict()
    optimizer = of((2, 3), (True, True))
    with pytest.raises(ValueError, match=r"state_dict must hold g_v of 2 tensors.*; got 1"):
        optimizer.load_state_dict(saved)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, r"every must be >= 1; got 0"),
        ({"alpha": -0.1}, r"alpha must be .*; got -0.1"),
        ({"alpha": float("nan")}, r"alpha must be .*; got nan"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name_and_value(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        look_sam(model, **arguments)
