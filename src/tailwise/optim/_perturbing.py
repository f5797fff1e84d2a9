"""What methods share that look at the loss beside the parameters: a radius, and what may be moved."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tailwise.optim._joint_batch import JointBatch, LossFunction
from tailwise.optim._wrapper import PerTargetOptimizer, direction_norm, perturbation_scale

__all__ = ["PerturbingOptimizer"]


class PerturbingOptimizer(PerTargetOptimizer):
    """A method that evaluates losses at a point ``rho`` away from the parameters.

    With the radius at 0 (``rho``, the schedule, or a step before ``start_step``) a step is
    the base optimizer's, bit for bit.

    Args:
        params: As for ``torch.optim.Optimizer``; groups may say ``"perturb": False`` or
            ``"per_item": True``.
        base_optimizer: Class of the base optimizer.
        rho: Radius ρ of the perturbation, >= 0, in the units of the parameters; with
            ``relative``, in units of their norm.
        relative: Multiply ``rho`` by the norm of the perturbed parameters, ‖θ‖₂ over all of them.
        adaptive: Scale by the size of each entry, as ASAM does: with ``T = |θ| + eta``,
            ``ε = ρ T² g / ‖T g‖`` in place of ``ρ g / ‖g‖``. Invariant to rescaling two layers
            against each other, as the factors of an adapter can be; its ρ is larger (0.5 to 2).
        eta: Floor of T, in the units of the parameters, >= 0: entries at zero move too.
        perturb: What moves: ``"shared"`` is everything but groups marked ``"per_item"``;
            ``"all"``; or one or several shell patterns such as ``"*lora_B*"``, matched
            against the names of ``model.named_parameters()``.
        rho_schedule: From the number of steps taken to a factor of ``rho``, >= 0. Not part of
            the state: give it again on resuming.
        start_step: Steps of plain training before the first perturbation, >= 0.
        **base_arguments: Handed to ``base_optimizer``.

    Raises:
        ValueError: an argument is out of range, a pattern matches no parameter, or a
            perturbed parameter is in less than float32.

    Attributes:
        n_steps: Gradients computed so far.
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: type[Optimizer],
        *,
        rho: float,
        relative: bool = False,
        adaptive: bool = False,
        eta: float = 0.01,
        perturb: str | Sequence[str] = "shared",
        rho_schedule: Callable[[int], float] | None = None,
        start_step: int = 0,
        **base_arguments: Any,
    ) -> None:
        for name, value in (("rho", rho), ("eta", eta), ("start_step", start_step)):
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be a finite number >= 0; got {value}.")
        self.rho = rho
        self.relative = relative
        self.adaptive = adaptive
        self.eta = eta
        self.perturb = perturb if isinstance(perturb, str) else tuple(perturb)
        self.rho_schedule = rho_schedule
        self.start_step = start_step
        self.n_steps = 0
        super().__init__(params, base_optimizer, **base_arguments)
        self._check_patterns()

    # What moves

    @property
    def _patterns(self) -> tuple[str, ...]:
        if self.perturb in ("shared", "all"):
            return ()
        return (self.perturb,) if isinstance(self.perturb, str) else self.perturb

    def _moves(self, group: dict[str, Any]) -> list[bool]:
        """Whether each parameter of ``group`` is to be perturbed."""
        named = group.get("param_names")
        if not group["perturb"]:
            return [False] * len(group["params"])
        if self._patterns:
            if named is None:
                raise ValueError(
                    f"perturb={self.perturb!r} needs parameters with names; got none. "
                    "Pass model.named_parameters(), or groups made from them."
                )
            chosen = [any(fnmatchcase(name, pattern) for pattern in self._patterns) for name in named]
        else:
            chosen = [self.perturb == "all" or not group["per_item"]] * len(group["params"])
        return [
            is_chosen and parameter.requires_grad
            for is_chosen, parameter in zip(chosen, group["params"], strict=True)
        ]

    def _check_patterns(self) -> None:
        names = [name for group in self.param_groups for name in group.get("param_names", ())]
        for pattern in self._patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(
                    f"perturb must name parameters that are there; got {pattern!r}, which matches none of "
                    f"{len(names)} (first: {', '.join(names[:3])})."
                )

    def _check_group(self, group: dict[str, Any]) -> None:
        """Refuse to perturb parameters whose precision would swallow the perturbation."""
        super()._check_group(group)
        for position, (parameter, moves) in enumerate(zip(group["params"], self._moves(group), strict=True)):
            if moves and parameter.dtype not in (torch.float32, torch.float64):
                raise ValueError(
                    f"perturbed parameters must be float32 or float64; got {parameter.dtype} for parameter "
                    f"{position} of shape {tuple(parameter.shape)}. Lower precision swallows small "
                    'perturbations: keep trainable adapters in float32, or mark the group "perturb": False.'
                )

    def perturbed_parameters(self) -> list[Tensor]:
        """Return the parameters that are moved, in group order."""
        return [
            parameter
            for group in self.param_groups
            for parameter, moves in zip(group["params"], self._moves(group), strict=True)
            if moves
        ]

    def _parameters_to_move(self) -> list[Tensor]:
        """The parameters to perturb, checked anew: a model may have been cast or frozen meanwhile."""
        for group in self.param_groups:
            self._check_group(group)
        moved = self.perturbed_parameters()
        if not moved:
            raise ValueError(
                f"params must hold a trainable parameter that perturb={self.perturb!r} moves, in a group "
                'with "perturb": True; got none. To train without perturbation, use ERM.'
            )
        return moved

    # How far

    @property
    def current_rho(self) -> float:
        """ρ of the next step: the schedule and the late start applied."""
        if self.n_steps < self.start_step:
            return 0.0
        factor = 1.0 if self.rho_schedule is None else float(self.rho_schedule(self.n_steps))
        if not math.isfinite(factor) or factor < 0:
            raise ValueError(
                f"rho_schedule must return a finite number >= 0; got {factor} at step {self.n_steps}."
            )
        return self.rho * factor

    def _radius(self, moved: Sequence[Tensor]) -> float:
        """ρ of the next step in the units of the parameters."""
        return self.current_rho * (direction_norm(moved) if self.relative else 1.0)

    def _perturbation(
        self, gradients: Sequence[Tensor], moved: Sequence[Tensor]
    ) -> tuple[list[Tensor], float]:
        """Direction and scale of ε, which is their product; the scale is 0 where the direction vanishes."""
        rho = self._radius(moved)
        if not self.adaptive:
            return list(gradients), perturbation_scale(rho, direction_norm(gradients))
        sizes = [p.detach().abs() + self.eta for p in moved]
        scaled = [t * dense(g) for t, g in zip(sizes, gradients, strict=True)]
        return [t * g for t, g in zip(sizes, scaled, strict=True)], perturbation_scale(
            rho, direction_norm(scaled)
        )

    # The step

    def compute_gradient(self, loss_fn: LossFunction, items: Tensor, **arguments: Any) -> Tensor:
        """Set ``.grad`` to the method's gradient; see the base class for arguments, return value, errors."""
        loss = super().compute_gradient(loss_fn, items, **arguments)
        self.n_steps += 1
        return loss

    def _gradient(self, batch: JointBatch) -> Tensor:
        return self._mean_loss_gradient(batch) if self._is_plain() else self._perturbed_gradient(batch)

    def _is_plain(self) -> bool:
        """Whether this step is the base optimizer's."""
        return self.current_rho == 0

    @abstractmethod
    def _perturbed_gradient(self, batch: JointBatch) -> Tensor:
        """Do what :meth:`_gradient` promises, at a radius above 0."""

    # State

    def _own_state(self) -> dict[str, Any]:
        return {
            "rho": self.rho,
            "relative": self.relative,
            "adaptive": self.adaptive,
            "eta": self.eta,
            "perturb": self.perturb,
            "start_step": self.start_step,
            "n_steps": self.n_steps,
            "has_schedule": self.rho_schedule is not None,
        }

    def _load_own_state(self, state: dict[str, Any]) -> None:
        # Which parameters move decides the shape of a direction kept between steps.
        for name, ours in (("perturb", self.perturb), ("has_schedule", self.rho_schedule is not None)):
            if state[name] != ours:
                raise ValueError(f"state_dict must have {name}={ours!r}; got {state[name]!r}.")
        for name in ("rho", "relative", "adaptive", "eta", "start_step", "n_steps"):
            setattr(self, name, state[name])


def dense(gradient: Tensor) -> Tensor:
    """The gradient of an embedding may be sparse."""
    return gradient.to_dense() if gradient.is_sparse else gradient
