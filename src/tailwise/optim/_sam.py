"""Sharpness-aware minimisation, uniform over all targets."""

from typing import Any

import torch
from torch import Tensor

from tailwise.optim._perturbing import PerturbingOptimizer
from tailwise.optim._randomness import RandomState
from tailwise.optim._wrapper import (
    LossFunction,
    all_rows,
    checked_losses,
    direction_norm,
    perturbation_scale,
    perturbed,
)

__all__ = ["SAM"]


class SAM(PerturbingOptimizer):
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

    def compute_gradient(self, loss_fn: LossFunction, items: Tensor) -> Tensor:
        """Set ``.grad`` to the gradient at θ+ε; see the base class for the arguments."""
        if self.rho == 0:
            return self._mean_loss_gradient(loss_fn, items)
        moved = self._parameters_to_move()
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
