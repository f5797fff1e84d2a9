import copy
import io
import pickle

import pytest
import torch
from torch import nn

from tailwise.optim import EISAM, ERM
from tailwise.optim._wrapper import direction_norm, perturbed

from .builders import ITEM_WEIGHTS, ITEMS, N_ITEMS, TinyRecommender, are_identical, copies, make

BASES = [
    (torch.optim.AdamW, {}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (torch.optim.Adafactor, {}),  # its factored moments do not have the shape of the parameter
]


def through_a_file(state):
    """``state`` after ``torch.save`` and the strict ``torch.load``."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def are_same_state(left, right):
    """Whether two nested states agree, tensors bit for bit."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(are_same_state(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(are_same_state, left, right))
    return left == right


def train(model, optimizer, n_steps):
    for _ in range(n_steps):
        optimizer.step(model.losses, model.items)


# Restoration


def test_perturbed_restores_parameters_bit_for_bit():
    # Adding and subtracting 0.1 would not: 0.3 + 0.1 - 0.1 is not 0.3 in float32.
    p = nn.Parameter(torch.tensor([0.3, -0.0, 1e-30, 7e7]))
    before = p.detach().clone()
    with perturbed([p], [torch.ones(4)], 0.1):
        assert torch.equal(p, before + 0.1)
    assert p.detach().numpy().tobytes() == before.numpy().tobytes()


def test_gradient_is_computed_without_moving_the_parameters(method):
    model = TinyRecommender(dtype=torch.float32)
    before = copies(model.parameters())
    optimizer = make(method, model.parameters())
    optimizer.compute_gradient(model.losses, ITEMS)
    assert are_identical(model.parameters(), before)
    assert all(p.grad is not None for p in model.parameters())
    assert not optimizer.state


class Failing:
    """A loss function that goes wrong at its n-th evaluation."""

    def __init__(self, model, at, with_):
        self.model, self.at, self.with_ = model, at, with_
        self.n = 0

    def __call__(self, rows):
        self.n += 1
        losses = self.model.losses(rows)
        if self.n < self.at:
            return losses
        if self.with_ == "exception":
            raise RuntimeError("the loss function failed")
        bad = torch.zeros_like(losses, dtype=torch.bool)
        bad[0, 0] = True
        return losses.masked_fill(bad, self.with_)


@pytest.mark.parametrize("with_", ["exception", float("nan"), float("inf")])
@pytest.mark.parametrize("at", [1, 2])
def test_a_failure_in_either_evaluation_changes_nothing(perturbing, at, with_):
    model = TinyRecommender(dtype=torch.float32)
    optimizer = make(perturbing, model.parameters())
    train(model, optimizer, 3)
    parameters, state = copies(model.parameters()), copy.deepcopy(optimizer.state_dict())

    error, message = (
        (RuntimeError, "the loss function failed")
        if with_ == "exception"
        else (FloatingPointError, r"losses must be finite; got 1 of")
    )
    loss_fn = Failing(model, at, with_)
    with pytest.raises(error, match=message):
        optimizer.step(loss_fn, ITEMS)
    assert loss_fn.n == at
    assert are_identical(model.parameters(), parameters)
    assert are_same_state(optimizer.state_dict(), state)

    twin = TinyRecommender(dtype=torch.float32)
    other = make(perturbing, twin.parameters())
    train(twin, other, 3)
    train(twin, other, 1)
    train(model, optimizer, 1)  # training goes on as if nothing had happened
    assert are_identical(model.parameters(), twin.parameters())


@pytest.mark.parametrize("with_", ["exception", float("nan"), float("inf")])
def test_a_failure_of_the_only_evaluation_changes_nothing(with_):
    model = TinyRecommender()
    optimizer = make("ERM", model.parameters())
    before = copies(model.parameters())
    with pytest.raises((RuntimeError, FloatingPointError)):
        optimizer.step(Failing(model, 1, with_), ITEMS)
    assert are_identical(model.parameters(), before)
    assert not optimizer.state


def test_an_infinite_ascent_direction_is_refused_with_everything_unchanged(perturbing):
    # The square root has a finite value and an infinite slope at zero.
    theta = nn.Parameter(torch.zeros(6))
    optimizer = make(perturbing, [theta])
    with pytest.raises(
        FloatingPointError, match=r"norm of the ascent direction must be finite; got (inf|nan)"
    ):
        optimizer.step(lambda rows: theta[rows].sqrt(), torch.arange(6))
    assert theta.tolist() == [0.0] * 6
    assert not optimizer.state


# What any PyTorch user expects


def test_schedulers_drive_the_rate_of_the_base_optimizer(method):
    ours, constant = TinyRecommender(), TinyRecommender()
    optimizer = make(method, ours.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    train(ours, optimizer, 1)
    scheduler.step()
    assert scheduler.get_last_lr() == [0.05]
    assert optimizer.base.param_groups[0]["lr"] == 0.05
    train(ours, optimizer, 1)

    by_hand = make(method, constant.parameters(), lr=0.1)
    train(constant, by_hand, 1)
    by_hand.param_groups[0]["lr"] = 0.05
    train(constant, by_hand, 1)
    assert are_identical(ours.parameters(), constant.parameters())


def test_gradient_then_step_equals_step_and_leaves_room_for_clipping(method):
    one, two, clipped = TinyRecommender(), TinyRecommender(), TinyRecommender()
    make(method, one.parameters()).step(one.losses, ITEMS)
    optimizer = make(method, two.parameters())
    optimizer.compute_gradient(two.losses, ITEMS)
    assert optimizer.step() is None
    assert are_identical(one.parameters(), two.parameters())

    optimizer = make(method, clipped.parameters(), torch.optim.SGD, lr=1.0)
    before = copies(clipped.parameters())
    optimizer.compute_gradient(clipped.losses, ITEMS)
    nn.utils.clip_grad_norm_(optimizer.parameters(), 1e-3)
    optimizer.step()
    moved = torch.cat([(p - q).flatten() for p, q in zip(clipped.parameters(), before, strict=True)]).norm()
    assert moved.item() == pytest.approx(1e-3, rel=1e-2)  # clip_grad_norm_ adds 1e-6 to the norm


def test_old_gradients_do_not_leak_into_a_step(method):
    clean, dirty = TinyRecommender(), TinyRecommender()
    for p in dirty.parameters():
        p.grad = torch.full_like(p, 1e3)
    make(method, clean.parameters()).step(clean.losses, ITEMS)
    make(method, dirty.parameters()).step(dirty.losses, ITEMS)
    assert are_identical(clean.parameters(), dirty.parameters())


def test_zero_grad_clears_every_gradient(model, method):
    optimizer = make(method, model.parameters())
    optimizer.compute_gradient(model.losses, ITEMS)
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_added_groups_are_trained_like_groups_given_at_once(method):
    ours, given = TinyRecommender(), TinyRecommender()
    optimizer = make(method, [ours.hidden, ours.bias])
    optimizer.add_param_group({"params": [ours.output], "lr": 0.01, "perturb": False})
    groups = [
        {"params": [given.hidden, given.bias]},
        {"params": [given.output], "lr": 0.01, "perturb": False},
    ]
    at_once = make(method, groups)
    train(ours, optimizer, 5)
    train(given, at_once, 5)
    assert are_identical(ours.parameters(), given.parameters())
    assert optimizer.param_groups is optimizer.base.param_groups
    assert [group["perturb"] for group in optimizer.param_groups] == [True, False]


def test_a_refused_group_is_not_added(perturbing, model):
    optimizer = make(perturbing, model.parameters())
    with pytest.raises(ValueError, match=r"torch.bfloat16"):
        optimizer.add_param_group({"params": nn.Parameter(torch.ones(2, dtype=torch.bfloat16))})
    assert len(optimizer.param_groups) == len(optimizer.base.param_groups) == 1
    optimizer.step(model.losses, ITEMS)


def test_named_parameters_are_accepted(method, model):
    optimizer = make(method, model.named_parameters())
    assert optimizer.param_groups[0]["param_names"] == ["hidden", "bias", "output"]
    optimizer.step(model.losses, ITEMS)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_and_pickles_train_on_like_the_original(method, copied):
    model = TinyRecommender()
    optimizer = make(method, model.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)  # wraps the original's step
    train(model, optimizer, 2)
    twin, twin_optimizer = copied((model, optimizer))
    assert twin_optimizer.param_groups is twin_optimizer.base.param_groups
    assert twin_optimizer.state is twin_optimizer.base.state
    train(twin, twin_optimizer, 2)
    train(model, optimizer, 2)
    scheduler.step()
    assert are_identical(twin.parameters(), model.parameters())


# State


@pytest.mark.parametrize(("base", "arguments"), BASES)
def test_restart_from_checkpoint_matches_uninterrupted_run(method, base, arguments):
    whole = TinyRecommender()
    train(whole, make(method, whole.parameters(), base, **arguments), 8)

    first = TinyRecommender()
    optimizer = make(method, first.parameters(), base, **arguments)
    train(first, optimizer, 4)
    saved = through_a_file({"model": first.state_dict(), "optimizer": optimizer.state_dict()})

    second = TinyRecommender(seed=1)
    second.features = whole.features
    resumed = make(method, second.parameters(), base, **{"lr": 9.0} | arguments)  # the state knows better
    second.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    assert resumed.param_groups is resumed.base.param_groups
    assert resumed.state is resumed.base.state
    assert are_same_state(resumed.state_dict(), optimizer.state_dict())
    train(second, resumed, 4)
    assert are_identical(second.parameters(), whole.parameters())


def test_a_loaded_state_brings_radius_strength_and_weights_with_it(model):
    saved = make("EISAM", model.parameters(), rho=0.7, strength=0.4).state_dict()
    optimizer = make("EISAM", model.parameters(), item_weights=torch.ones(N_ITEMS), rho=0.1, strength=1.0)
    optimizer.load_state_dict(saved)
    assert (optimizer.rho, optimizer.strength) == (0.7, 0.4)
    assert torch.equal(optimizer.item_weights, ITEM_WEIGHTS)


def test_a_scheduler_goes_on_after_a_restart(method):
    model = TinyRecommender()
    optimizer = make(method, model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    train(model, optimizer, 1)
    scheduler.step()
    saved = through_a_file({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()})

    resumed = make(method, model.parameters(), lr=0.1)
    rates = torch.optim.lr_scheduler.LambdaLR(resumed, lambda step: 0.5**step)
    resumed.load_state_dict(saved["optimizer"])
    rates.load_state_dict(saved["scheduler"])
    train(model, resumed, 1)
    rates.step()
    assert resumed.base.param_groups[0]["lr"] == 0.025


def small(method="EISAM", sizes=((2, 3), (4,)), base=torch.optim.AdamW, **arguments):
    return make(method, [nn.Parameter(torch.ones(size)) for size in sizes], base, **arguments)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (lambda: small("SAM").state_dict(), r"method EISAM; got SAM"),
        (lambda: small("ERM").state_dict(), r"method EISAM; got ERM"),
        (lambda: small(base=torch.optim.SGD).state_dict(), r"base optimizer AdamW; got SGD"),
        (small().base.state_dict, r"without the key 'tailwise'.*`\.base`"),
        (lambda: small(item_weights=torch.ones(9)).state_dict(), r"weights of 7 items; got 9"),
        (lambda: small(sizes=((2, 5), (4,))).state_dict(), r"parameter 0 of shape \(2, 3\); got \(2, 5\)"),
        (lambda: small(sizes=((2, 3), (4,), (1,))).state_dict(), r"groups of sizes \[2\]; got \[3\]"),
    ],
)
def test_a_foreign_state_is_refused_by_name_and_value_with_nothing_changed(saved, message):
    optimizer = small()
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(saved())
    assert are_same_state(optimizer.state_dict(), before)


@pytest.mark.parametrize(("key", "value"), [("version", 0), ("version", 99), ("estimator", "other")])
def test_a_state_of_another_version_or_estimator_is_refused(key, value):
    state = small().state_dict()
    state["tailwise"][key] = value
    with pytest.raises(ValueError, match=rf"{key}.*; got '?{value}'?\."):
        small().load_state_dict(state)


@pytest.mark.parametrize("damage", [lambda own: own.pop("n_steps"), lambda own: own.update(surplus=1)])
def test_a_state_with_a_key_too_few_or_too_many_is_refused_with_nothing_changed(damage):
    state = small().state_dict()
    damage(state["tailwise"])
    optimizer = small()
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"state_dict must hold \[.*n_steps.*\] under 'tailwise'; got \["):
        optimizer.load_state_dict(state)
    assert are_same_state(optimizer.state_dict(), before)


