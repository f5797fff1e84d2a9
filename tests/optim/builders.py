"""Tiny models and loss functions for the tests of this folder."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailwise.optim import ASAM, EISAM, ERM, SAM, FocalSAM, GroupSAM, ImbSAM, LookSAM, MomentumSAM
from tailwise.optim.reference import draws

N_ITEMS = 7
N_FEATURES = 5

# Two rows have no target at all or paddings only in part; item 6 never occurs.
ITEMS = torch.tensor([[0, 1, -1], [2, 2, 3], [-1, -1, 0], [4, -1, 5], [-1, -1, -1], [0, 0, 0]])
ITEM_WEIGHTS = torch.tensor([0.0, 0.1, 0.25, 0.5, 0.9, 1.0, 1.0])
TAIL_ITEMS = torch.tensor([False, False, True, True, True, True, True])
COUNTS = torch.tensor([40, 30, 12, 8, 6, 4, 0])
ITEM_GROUPS = torch.tensor([0, 1, 1, 2, 2, 3, 3])


class TinyRecommender(nn.Module):
    """Two-layer softmax over ``N_ITEMS`` items; every position of ``items`` is a target."""

    def __init__(self, items: Tensor = ITEMS, *, dtype=torch.float64, dropout=0.0, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.items = items
        self.dropout = dropout
        self.features = torch.randn(*items.shape, N_FEATURES, generator=generator).to(dtype)
        self.hidden = nn.Parameter(torch.randn(N_FEATURES, 4, generator=generator).to(dtype))
        self.bias = nn.Parameter(torch.randn(4, generator=generator).to(dtype))
        self.output = nn.Parameter(torch.randn(4, N_ITEMS, generator=generator).to(dtype))

    def losses_at(self, parameters, rows: Tensor) -> Tensor:
        """Losses of ``rows`` in the shape of ``items[rows]``, at the given parameters."""
        hidden, bias, output = parameters
        states = torch.tanh(self.features[rows] @ hidden + bias)
        if self.dropout:
            states = F.dropout(states, self.dropout)
        scores = states @ output
        targets = self.items[rows].clamp_min(0)
        return F.cross_entropy(scores.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)

    def losses(self, rows: Tensor) -> Tensor:
        """The loss function that optimizers take."""
        return self.losses_at(list(self.parameters()), rows)

    def target_losses(self, parameters) -> Tensor:
        """Losses of the true targets alone, ``[n_targets]``: what the references take."""
        return self.losses_at(parameters, torch.arange(len(self.items)))[self.items >= 0]


class Watched(TinyRecommender):
    """Keeps copies of its parameters as each evaluation found them."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.seen = []

    def losses(self, rows):
        self.seen.append({name: p.detach().clone() for name, p in self.named_parameters()})
        return super().losses(rows)


class Counted:
    """A loss function that counts its forwards and backwards and remembers the rows it was asked for."""

    def __init__(self, loss_fn):
        self.loss_fn = loss_fn
        self.rows = []
        self.backwards = 0

    @property
    def forwards(self):
        return len(self.rows)

    def __call__(self, rows):
        self.rows.append(rows.tolist())
        counted = self

        class Passage(torch.autograd.Function):
            @staticmethod
            def forward(ctx, losses):
                return losses.clone()

            @staticmethod
            def backward(ctx, gradient):
                counted.backwards += 1
                return gradient

        return Passage.apply(self.loss_fn(rows))


EISAM_SETTINGS = {"item_weights": ITEM_WEIGHTS, "rho": 0.3, "strength": 0.8}

SETTINGS = {
    "ERM": (ERM, {}),
    "EISAM": (EISAM, EISAM_SETTINGS),
    "EISAM single-pass": (EISAM, EISAM_SETTINGS | {"estimator": "single-pass", "seed": 3}),
    "EISAM unit weights": (
        EISAM,
        EISAM_SETTINGS | {"estimator": "single-pass", "row_weights": "unit", "seed": 3},
    ),
    "EISAM sampled": (EISAM, EISAM_SETTINGS | {"estimator": "sampled", "row_share": 0.4, "seed": 3}),
    "EISAM sampled, unit weights": (
        EISAM,
        EISAM_SETTINGS | {"estimator": "sampled", "row_weights": "unit", "row_share": 0.4, "seed": 3},
    ),
    "EISAM every-k": (EISAM, EISAM_SETTINGS | {"estimator": "every-k", "every": 3, "seed": 3}),
    "SAM": (SAM, {"rho": 0.3}),
    "ASAM": (ASAM, {"rho": 0.3, "eta": 0.05}),
    "ImbSAM": (ImbSAM, {"tail_items": TAIL_ITEMS, "rho": 0.3}),
    "FocalSAM": (FocalSAM, {"counts": COUNTS, "gamma": 2.0, "rho": 0.3, "strength": 1.2}),
    "GroupSAM": (GroupSAM, {"item_groups": ITEM_GROUPS, "rhos": (0.0, 0.5, 1.0, 1.5), "rho": 0.3}),
    "LookSAM": (LookSAM, {"rho": 0.3, "every": 3, "alpha": 0.7}),
    "MomentumSAM": (MomentumSAM, {"rho": 0.3}),
}


def make(method: str, parameters, base=torch.optim.AdamW, **arguments):
    """One of the optimizers by name, with settings of which none is a special case."""
    optimizer, settings = SETTINGS[method]
    return optimizer(parameters, base, **settings | {"lr": 0.05} | arguments)


def train_plainly(model: TinyRecommender, optimizer, n_steps: int) -> None:
    """The training loop of any PyTorch tutorial: the mean loss over all targets."""
    for _ in range(n_steps):
        optimizer.zero_grad()
        model.losses(torch.arange(len(model.items)))[model.items >= 0].mean().backward()
        optimizer.step()


def distance_from_reference(model: TinyRecommender, optimizer, gradient_at, n_steps: int = 100) -> float:
    """Largest difference of a parameter after ``n_steps`` of ``optimizer`` and of AdamW fed by a reference.

    ``gradient_at(theta, base)`` is the reference's gradient; ``base`` is the AdamW that follows it.
    """
    theta = [p.detach().clone().requires_grad_() for p in model.parameters()]
    base = torch.optim.AdamW(theta, lr=optimizer.param_groups[0]["lr"])
    for _ in range(n_steps):
        optimizer.step(model.losses, model.items)
        for p, g in zip(theta, gradient_at(theta, base), strict=True):
            p.grad = g
        base.step()
    return max((p - q).detach().abs().max().item() for p, q in zip(model.parameters(), theta, strict=True))


def copies(parameters) -> list[Tensor]:
    """Detached copies of ``parameters``."""
    return [p.detach().clone() for p in parameters]


def are_identical(left, right) -> bool:
    """Whether two lists of tensors agree bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def outcome_at(q, uniform):
    """Which rows a uniform number draws."""
    left = 0.0
    for length, drawn in draws(q):
        left += length
        if uniform < left:
            return drawn
    raise AssertionError("the outcomes must cover [0, 1)")
