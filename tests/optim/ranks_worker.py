"""What each of several processes does in ``test_ranks.py``. Started by it; results go to files."""

from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from tailwise.optim import ReplicatedRanks, ShardedRanks

from .builders import ITEMS, SETTINGS, TinyRecommender, make

SPLITS = {
    "halves": [3, 3],
    "nothing to perturb on one": [4, 2],
    "no rows on one": [6, 0],
    "no targets on one": [4, 1],
}
"""Rows of rank 0 and of rank 1, from the first. Row 4 has no target, the targets of row 5 no weight."""

UNEVEN = "nothing to perturb on one"

N_STEPS = 7


def rows_of(split: str, rank: int) -> torch.Tensor:
    """Positions in ``ITEMS`` of the rank's rows."""
    first, second = SPLITS[split]
    return torch.arange(first) if rank == 0 else torch.arange(first, first + second)


def joint_rows(split: str) -> torch.Tensor:
    """Positions of the rows of both ranks."""
    return torch.cat([rows_of(split, 0), rows_of(split, 1)])


def train(method: str, rows: torch.Tensor, **arguments):
    """Losses and parameters of each step on ``rows`` of ``ITEMS``, and where losses were evaluated."""
    model = TinyRecommender()
    optimizer = make(method, model.parameters(), **arguments)
    points = []

    def losses(local):
        points.append([p.detach().clone() for p in model.parameters()])
        return model.losses(rows[local])

    history = []
    for _ in range(N_STEPS):
        loss = optimizer.step(losses, ITEMS[rows], rows_at_once=2)
        history.append([loss, *(p.detach().clone() for p in model.parameters())])
    return history, points


class Wrapped(nn.Module):
    """Losses as a forward, as data-parallel wrappers want them."""

    def __init__(self):
        super().__init__()
        self.model = TinyRecommender(dtype=torch.float32)

    def forward(self, rows):
        return self.model.losses(rows)


def train_under_ddp(method: str, rows: torch.Tensor):
    """As :func:`train`, through DistributedDataParallel."""
    module = DistributedDataParallel(Wrapped())
    optimizer = make(method, module.parameters(), ranks=ReplicatedRanks())
    for _ in range(N_STEPS):
        with module.no_sync():
            optimizer.compute_gradient(lambda local: module(rows[local]), ITEMS[rows])
        optimizer.step()
    return [p.detach().clone() for p in module.parameters()]


def train_under_fsdp(method: str, rows: torch.Tensor):
    """As :func:`train`, with parameters sharded by ``fully_shard``."""
    module = fully_shard(Wrapped())
    optimizer = make(method, module.parameters(), ranks=ShardedRanks())
    for _ in range(N_STEPS):
        optimizer.compute_gradient(lambda local: module(rows[local]), ITEMS[rows], rows_at_once=2)
        optimizer.step()
    return [p.detach().full_tensor().clone() for p in module.parameters()]


def failure_on_one(method: str, rank: int) -> str:
    """What a rank raises when a loss of the other is not finite."""
    model = TinyRecommender()
    optimizer = make(method, model.parameters(), ranks=ReplicatedRanks())
    rows = rows_of(UNEVEN, rank)
    before = [p.detach().clone() for p in model.parameters()]
    try:
        optimizer.step(
            lambda local: model.losses(rows[local]) * (float("nan") if rank == 1 else 1), ITEMS[rows]
        )
    except FloatingPointError as error:
        unchanged = all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
        return f"{error} {unchanged}"
    return "nothing"


def run(rank: int, folder: str) -> None:
    """All of it, in one process of two."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    rows = rows_of(UNEVEN, rank)
    exact_and_not = ("ERM", "EISAM", "EISAM single-pass", "SAM")
    ranks = ReplicatedRanks()
    result = {
        "replicated": {
            (method, split): train(method, rows_of(split, rank), ranks=ranks)
            for method in SETTINGS
            for split in SPLITS
        },
        "ddp": {method: train_under_ddp(method, rows) for method in exact_and_not},
        "fsdp": {method: train_under_fsdp(method, rows) for method in exact_and_not},
        "failure": {method: failure_on_one(method, rank) for method in ("EISAM", "EISAM single-pass", "SAM")},
    }
    torch.save(result, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
