"""What methods share that look at the loss beside the parameters: a radius, and what may be moved."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tailwise.optim._wrapper import PerTargetOptimizer

__all__ = ["PerturbingOptimizer"]


class PerturbingOptimizer(PerTargetOptimizer):
    """A method that evaluates losses at a point ``rho`` away from the parameters.

    Args:
        params: As for ``torch.optim.Optimizer``; groups may say ``"perturb": False``.
        base_optimizer: Class of the base optimizer.
        rho: Radius of the perturbation, in the units of the parameters, >= 0.
        **base_arguments: Handed to ``base_optimizer``.

    Raises:
        ValueError: ``rho`` is negative or not finite, or a perturbed parameter is in less
            than float32.
    """

    def __init__(
        self, params: Iterable[Any], base_optimizer: type[Optimizer], *, rho: float, **base_arguments: Any
    ) -> None:
        if not math.isfinite(rho) or rho < 0:
            raise ValueError(f"rho must be a finite number >= 0; got {rho}.")
        self.rho = rho
        super().__init__(params, base_optimizer, **base_arguments)

    def _check_group(self, group: dict[str, Any]) -> None:
        """Refuse to perturb parameters whose precision would swallow the perturbation."""
        super()._check_group(group)
        if not group["perturb"]:
            return
        for position, parameter in enumerate(group["params"]):
            if parameter.requires_grad and parameter.dtype not in (torch.float32, torch.float64):
                raise ValueError(
                    f"perturbed parameters must be float32 or float64; got {parameter.dtype} for parameter "
                    f"{position} of shape {tuple(parameter.shape)}. Lower precision swallows small "
                    'perturbations: keep trainable adapters in float32, or mark the group "perturb": False.'
                )

    def _parameters_to_move(self) -> list[Tensor]:
        """The parameters to perturb, checked anew: a model may have been cast or frozen meanwhile."""
        for group in self.param_groups:
            self._check_group(group)
        moved = self.parameters(perturbed_only=True)
        if not moved:
            raise ValueError(
                'params must hold a trainable parameter in a group with "perturb": True; got none. '
                "To train without perturbation, use ERM."
            )
        return moved
