"""The precision rule: a perturbation must survive the matrix product that it is meant for."""

import contextlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from .builders import ITEM_WEIGHTS, Counted, TinyRecommender, copies, make

RHO = 0.001  # per entry, what 0.01 is to adapters of 77,000 entries
ITEMS = torch.arange(6).repeat(4)  # 24 rows of one target


class LowRank(nn.Module):
    """A frozen linear map plus two LoRA-like factors; records the factors as their matmuls see them."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.features = torch.randn(len(ITEMS), 64, generator=generator).to(dtype)
        self.frozen = (torch.randn(32, 64, generator=generator) / 8).to(dtype)
        self.down = nn.Parameter((torch.randn(8, 64, generator=generator) / 8).to(dtype))
        self.up = nn.Parameter((torch.randn(32, 8, generator=generator) / 8).to(dtype))
        self.seen = []

    def losses(self, rows):
        x = self.features[rows]
        # The identity times a factor is the factor in the precision of the product.
        identities = torch.eye(64, dtype=x.dtype), torch.eye(8, dtype=x.dtype)
        as_seen = [
            F.linear(e, p).detach().double().T for e, p in zip(identities, (self.down, self.up), strict=True)
        ]
        self.seen.append(torch.cat([t.flatten() for t in as_seen]))
        scores = F.linear(x, self.frozen) + F.linear(F.linear(x, self.down), self.up)
        return F.cross_entropy(scores.to(x.dtype), ITEMS[rows], reduction="none")


def realised_against_intended(method, autocast):
    """Norm of the realised perturbation over ρ, and its cosine with the direction computed in float64."""
    c = 0.8 * ITEM_WEIGHTS[ITEMS].double() if method == "EISAM" else torch.ones(len(ITEMS))
    exact = LowRank(torch.float64)
    objective = (c * exact.losses(torch.arange(len(ITEMS)))).mean()
    intended = torch.cat([g.flatten() for g in torch.autograd.grad(objective, list(exact.parameters()))])

    model = LowRank()
    optimizer = make(method, model.parameters(), rho=RHO)

    def losses(rows):
        with autocast():
            return model.losses(rows)

    optimizer.step(losses, ITEMS)
    realised = model.seen[1] - model.seen[0]
    return realised.norm().item() / RHO, F.cosine_similarity(realised, intended, dim=0).item()


def test_float32_factors_realise_the_perturbation_through_their_matmul(perturbing):
    # float32 resolves 1e-8 of an entry near 0.1; entries of the perturbation are near 0.001/√768 = 4e-5.
    length, cosine = realised_against_intended(perturbing, contextlib.nullcontext)
    assert length == pytest.approx(1, rel=0.01)
    assert cosine >= 0.99


def test_the_same_factors_under_bfloat16_autocast_lose_the_perturbation(perturbing):
    """Shows that the test above can fail: bfloat16 steps near 0.1 are 5e-4, so most entries do not move."""
    _, cosine = realised_against_intended(perturbing, lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    assert cosine < 0.6


def test_evaluations_inside_autocast_do_not_see_cast_copies_of_earlier_parameters(perturbing):
    """Autocast caches its copies of parameters; a radius that bfloat16 resolves must arrive, and leave."""
    model = LowRank()
    optimizer = make(perturbing, model.parameters(), torch.optim.SGD, rho=5.0, lr=0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        optimizer.step(model.losses, ITEMS)
        model.losses(torch.arange(len(ITEMS)))
    first, second, after_the_step = model.seen
    # Entries move by 5/√768 = 0.2 on average; bfloat16 errors of entries below 1 are below 0.004 each.
    assert (second - first).norm().item() == pytest.approx(5.0, rel=0.02)
    assert torch.equal(after_the_step, first)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_parameters_are_refused_by_name_of_their_dtype(perturbing, dtype):
    parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3, 4, dtype=dtype))]
    with pytest.raises(
        ValueError, match=rf"got {dtype} for parameter 1 of shape \(3, 4\).*\"perturb\": False"
    ):
        make(perturbing, parameters)


def test_a_model_cast_to_low_precision_after_construction_is_refused_at_the_next_step(perturbing):
    model = TinyRecommender(dtype=torch.float32)
    optimizer = make(perturbing, model.parameters())
    loss_fn = Counted(model.losses)
    model.to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"got torch.bfloat16 for parameter 0"):
        optimizer.step(loss_fn, model.items)
    assert loss_fn.forwards == 0


def test_frozen_low_precision_parameters_are_accepted(perturbing):
    frozen = nn.Parameter(torch.ones(2, dtype=torch.bfloat16), requires_grad=False)
    theta = nn.Parameter(torch.ones(2))
    optimizer = make(perturbing, [theta, frozen])
    assert [p is theta for p in optimizer.perturbed_parameters()] == [True]


def test_excluded_low_precision_parameters_are_trained_and_never_perturbed(perturbing):
    scale = nn.Parameter(torch.ones(6, dtype=torch.bfloat16))
    theta = nn.Parameter(torch.ones(6))
    seen = []

    def losses(rows):
        seen.append(copies([scale, theta]))
        return ((scale * theta)[rows] - 2) ** 2

    groups = [{"params": [theta]}, {"params": [scale], "perturb": False}]
    make(perturbing, groups, torch.optim.SGD, rho=0.5, lr=0.5).step(losses, torch.arange(6))
    first, second = seen
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])
    assert not torch.equal(scale, first[0])
