"""What every method promises, asked of the rivals: tests written for SAM and EISAM, or their general form."""

import contextlib
import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from .builders import ITEMS, Counted, TinyRecommender, Watched, are_identical, copies, make
from .test_eisam import (
    test_a_vanishing_direction_does_not_perturb,
    test_frozen_and_unused_parameters_stay_as_they_are,
    test_random_state_after_a_step_is_that_after_one_forward,
    test_sparse_embedding_gradients_give_the_step_of_dense_ones,
)
from .test_precision import ITEMS as PRECISION_ITEMS
from .test_precision import (
    LowRank,
    test_a_model_cast_to_low_precision_after_construction_is_refused_at_the_next_step,
    test_frozen_low_precision_parameters_are_accepted,
    test_low_precision_parameters_are_refused_by_name_of_their_dtype,
)
from .test_wrapper import (
    are_same_state,
    test_a_refused_group_is_not_added,
    test_a_state_that_would_perturb_a_low_precision_parameter_is_refused,
    test_nothing_to_perturb_is_refused_with_the_remedy,
)

__all__ = [  # collected here once more, for the methods of the fixture below
    "test_a_model_cast_to_low_precision_after_construction_is_refused_at_the_next_step",
    "test_a_refused_group_is_not_added",
    "test_a_state_that_would_perturb_a_low_precision_parameter_is_refused",
    "test_a_vanishing_direction_does_not_perturb",
    "test_frozen_and_unused_parameters_stay_as_they_are",
    "test_frozen_low_precision_parameters_are_accepted",
    "test_low_precision_parameters_are_refused_by_name_of_their_dtype",
    "test_nothing_to_perturb_is_refused_with_the_remedy",
    "test_random_state_after_a_step_is_that_after_one_forward",
    "test_sparse_embedding_gradients_give_the_step_of_dense_ones",
]

RIVALS = ["ASAM", "ImbSAM", "FocalSAM", "GroupSAM", "LookSAM", "MomentumSAM"]
N_EVALUATIONS = {"GroupSAM": 4, "MomentumSAM": 1}  # of a step in the tests' settings; two of the others

# A rate of 0 keeps the parameters where they are, while the momentum that MomentumSAM needs builds up.
STILL = {"base": torch.optim.SGD, "lr": 0.0, "momentum": 0.9}


@pytest.fixture(params=RIVALS)
def perturbing(request):
    return request.param


def seen_by(method, model, items, *, autocast=contextlib.nullcontext, **arguments):
    """What the first two evaluations left in ``model.seen``, the second of them perturbed; trains nothing."""
    optimizer = make(method, model.parameters(), **STILL | arguments)

    def losses(rows):
        with autocast():
            return model.losses(rows)

    while len(model.seen) < 2:
        optimizer.step(losses, items)
    return model.seen[:2]


# Failures


