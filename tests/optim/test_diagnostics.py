import copy

import pytest
import torch

from tailwise.optim import EISAM
from tailwise.optim._diagnostics import cosine

from .builders import ITEM_WEIGHTS, ITEMS, TinyRecommender, are_identical, copies

WEIGHTS = ITEM_WEIGHTS.double()


def trained(estimator, n_steps=3, dropout=0.0, **arguments):
    model = TinyRecommender(dropout=dropout)
    groups = [
        {"params": [model.hidden, model.bias]},
        {"params": [model.output], "per_item": True},
    ]
    optimizer = EISAM(
        groups,
        torch.optim.AdamW,
        **{
            "item_weights": WEIGHTS,
            "rho": 0.3,
            "lr": 0.05,
            "seed": 5,
            "estimator": estimator,
            "perturb": "all",
        }
        | arguments,
    )
    for _ in range(n_steps):
        optimizer.step(model.losses, ITEMS)
    return model, optimizer


def test_exact_agrees_with_itself():
    model, optimizer = trained("exact")
    report = optimizer.diagnose(model.losses, ITEMS)
    assert report.cosine_shared == pytest.approx(1, abs=1e-12)
    assert report.cosine_per_item == pytest.approx(1, abs=1e-12)
    assert report.radius == 0.3
    assert report.realised_norm == pytest.approx(0.3, rel=1e-12)
    assert report.share_of_rows_perturbed == 3 / 5  # rows 0, 1, 3 hold weight; row 4 no target
    assert (report.smallest_factor, report.largest_factor) == (1.0, 1.0)


def test_single_pass_is_compared_with_the_exact_direction_of_the_batch():
    model, optimizer = trained("single-pass")
    c = WEIGHTS[ITEMS[ITEMS >= 0]]
    leaves = [p.detach().clone().requires_grad_() for p in model.parameters()]
    g_w = torch.autograd.grad((c * model.target_losses(leaves)).sum(), leaves)
    kept = optimizer.state_dict()["tailwise"]["kept_direction"]

    def cosine(a, b):
        return torch.nn.functional.cosine_similarity(torch.cat(a), torch.cat(b), dim=0).item()

    report = optimizer.diagnose(model.losses, ITEMS)
    shared = [[t.flatten() for t in ts[:2]] for ts in (kept, g_w)]
    per_item = [[t.flatten() for t in ts[2:]] for ts in (kept, g_w)]
    assert report.cosine_shared == pytest.approx(cosine(*shared), rel=1e-9)
    assert report.cosine_per_item == pytest.approx(cosine(*per_item), rel=1e-9)
    assert report.cosine_shared < 0.999
    assert report.realised_norm == pytest.approx(0.3, rel=1e-12)
    assert 0 <= report.share_of_rows_perturbed <= 1
    assert report.smallest_factor < 1 < report.largest_factor


@pytest.mark.parametrize(("right", "expected"), [([3.0, 4.0], 1.0), ([-3.0, -4.0], -1.0), ([4.0, -3.0], 0.0)])
def test_cosine_worked_by_hand_keeps_its_sign(right, expected):
    left = [torch.tensor([6.0]), torch.tensor([8.0])]
    assert cosine(left, [torch.tensor(right)]) == pytest.approx(expected, abs=1e-12)


def test_cosine_with_nothing_is_unknown():
    assert cosine([], []) is None
    assert cosine([torch.zeros(2)], [torch.ones(2)]) is None


def test_before_any_direction_is_known_there_is_nothing_to_compare():
    model, optimizer = trained("single-pass", n_steps=0)
    report = optimizer.diagnose(model.losses, ITEMS)
    assert report.cosine_shared is None
    assert report.cosine_per_item is None
    assert report.realised_norm == 0.0


def test_unperturbed_kinds_have_no_cosine():
    model, optimizer = trained("exact", perturb="shared")
    assert optimizer.diagnose(model.losses, ITEMS).cosine_per_item is None


@pytest.mark.parametrize("estimator", ["exact", "single-pass", "every-k"])
def test_diagnosing_changes_nothing(estimator):
    model, optimizer = trained(estimator, dropout=0.5)
    optimizer.compute_gradient(model.losses, ITEMS)
    parameters, gradients = copies(model.parameters()), [p.grad.clone() for p in model.parameters()]
    state, random_state = copy.deepcopy(optimizer.state_dict()), torch.get_rng_state()
    optimizer.diagnose(model.losses, ITEMS)
    assert are_identical(model.parameters(), parameters)
    assert are_identical([p.grad for p in model.parameters()], gradients)
    assert torch.equal(torch.get_rng_state(), random_state)
    after = optimizer.state_dict()["tailwise"]
    assert after["n_steps"] == state["tailwise"]["n_steps"]
    kept = state["tailwise"]["kept_direction"]
    assert (after["kept_direction"] is None) == (kept is None)
    assert kept is None or are_identical(after["kept_direction"], kept)