def test_a_state_that_would_perturb_a_low_precision_parameter_is_refused(perturbing):
    saved = make(perturbing, [nn.Parameter(torch.ones(2))]).state_dict()
    excluded = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    optimizer = make(perturbing, [{"params": [excluded], "perturb": False}])
    with pytest.raises(ValueError, match=r"torch.bfloat16"):
        optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["perturb"] is False


# Arguments of a step


@pytest.mark.parametrize("items", [torch.full((6, 3), -1), torch.empty(0, 3, dtype=torch.int64)])
def test_a_batch_without_any_target_is_refused(model, method, items):
    with pytest.raises(ValueError, match=r"items must name a target .*; got -1 everywhere"):
        make(method, model.parameters()).step(model.losses, items)


def test_reduced_losses_are_refused_with_both_shapes(model, method):
    with pytest.raises(
        ValueError, match=r"loss_fn must return .* shape \(\d, 3\); got \(\)\..*reduction='none'"
    ):
        make(method, model.parameters()).step(lambda rows: model.losses(rows).mean(), ITEMS)


def test_a_loss_function_that_ignores_rows_is_refused_at_the_second_evaluation(model):
    before = copies(model.parameters())
    with pytest.raises(ValueError, match=r"loss_fn must return .* shape \(3, 3\); got \(6, 3\)"):
        make("EISAM", model.parameters()).step(lambda rows: model.losses(torch.arange(6)), ITEMS)
    assert are_identical(model.parameters(), before)


