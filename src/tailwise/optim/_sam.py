"""Sharpness-aware minimisation, uniform over all targets."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tailwise.optim._randomness import RandomState
from tailwise.optim._wrapper import (
    LossFunction,
    PerTargetOptimizer,
    all_rows,
    checked_losses,
    direction_norm,
    perturbation_scale,
    perturbed,
)

__all__ = ["SAM", "check_perturbable", "perturbable_parameters"]


class SAM(PerTargetOptimizer):
    """Sharpness-aware minimisation (SAM) over any base optimizer.

    ``ε = ρ · g / ‖g‖₂`` with ``g`` the gradient of the mean loss at θ; the base optimizer
    gets the gradient at θ+ε. Price: two forwards and two backwards.

    Args:
        params: As for ``torch.optim.Optimizer``; groups may say ``"perturb": False``.
        base_optimizer: Class of the base optimizer.
        rho: Radius of the perturbation, in the units of the parameters, >= 0; 0 is the
            base optimizer.
        **base_arguments: Handed to ``base_optimizer``.

    Raises:
        ValueError: ``rho`` is negative or not finite, or a perturbed parameter is in less
            than float32.

    Reference:
        Foret et al., Sharpness-Aware Minimization (arXiv:2010.01412), equations 2 and 3.
    """

    def __init__(
        self, params: Iterable[Any], base_optimizer: type[Optimizer], *, rho: float, **base_arguments: Any
    ) -> None:
        check_rho(rho)
        self.rho = rho
        super().__init__(params, base_optimizer, **base_arguments)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        check_perturbable(group)

    def compute_gradient(self, loss_fn: LossFunction, items: Tensor) -> Tensor:
        """Set ``.grad`` to the gradient at θ+ε; see the base class for the arguments."""
        if self.rho == 0:
            return self._mean_loss_gradient(loss_fn, items)
        moved = perturbable_parameters(self)
        random_state = RandomState(items.device)
        rows = all_rows(items)
        losses, n_targets = checked_losses(loss_fn, rows, items)
        loss = losses.sum() / n_targets
        gradients = torch.autograd.grad(loss, moved, allow_unused=True, materialize_grads=True)
        scale = perturbation_scale(self.rho, direction_norm(gradients))
        self.zero_grad(set_to_none=True)
        with perturbed(moved, list(gradients), scale), random_state.replayed():
            losses_there, _ = checked_losses(loss_fn, rows, items)
            torch.autograd.backward(losses_there.sum() / n_targets)
        return loss.detach()

    def _own_state(self) -> dict[str, Any]:
        return {"rho": self.rho}

    def _load_own_state(self, state: dict[str, Any]) -> None:
        self.rho = state["rho"]


def check_rho(rho: float) -> None:
    """Refuse a radius that is negative or not finite."""
    if not math.isfinite(rho) or rho < 0:
        raise ValueError(f"rho must be a finite number >= 0; got {rho}.")


def perturbable_parameters(optimizer: PerTargetOptimizer) -> list[Tensor]:
    """Return the parameters to perturb, checked anew: a model may have been cast or frozen meanwhile."""
    for group in optimizer.param_groups:
        check_perturbable(group)
    moved = optimizer.parameters(perturbed_only=True)
    if not moved:
        raise ValueError(
            'params must hold a trainable parameter in a group with "perturb": True; got none. '
            "To train without perturbation, use ERM."
        )
    return moved


def check_perturbable(group: dict[str, Any]) -> None:
    """Refuse to perturb parameters whose precision would swallow the perturbation."""
    if not group["perturb"]:
        return
    for position, parameter in enumerate(group["params"]):
        if parameter.requires_grad and parameter.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"perturbed parameters must be float32 or float64; got {parameter.dtype} for parameter "
                f"{position} of shape {tuple(parameter.shape)}. Lower precision swallows small "
                'perturbations: keep trainable adapters in float32, or mark the group "perturb": False.'
            )