@pytest.mark.parametrize("with_", ["exception", float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("method", "at"), [(name, n + 1) for name in RIVALS for n in range(N_EVALUATIONS.get(name, 2))]
)
def test_a_failure_in_any_evaluation_changes_nothing(method, at, with_):
    model, twin = TinyRecommender(dtype=torch.float32), TinyRecommender(dtype=torch.float32)
    optimizer, other = (make(method, m.parameters()) for m in (model, twin))
    for _ in range(3):
        optimizer.step(model.losses, ITEMS)
        other.step(twin.losses, ITEMS)
    parameters, state = copies(model.parameters()), copy.deepcopy(optimizer.state_dict())
    n = 0

    def failing(rows):
        nonlocal n
        n += 1
        if n == at and with_ == "exception":
            raise RuntimeError("the loss function failed")
        return model.losses(rows) * (with_ if n == at else 1.0)

    with pytest.raises(
        (RuntimeError, FloatingPointError), match=r"the loss function failed|losses must be finite"
    ):
        optimizer.step(failing, ITEMS)
    assert n == at
    assert are_identical(model.parameters(), parameters)
    assert are_same_state(optimizer.state_dict(), state)

    optimizer.step(model.losses, ITEMS)  # training goes on as if nothing had happened
    other.step(twin.losses, ITEMS)
    assert are_identical(model.parameters(), twin.parameters())


@pytest.mark.parametrize("method", [name for name in RIVALS if name != "MomentumSAM"])
def test_an_infinite_ascent_direction_is_refused_with_everything_unchanged(method):
    # The square root has a finite value and an infinite slope at zero.
    theta = nn.Parameter(torch.zeros(6))
    optimizer = make(method, [theta])
    with pytest.raises(
        FloatingPointError, match=r"norm of the ascent direction must be finite; got (inf|nan)"
    ):
        optimizer.step(lambda rows: theta[rows].sqrt(), torch.arange(6))
    assert theta.tolist() == [0.0] * 6
    assert not optimizer.state
    assert optimizer.n_steps == 0


def test_an_infinite_momentum_is_refused_with_everything_unchanged():
    theta = nn.Parameter(torch.ones(6))
    optimizer = make("MomentumSAM", [theta])
    optimizer.step(lambda rows: theta[rows] ** 2, torch.arange(6))
    optimizer.state[theta]["exp_avg"][0] = float("inf")
    before = copies([theta])
    with pytest.raises(FloatingPointError, match=r"norm of the ascent direction must be finite; got inf"):
        optimizer.step(lambda rows: theta[rows] ** 2, torch.arange(6))
    assert are_identical([theta], before)
    assert optimizer.n_steps == 1


# Randomness, and which parameters move


def test_all_evaluations_of_a_step_draw_the_same_dropout_masks(perturbing):
    model = TinyRecommender(dropout=0.5)
    seen = []

    def record(rows):
        seen.append(model.losses(rows))
        return seen[-1]

    # At a radius of 1e-12 another mask is the only thing that could move a loss visibly.
    make(perturbing, model.parameters(), torch.optim.SGD, rho=1e-12, lr=0.1).step(record, ITEMS)
    assert len(seen) == N_EVALUATIONS.get(perturbing, 2)
    assert all(torch.allclose(seen[0], there, rtol=0, atol=1e-9) for there in seen)
    assert not torch.allclose(seen[0], model.losses(torch.arange(len(ITEMS))), rtol=0, atol=1e-3)


@pytest.mark.parametrize("excluded", [{"perturb": False}, {"per_item": True}])
def test_excluded_groups_are_trained_but_never_perturbed(perturbing, excluded):
    model = Watched()
    groups = [{"params": [model.hidden, model.bias]}, {"params": [model.output], **excluded}]
    optimizer = make(perturbing, groups, torch.optim.SGD, lr=0.1, momentum=0.9)
    output = None
    for _ in range(2):
        model.seen.clear()
        output = model.output.detach().clone()
        optimizer.step(model.losses, ITEMS)
        assert all(torch.equal(seen["output"], output) for seen in model.seen)
        assert not torch.equal(model.output, output)


def test_the_others_are_perturbed_without_the_excluded(perturbing):
    model = Watched()
    groups = [{"params": [model.hidden, model.bias]}, {"params": [model.output], "perturb": False}]
    optimizer = make(perturbing, groups, **STILL)
    while len(model.seen) < 2:
        optimizer.step(model.losses, ITEMS)
    first, second = model.seen[:2]
    assert not torch.equal(first["hidden"], second["hidden"])
    assert not torch.equal(first["bias"], second["bias"])


# The precision rule


@pytest.mark.parametrize(
    ("autocast", "is_kept"),
    [(contextlib.nullcontext, True), (lambda: torch.autocast("cpu", dtype=torch.bfloat16), False)],
)
def test_the_perturbation_survives_the_matmul_in_float32_and_not_in_bfloat16(perturbing, autocast, is_kept):
    """What float64 makes of the same method is what is intended."""
    rho = 0.01 if perturbing == "ASAM" else 0.001  # ASAM moves an entry near 0.1 by a tenth of what SAM does
    first, second = seen_by(perturbing, LowRank(torch.float64), PRECISION_ITEMS, rho=rho)
    intended = second - first
    first, second = seen_by(perturbing, LowRank(), PRECISION_ITEMS, autocast=autocast, rho=rho)
    realised = second - first
    cosine = F.cosine_similarity(realised, intended, dim=0).item()
    # Entries near 0.1 move by 0.001/√768 = 4e-5; float32 resolves 1e-8 there, bfloat16 5e-4.
    if is_kept:
        assert cosine >= 0.99
        assert realised.norm().item() == pytest.approx(intended.norm().item(), rel=0.01)
    else:
        assert cosine < 0.8


def test_evaluations_inside_autocast_do_not_see_cast_copies_of_earlier_parameters(perturbing):
    """Autocast caches its copies of parameters; a radius that bfloat16 resolves must arrive, and leave."""
    first, second = seen_by(perturbing, LowRank(torch.float64), PRECISION_ITEMS, rho=5.0)
    intended = (second - first).norm().item()
    model = LowRank()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first, second = seen_by(perturbing, model, PRECISION_ITEMS, rho=5.0)
        model.losses(torch.arange(len(PRECISION_ITEMS)))
    # Where entries move by 0.2, bfloat16 errors below 0.004 are 2 % of them, and enter the direction too.
    assert (second - first).norm().item() == pytest.approx(intended, rel=0.03)
    assert torch.equal(model.seen[-1], first)


def test_excluded_low_precision_parameters_are_trained_and_never_perturbed(perturbing):
    scale = nn.Parameter(torch.ones(6, dtype=torch.bfloat16))
    theta = nn.Parameter(torch.ones(6))
    seen = []

    def losses(rows):
        seen.append(copies([scale, theta]))
        return ((scale * theta)[rows] - 2) ** 2

    groups = [{"params": [theta]}, {"params": [scale], "perturb": False}]
    optimizer = make(perturbing, groups, torch.optim.SGD, rho=0.5, lr=0.5, momentum=0.9)
    has_moved = False
    for _ in range(2):
        seen.clear()
        before = copies([scale, theta])
        optimizer.step(losses, torch.arange(6))
        assert all(torch.equal(s, before[0]) for s, _ in seen)
        assert not torch.equal(scale, before[0])
        has_moved |= any(not torch.equal(t, before[1]) for _, t in seen)
    assert has_moved


# State


@pytest.mark.parametrize("method", ["LookSAM", "MomentumSAM"])
def test_a_saved_state_does_not_follow_later_steps(model, method):
    optimizer = make(method, model.parameters(), torch.optim.SGD, momentum=0.0)
    optimizer.step(model.losses, ITEMS)
    own = optimizer.state_dict()["tailwise"]
    before = copy.deepcopy(own)
    for _ in range(4):
        optimizer.step(model.losses, ITEMS)
    assert are_same_state(own, before)


# Price


@pytest.mark.parametrize(
    ("method", "forwards", "backwards"),
    [
        ("ASAM", 2, 2),
        ("ImbSAM", 2, 3),
        ("FocalSAM", 2, 3),
        ("GroupSAM", 4, 7),  # three moving groups, and one that stays
        ("LookSAM", 2, 2),  # a full step
        ("MomentumSAM", 1, 1),
    ],
)
def test_price_of_a_step(model, method, forwards, backwards):
    optimizer = make(method, model.parameters())
    loss_fn = Counted(model.losses)
    optimizer.step(loss_fn, ITEMS)
    assert (loss_fn.forwards, loss_fn.backwards) == (forwards, backwards)
