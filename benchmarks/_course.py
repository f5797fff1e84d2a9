"""Methods take turns at one workload; seconds and counted work come out."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from _workloads import Batch, Workload
from tailwise.optim import LossFunction, PerTargetOptimizer

__all__ = ["FORWARD", "Course", "Method", "RowCounter", "train_one_step"]

FORWARD = "forward"
"""Name of the turn that evaluates the whole batch and does nothing else."""


@dataclass(frozen=True)
class Method:
    """How to make an optimizer, and after how many steps its costs repeat."""

    label: str
    make: Callable[[Workload], PerTargetOptimizer]
    cycle: int = 1


class RowCounter:
    """Counts the forwards and backwards through a loss function, in shares of the batch's rows."""

    def __init__(self) -> None:
        self.forwards = self.backwards = 0.0

    def counted(self, batch: Batch) -> LossFunction:
        """Return the batch's loss function with this counter inside."""

        def losses(rows: Tensor) -> Tensor:
            share = len(rows) / len(batch.items)
            self.forwards += share
            passed: Tensor = _Passage.apply(batch.losses(rows), self, share)  # type: ignore[no-untyped-call]
            return passed

        return losses


class _Passage(torch.autograd.Function):
    """The identity, which tells a counter when a backward comes through."""

    @staticmethod
    def forward(ctx: Any, losses: Tensor, counter: RowCounter, share: float) -> Tensor:
        ctx.counter, ctx.share = counter, share
        return losses.view_as(losses)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        ctx.counter.backwards += ctx.share
        return gradients[0], None, None


def train_one_step(optimizer: PerTargetOptimizer, loss_fn: LossFunction, items: Tensor) -> None:
    """What the training loop does with a batch, the same dropout masks for every method."""
    torch.manual_seed(0)
    optimizer.compute_gradient(loss_fn, items)
    torch.nn.utils.clip_grad_norm_(optimizer.parameters(), 1.0)
    optimizer.step()


class Course:
    """The methods over one workload, and a forward alone, each to be given turns.

    Every turn starts from the same parameters; optimizers keep their state between turns.
    """

    def __init__(self, workload: Workload, methods: Mapping[str, Method]) -> None:
        self._workload = workload
        self._methods = methods
        self._start = [p.detach().clone() for p in workload.trainable()]
        self._optimizers = {name: method.make(workload) for name, method in methods.items()}
        self._counters = {name: RowCounter() for name in (*methods, FORWARD)}
        self._n_steps = dict.fromkeys(self._counters, 0)

    def turn(self, name: str, batch: Batch) -> np.ndarray:
        """Train one cycle on ``batch``; return seconds per step, by the clock and of the processor."""
        self.restore()
        loss_fn = self._counters[name].counted(batch)
        n_steps = 1 if name == FORWARD else self._methods[name].cycle
        began = self._now()
        for _ in range(n_steps):
            if name == FORWARD:
                torch.manual_seed(0)
                loss_fn(torch.arange(len(batch.items), device=batch.items.device)).sum()
            else:
                train_one_step(self._optimizers[name], loss_fn, batch.items)
        self._n_steps[name] += n_steps
        seconds: np.ndarray = (self._now() - began) / n_steps
        return seconds

    def restore(self) -> None:
        """Put the parameters back to where they started."""
        with torch.no_grad():
            for parameter, value in zip(self._workload.trainable(), self._start, strict=True):
                parameter.copy_(value)
                parameter.grad = None

    def counts(self, name: str) -> tuple[float, float]:
        """Return forwards and backwards per step, in batches."""
        counter, n_steps = self._counters[name], self._n_steps[name]
        return counter.forwards / n_steps, counter.backwards / n_steps

    def _now(self) -> np.ndarray:
        device = self._start[0].device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return np.array([time.perf_counter(), time.process_time()])