def test_a_loss_function_without_items_is_refused(model, method):
    with pytest.raises(ValueError, match="items must be given with loss_fn; got None"):
        make(method, model.parameters()).step(model.losses)


def test_nothing_to_perturb_is_refused_with_the_remedy(model, perturbing):
    optimizer = make(perturbing, [{"params": list(model.parameters()), "perturb": False}])
    with pytest.raises(ValueError, match=r'"perturb": True; got none.*ERM'):
        optimizer.step(model.losses, ITEMS)


def test_excluded_groups_mean_nothing_to_plain_training(model):
    ours, plain = model, TinyRecommender()
    ERM([{"params": list(ours.parameters()), "perturb": False}], torch.optim.SGD, lr=0.1).step(
        ours.losses, ITEMS
    )
    ERM(plain.parameters(), torch.optim.SGD, lr=0.1).step(plain.losses, ITEMS)
    assert are_identical(ours.parameters(), plain.parameters())


def test_a_saved_state_does_not_follow_later_changes_of_the_weights(model):
    weights = ITEM_WEIGHTS.clone()
    saved = EISAM(model.parameters(), torch.optim.SGD, item_weights=weights, rho=0.1).state_dict()
    weights.zero_()
    assert torch.equal(saved["tailwise"]["item_weights"], ITEM_WEIGHTS)


@pytest.mark.parametrize("shape", [(0,), (3, 5), (70_000,), (400, 401), (2**16,), (2**17,)])
def test_the_norm_of_a_direction_is_that_of_all_its_entries_however_many_and_however_held(shape):
    entries = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = float(entries.double().square().sum().sqrt())
    assert direction_norm([entries]) == pytest.approx(expected, rel=1e-12)
    assert direction_norm([entries.mT if entries.ndim == 2 else entries]) == pytest.approx(
        expected, rel=1e-12
    )
    assert direction_norm([entries, entries]) == pytest.approx(2**0.5 * expected, rel=1e-12)


def test_one_entry_that_is_not_finite_is_found_in_the_last_part_of_many():
    entries = torch.zeros(2**17 + 1)
    entries[-1] = torch.inf
    with pytest.raises(FloatingPointError, match="norm of the ascent direction must be finite; got inf"):
        direction_norm([entries])
