"""Sharpness-aware minimisation, uniform over all targets."""

from torch import Tensor

from tailwise.optim._joint_batch import JointBatch
from tailwise.optim._perturbing import PerturbingOptimizer
from tailwise.optim._wrapper import perturbed

__all__ = ["SAM"]


class SAM(PerturbingOptimizer):
    """Sharpness-aware minimisation (SAM) over any base optimizer.

    ``ε = ρ · g / ‖g‖₂`` with ``g`` the gradient of the mean loss at θ; the base optimizer
    gets the gradient at θ+ε. Price: two forwards and two backwards. Arguments and errors
    as for :class:`PerturbingOptimizer`.

    Reference:
        Foret et al., Sharpness-Aware Minimization (arXiv:2010.01412), equations 2 and 3.
    """

    def _perturbed_gradient(self, batch: JointBatch) -> Tensor:
        moved = self._parameters_to_move()
        loss, (gradient,) = batch.gradients([None], moved)
        direction, scale = self._perturbation(gradient, moved)
        with perturbed(moved, direction, scale):
            batch.add_gradient(again=True)
        return loss
