"""Losses of targets and their gradients, in batches, at the parameters as they are or moved."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailwise.optim import SAM

__all__ = ["Batches", "MovedLosses", "TargetLosses", "inner", "moved_parameters"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TargetLosses = Callable[[Ints], Tensor]
"""Takes positions of targets, int64 ``[n]``, and returns their losses ``[n]``, differentiable; always the
same ones for the same parameters: dropout off."""

Batches = Callable[[Ints], Iterable[Ints]]
"""Cuts positions of targets into parts that are evaluated at once."""


def moved_parameters(parameters: Iterable[Any], perturb: str | Sequence[str]) -> list[Tensor]:
    """Return the parameters that a perturbing optimizer would move, by its own rules.

    Raises:
        ValueError: none is left, a pattern matches none, or one is in less than float32.
    """
    groups = [dict(p) if isinstance(p, dict) else p for p in parameters]  # torch writes into the dicts
    moved = SAM(groups, torch.optim.SGD, rho=1.0, perturb=perturb, lr=1.0).perturbed_parameters()
    if not moved:
        raise ValueError(
            f"parameters must hold a trainable one that perturb={perturb!r} moves; got none.\n"
            '  Pass model.named_parameters(), or groups with "perturb": True.'
        )
    return moved


def inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Inner product of two lists of tensors, each read as one vector; summed in float64."""
    return sum(
        float((a.detach().double() * b.detach().double()).sum()) for a, b in zip(left, right, strict=True)
    )


class MovedLosses:
    """Evaluates targets batch by batch; memory is that of one batch and of the gradients asked for.

    Args:
        losses: See :data:`TargetLosses`.
        parameters: Those that move: gradients are with respect to them.
        batches: See :data:`Batches`.
    """

    def __init__(self, losses: TargetLosses, parameters: Sequence[Tensor], batches: Batches) -> None:
        self._losses = losses
        self._batches = batches
        self.parameters = list(parameters)

    @torch.no_grad()
    def values(self, targets: Ints) -> Floats:
        """Return the loss of each of ``targets``, of any shape, in that shape."""
        distinct, places = np.unique(targets, return_inverse=True)
        found = np.full(distinct.size, np.nan)
        for batch in self._batches(distinct):
            found[np.searchsorted(distinct, batch)] = self._checked(batch).double().cpu().numpy()
        return found[places].reshape(targets.shape)

    def values_and_gradients(
        self, targets: Ints, subsets: Sequence[Ints]
    ) -> tuple[Floats, list[list[Tensor]]]:
        """Return losses as :meth:`values`, and the gradient of the mean loss of each of ``subsets``.

        The subsets are positions of targets too, all of them among ``targets``; they share the
        forward passes.
        """
        distinct, places = np.unique(targets, return_inverse=True)
        found = np.full(distinct.size, np.nan)
        weights = np.zeros((len(subsets), distinct.size))
        for weight, subset in zip(weights, subsets, strict=True):
            weight[np.searchsorted(distinct, subset)] = 1 / subset.size
        gradients = [[torch.zeros_like(p) for p in self.parameters] for _ in subsets]
        for batch in self._batches(distinct):
            at = np.searchsorted(distinct, batch)
            here = [k for k in range(len(subsets)) if weights[k, at].any()]
            with torch.enable_grad():
                losses = self._checked(batch)
                found[at] = losses.detach().double().cpu().numpy()
                for k in here:
                    part = (losses * torch.from_numpy(weights[k, at]).to(losses)).sum()
                    slopes = torch.autograd.grad(
                        part, self.parameters, retain_graph=k != here[-1], allow_unused=True
                    )
                    _add(gradients[k], slopes)
        return found[places].reshape(targets.shape), gradients

    def hessian_product(self, targets: Ints, vector: Sequence[Tensor]) -> list[Tensor]:
        """Return Hv, H the Hessian of the mean loss of ``targets``, by differentiating twice."""
        product = [torch.zeros_like(p) for p in self.parameters]
        for batch in self._batches(np.unique(targets)):
            with torch.enable_grad():
                loss = self._checked(batch).sum() / targets.size
                slopes = torch.autograd.grad(loss, self.parameters, create_graph=True, allow_unused=True)
                terms = [(s * v).sum() for s, v in zip(slopes, vector, strict=True) if s is not None]
                along = torch.stack(terms).sum() if terms else None
                if along is not None and along.requires_grad:  # else the loss is linear in the parameters
                    _add(product, torch.autograd.grad(along, self.parameters, allow_unused=True))
        return product

    def check_determinism(self, targets: Ints) -> None:
        """Refuse losses that differ between two evaluations of the same targets: dropout is on.

        Raises:
            ValueError: they differ by more than rounding.
        """
        batch = next(iter(self._batches(np.unique(targets))))
        first, second = self.values(batch), self.values(batch)
        gap = float(np.abs(first - second).max())
        if gap > 1e-5 * float(np.abs(first).max()):  # rounding of parallel sums in float32 is below it
            raise ValueError(
                f"losses must be the same when evaluated twice; got a difference of {gap:.3g}.\n"
                "  Call model.eval(): dropout would drown the effect of a small perturbation."
            )

    def _checked(self, batch: Ints) -> Tensor:
        losses = self._losses(batch)
        if losses.shape != batch.shape:
            raise ValueError(
                f"losses must return one loss per target, shape {batch.shape}; got {tuple(losses.shape)}.\n"
                "  Use reduction='none'."
            )
        if losses.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"losses must be float32 or float64; got {losses.dtype}.\n"
                "  Leave autocast and evaluate in float32: differences of 1e-4 are looked for."
            )
        if not bool(torch.isfinite(losses.detach()).all()):
            bad = int((~torch.isfinite(losses.detach())).sum())
            raise FloatingPointError(
                f"losses must be finite; got {bad} of {batch.size} that are not.\n"
                "  Parameters are restored; lower rho, or inspect these targets."
            )
        return losses


def _add(total: list[Tensor], slopes: Sequence[Tensor | None]) -> None:
    """Add to ``total`` in place; a parameter that a loss does not use adds nothing."""
    for accumulated, slope in zip(total, slopes, strict=True):
        if slope is not None:
            accumulated.add_(slope.detach().to_dense() if slope.is_sparse else slope.detach())
