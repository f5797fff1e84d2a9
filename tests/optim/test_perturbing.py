"""What every perturbing method offers: which parameters move, how far, and when."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tailwise.optim import SAM

from .builders import ITEMS, TinyRecommender, Watched, are_identical, copies, train_plainly


def moved_by(model, groups=None, **arguments):
    """Names of what moved, and the whole displacement."""
    optimizer = SAM(groups or model.named_parameters(), torch.optim.SGD, lr=0.1, **{"rho": 0.3} | arguments)
    optimizer.step(model.losses, ITEMS)
    first, second = model.seen
    delta = {name: second[name] - first[name] for name in first}
    return {name for name, d in delta.items() if d.any()}, delta


# What moves


def groups(model):
    return [
        {"params": [("hidden", model.hidden), ("bias", model.bias)]},
        {"params": [("output", model.output)], "per_item": True},
    ]


@pytest.mark.parametrize(
    ("perturb", "expected"),
    [
        ("shared", {"hidden", "bias"}),
        ("all", {"hidden", "bias", "output"}),
        ("output", {"output"}),
        ("*i*", {"hidden", "bias"}),
        (("bias", "out*"), {"bias", "output"}),
    ],
)
def test_what_moves_can_be_chosen_by_kind_or_by_name(perturb, expected):
    model = Watched()
    names, delta = moved_by(model, groups(model), perturb=perturb)
    assert names == expected
    assert torch.cat([d.flatten() for d in delta.values()]).norm().item() == pytest.approx(0.3, rel=1e-12)


def test_a_group_that_must_not_be_perturbed_is_not_by_any_choice():
    for perturb in ("all", "*"):
        model = Watched()
        given = groups(model)
        given[0]["perturb"] = False
        assert moved_by(model, given, perturb=perturb)[0] == {"output"}


def test_a_pattern_that_names_nothing_is_refused_with_what_there_is(model):
    with pytest.raises(
        ValueError, match=r"perturb must name .*; got '\*lora_B\*'.* of 3 \(first: hidden, bias"
    ):
        SAM(model.named_parameters(), torch.optim.SGD, rho=0.1, perturb=("bias", "*lora_B*"))


def test_a_pattern_without_names_is_refused_with_the_remedy(model):
    with pytest.raises(ValueError, match=r"perturb='bias' needs parameters with names.*named_parameters"):
        SAM(model.parameters(), torch.optim.SGD, rho=0.1, perturb="bias")


def test_an_added_group_follows_the_choice_of_what_moves():
    model = Watched()
    optimizer = SAM([("hidden", model.hidden)], torch.optim.SGD, rho=0.3, perturb="shared")
    optimizer.add_param_group({"params": [("output", model.output)], "per_item": True})
    assert optimizer.perturbed_parameters() == [model.hidden]


# How far


def test_relative_radius_is_in_units_of_the_norm_of_what_moves():
    model = Watched()
    start = torch.cat([model.hidden.detach().flatten(), model.bias.detach()]).norm()
    _, delta = moved_by(model, groups(model), rho=0.2, relative=True)
    length = torch.cat([d.flatten() for d in delta.values()]).norm()
    assert length.item() == pytest.approx(0.2 * start.item(), rel=1e-12)


def test_adaptive_perturbation_worked_by_hand():
    # theta = (3, 4), losses x²/2 and y²/2: g = (1.5, 2), T = theta + 1 = (4, 5), T g = (6, 10),
    # eps = 2 T² g/‖T g‖ = 2 (24, 50)/√136; the gradient at theta + eps is (theta + eps)/2.
    theta = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = SAM([theta], torch.optim.SGD, rho=2.0, adaptive=True, eta=1.0, lr=0.1)
    optimizer.compute_gradient(lambda rows: theta[rows] ** 2 / 2, torch.tensor([0, 1]))
    eps = 2 * torch.tensor([24.0, 50.0], dtype=torch.float64) / 136**0.5
    assert torch.allclose(theta.grad, (torch.tensor([3.0, 4.0]) + eps) / 2, rtol=1e-14)


def test_adaptive_perturbation_takes_sparse_gradients():
    embedding = nn.Embedding(5, 3, sparse=True, dtype=torch.float64)
    dense = nn.Embedding(5, 3, dtype=torch.float64, _weight=embedding.weight.detach().clone())
    ids = torch.tensor([[0, 0], [1, 3]])
    for e in (embedding, dense):
        optimizer = SAM(e.parameters(), torch.optim.SGD, rho=0.5, adaptive=True, lr=0.3)
        optimizer.step(
            lambda rows, e=e: F.cross_entropy(
                e(ids[rows]).sum(1), torch.tensor([1, 2])[rows], reduction="none"
            ),
            torch.tensor([1, 2]),
        )
    assert torch.allclose(embedding.weight, dense.weight, rtol=1e-12)  # float64, one step


# When


def test_training_is_plain_until_the_start_step():
    ours, plain = TinyRecommender(), TinyRecommender()
    optimizer = SAM(ours.parameters(), torch.optim.AdamW, rho=0.3, start_step=10, lr=0.05)
    for _ in range(10):
        optimizer.step(ours.losses, ITEMS)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 10)
    assert are_identical(ours.parameters(), plain.parameters())
    before = copies(ours.parameters())
    optimizer.step(ours.losses, ITEMS)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 1)
    assert not are_identical(before, ours.parameters())
    assert not are_identical(ours.parameters(), plain.parameters())


def test_radius_follows_its_schedule():
    model = TinyRecommender()
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.5, rho_schedule=lambda step: step / 4, lr=0.1)
    radii = []
    for _ in range(4):
        radii.append(optimizer.current_rho)
        optimizer.step(model.losses, ITEMS)
    assert radii == [0.0, 0.125, 0.25, 0.375]


@pytest.mark.parametrize("factor", [-1.0, float("nan")])
def test_a_schedule_out_of_range_is_refused_with_its_step(model, factor):
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.5, rho_schedule=lambda step: factor)
    with pytest.raises(ValueError, match=rf"rho_schedule must return .*; got {factor} at step 0"):
        optimizer.step(model.losses, ITEMS)


def test_a_failed_step_is_not_counted(model):
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.5)
    with pytest.raises(FloatingPointError):
        optimizer.step(lambda rows: model.losses(rows) * float("nan"), ITEMS)
    assert optimizer.n_steps == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eta": -1.0}, r"eta must be .*; got -1.0"),
        ({"start_step": -1}, r"start_step must be .*; got -1"),
        ({"rho": float("inf")}, r"rho must be .*; got inf"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name_and_value(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        SAM(model.parameters(), torch.optim.SGD, **{"rho": 0.1} | arguments)


# State


def test_settings_and_counter_come_back_with_the_state(model):
    optimizer = SAM(
        model.parameters(), torch.optim.SGD, rho=0.5, adaptive=True, eta=0.2, relative=True, start_step=3
    )
    for _ in range(2):
        optimizer.step(model.losses, ITEMS)
    other = SAM(TinyRecommender().parameters(), torch.optim.SGD, rho=0.1)
    other.load_state_dict(optimizer.state_dict())
    for name in ("rho", "adaptive", "eta", "relative", "start_step", "n_steps"):
        assert getattr(other, name) == getattr(optimizer, name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"perturb": "all"}, r"perturb='all'; got 'shared'"),
        ({"rho_schedule": lambda step: 1.0}, r"has_schedule=True; got False"),
    ],
)
def test_a_state_that_moves_other_parameters_or_lacks_a_schedule_is_refused(model, given, message):
    state = SAM(model.parameters(), torch.optim.SGD, rho=0.1).state_dict()
    with pytest.raises(ValueError, match=message):
        SAM(model.parameters(), torch.optim.SGD, rho=0.1, **given).load_state_dict(state)
