"""A perturbation of its own for every group of items."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tailwise.optim._joint_batch import JointBatch
from tailwise.optim._perturbing import PerturbingOptimizer
from tailwise.optim._row_draw import by_row
from tailwise.optim._wrapper import perturbed

__all__ = ["GroupSAM"]


class GroupSAM(PerturbingOptimizer):
    """Look at each group's loss from its own worst point, at its own radius: CC-SAM style.

    With ``L_g`` the sum of the losses of group g's targets over the number of all targets::

        ε_g = ρ ρ_g · ∇L_g(θ) / ‖∇L_g(θ)‖₂
        G   = Σ_g ∇L_g(θ+ε_g)

    One group with radius 1 is SAM; radii (0, 1) for head and tail are ImbSAM.

    Price, with P groups of positive radius in the batch: one forward and P backwards for the
    directions, then a forward and a backward per group over the rows that hold one of its
    targets (all rows where the loss function draws random numbers), and one more backward if
    there are targets of radius 0. Memory: P gradients of what is perturbed.

    Departures from CC-SAM: groups of items rather than single classes; radii are given, where
    CC-SAM's also follow ``sqrt(‖θ‖/‖∇L_g‖)`` of the moment (its dependence on the class size is
    ``(n_g − 1)^(-1/4)``); one norm over everything perturbed, where its code moves the
    classifier alone and takes each tensor by itself; all of the objective is at the perturbed
    points, where its code mixes in the plain loss; the first of its two stages only. To
    perturb the output layer alone, pass ``perturb`` the pattern of its name.

    Args:
        params: As for ``torch.optim.Optimizer``; groups may say ``"perturb": False`` or
            ``"per_item": True``. Groups of parameters have nothing to do with groups of items.
        base_optimizer: Class of the base optimizer.
        item_groups: ``[n_items]`` int64; the group of each item, from 0.
        rhos: ρ_g of each group, >= 0, in the units of ``rho``; larger for rarer items.
        rho: ρ, a common factor, so that one number tunes them all; >= 0, in the units of the
            parameters.
        **arguments: As for :class:`PerturbingOptimizer`, and those of ``base_optimizer``.

    Raises:
        ValueError: an argument is out of range, an item's group has no radius, or a perturbed
            parameter is in less than float32.

    Example:
        >>> theta = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> groups = torch.tensor([0, 1])
        >>> optimizer = GroupSAM([theta], torch.optim.SGD, item_groups=groups, rhos=[1, 2], lr=1.0)
        >>> _ = optimizer.compute_gradient(lambda rows: theta[rows] ** 2 / 2, torch.tensor([0, 1]))
        >>> theta.grad  # item 0 at 3 + 1, item 1 at 4 + 2, over two targets
        tensor([2., 3.])

    Reference:
        Zhou et al., Class-Conditional Sharpness-Aware Minimization for Deep Long-Tailed
        Recognition (CVPR 2023).
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: type[Optimizer],
        *,
        item_groups: Tensor,
        rhos: Sequence[float] | Tensor,
        rho: float = 1.0,
        **arguments: Any,
    ) -> None:
        radii = tuple(float(r) for r in rhos)
        for group, radius in enumerate(radii):
            if not math.isfinite(radius) or radius < 0:
                raise ValueError(f"rhos must be finite numbers >= 0; got {radius} for group {group}.")
        if item_groups.ndim != 1 or item_groups.dtype != torch.int64 or item_groups.numel() == 0:
            raise ValueError(
                "item_groups must be an int64 vector [n_items]; got "
                f"{item_groups.dtype} of shape {tuple(item_groups.shape)}."
            )
        smallest, largest = int(item_groups.min()), int(item_groups.max())
        if smallest < 0 or largest >= len(radii):
            raise ValueError(
                f"item_groups must be in [0, {len(radii)}), for each has a radius; got values from "
                f"{smallest} to {largest}."
            )
        self.item_groups = item_groups.detach()
        self.rhos = radii
        super().__init__(params, base_optimizer, rho=rho, **arguments)

    def _perturbed_gradient(self, batch: JointBatch) -> Tensor:
        group_of = self._target_groups(batch.items)
        moved = self._parameters_to_move()

        # All directions come before the first move: the graph at θ needs θ as it was.
        present = [g for g in range(len(self.rhos)) if batch.any(group_of == g)]
        moving = [g for g in present if self.rhos[g] > 0]
        still = [g for g in present if self.rhos[g] == 0]
        weights = [(group_of == g).float() for g in moving]
        loss, gradients = batch.gradients(weights, moved, with_remainder=bool(still))
        perturbations = [self._perturbation(gradient, moved) for gradient in gradients]
        for g, (direction, scale) in zip(moving, perturbations, strict=True):
            is_of_group = group_of == g
            reach = min(scale * self.rhos[g], 1e38)  # beyond, float32 ends
            with perturbed(moved, direction, reach):
                rows = by_row(is_of_group).any(dim=1)
                batch.add_gradient(is_of_group.float(), only=rows, again=True)  # adds up
        return loss

    def _target_groups(self, items: Tensor) -> Tensor:
        """The group of every target, in the shape of ``items``; -1 where there is no target."""
        largest = int(items.max()) if items.numel() > 0 else -1
        if largest >= self.item_groups.numel():
            raise ValueError(
                f"items must be below {self.item_groups.numel()}, the length of item_groups; got {largest}."
            )
        self.item_groups = self.item_groups.to(items.device)
        return torch.where(items >= 0, self.item_groups[items.clamp_min(0)], -1)

    def _own_state(self) -> dict[str, Any]:
        return {**super()._own_state(), "item_groups": self.item_groups.clone(), "rhos": self.rhos}

    def _load_own_state(self, state: dict[str, Any]) -> None:
        saved: Tensor = state["item_groups"]
        if saved.shape != self.item_groups.shape:
            raise ValueError(
                f"state_dict must hold groups of {self.item_groups.numel()} items; got {saved.numel()}. "
                "The checkpoint belongs to another catalogue."
            )
        super()._load_own_state(state)
        self.item_groups = saved.to(self.item_groups.device)
        self.rhos = tuple(state["rhos"])
