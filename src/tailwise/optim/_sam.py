"""Sharpness-aware minimisation, uniform over all targets."""

import torch
from torch import Tensor

from tailwise.optim._perturbing import PerturbingOptimizer
from tailwise.optim._randomness import RandomState
from tailwise.optim._wrapper import LossFunction, all_rows, checked_losses, perturbed

__all__ = ["SAM"]


class SAM(PerturbingOptimizer):
    """Sharpness-aware minimisation (SAM) over any base optimizer.

    ``ε = ρ · g / ‖g‖₂`` with ``g`` the gradient of the mean loss at θ; the base optimizer
    gets the gradient at θ+ε. Price: two forwards and two backwards. Arguments and errors
    as for :class:`PerturbingOptimizer`.

    Reference:
        Foret et al., Sharpness-Aware Minimization (arXiv:2010.01412), equations 2 and 3.
    """

    def _perturbed_gradient(self, loss_fn: LossFunction, items: Tensor) -> Tensor:
        moved = self._parameters_to_move()
        random_state = RandomState(items.device)
        rows = all_rows(items)
        losses, n_targets = checked_losses(loss_fn, rows, items)
        loss = losses.sum() / n_targets
        gradients = torch.autograd.grad(loss, moved, allow_unused=True, materialize_grads=True)
        direction, scale = self._perturbation(gradients, moved)
        self.zero_grad(set_to_none=True)
        with perturbed(moved, direction, scale), random_state.replayed():
            losses_there, _ = checked_losses(loss_fn, rows, items)
            torch.autograd.backward(losses_there.sum() / n_targets)
        return loss.detach()
