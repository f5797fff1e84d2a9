"""Momentum-SAM: the point to look from is where the momentum points, and costs nothing."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tailwise.optim._joint_batch import JointBatch, LossFunction
from tailwise.optim._kept import fits, restored, saved
from tailwise.optim._perturbing import PerturbingOptimizer, dense
from tailwise.optim._wrapper import perturbed

__all__ = ["MomentumSAM"]

FIRST_MOMENTS = ("exp_avg", "momentum_buffer")
"""Under which names optimizers keep an average of the gradients: Adam and its kin, SGD and RMSprop."""


class MomentumSAM(PerturbingOptimizer):
    """Evaluate the whole batch a step of length ρ along the momentum (MSAM).

    With ``v`` the base optimizer's momentum before the step::

        ε = −ρ · v / ‖v‖₂        G = ∇L(θ+ε)

    Price: one forward and one backward, as plain training. The first step is plain: there
    is no momentum yet.

    Mind the sign: ``v`` accumulates gradients, so −v is where the base optimizer is
    heading, as in Nesterov's method; unlike SAM, this is no ascent on the past batches. It
    is what the paper's algorithm 1 and the authors' code do. ``ascend=True`` moves along +v
    instead, as SAM would: a control, not the published method.

    Under Adam and its kin v is the first moment ``exp_avg``, not divided by the second;
    under SGD and RMSprop the momentum buffer. If the base optimizer keeps neither, an
    average of the gradients is kept here, which costs the memory of one gradient. The
    norm is over everything perturbed; ρ is about ten times that of SAM in the paper (3).

    The loss returned is that at θ+ε, where the batch was evaluated.

    Args:
        params: As for ``torch.optim.Optimizer``; groups may say ``"perturb": False`` or
            ``"per_item": True``.
        base_optimizer: Class of the base optimizer.
        rho: Radius ρ of the perturbation, in the units of the parameters, >= 0.
        ascend: Move along +v rather than −v.
        decay: Of the average kept where the base optimizer has none, in [0, 1).
        **arguments: As for :class:`PerturbingOptimizer`, and those of ``base_optimizer``.

    Raises:
        ValueError: an argument is out of range, or a perturbed parameter is in less than
            float32.

    Example:
        >>> theta = torch.nn.Parameter(torch.tensor([3.0]))
        >>> optimizer = MomentumSAM([theta], torch.optim.SGD, rho=0.5, lr=0.1, momentum=0.9)
        >>> for _ in range(2):  # the first gradient is 3, taken at 3; the second at 2.7 - 0.5
        ...     _ = optimizer.step(lambda rows: theta[rows] ** 2 / 2, torch.tensor([0]))
        >>> theta.grad
        tensor([2.2000])

    Reference:
        Becker, Altrock, Risse, Momentum-SAM: Sharpness Aware Minimization without
        Computational Overhead (arXiv:2401.12033), algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: type[Optimizer],
        *,
        rho: float,
        ascend: bool = False,
        decay: float = 0.9,
        **arguments: Any,
    ) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1); got {decay}.")
        self.ascend = ascend
        self.decay = decay
        self._kept_average: list[Tensor] | None = None  # of the gradients, where the base optimizer has none
        super().__init__(params, base_optimizer, rho=rho, **arguments)

    def _perturbed_gradient(self, batch: JointBatch) -> Tensor:
        moved = self._parameters_to_move()
        momentum = self._momentum(moved)
        if momentum is None:
            return self._mean_loss_gradient(batch)
        direction, scale = self._perturbation(momentum, moved)
        with perturbed(moved, direction, scale if self.ascend else -scale):
            return self._mean_loss_gradient(batch)

    def _momentum(self, moved: Sequence[Tensor]) -> list[Tensor] | None:
        """v, one tensor per moved parameter; None before the first step."""
        of_base = [self._first_moment(p) for p in moved]
        if any(m is not None for m in of_base):
            return [torch.zeros_like(p) if m is None else m for m, p in zip(of_base, moved, strict=True)]
        return self._kept_average if fits(self._kept_average, moved) else None

    def _first_moment(self, parameter: Tensor) -> Tensor | None:
        """What the base optimizer remembers of this parameter's gradients, if it does."""
        state = self.state.get(parameter, {})
        for name in FIRST_MOMENTS:
            moment = state.get(name)
            if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                return moment
        return None

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, loss_fn: LossFunction | None = None, items: Tensor | None = None, **arguments: Any
    ) -> Tensor | None:
        """Update the parameters, and the average of the gradients if one is kept here; see the base class."""
        loss = super().step(loss_fn, items, **arguments)
        moved = self.perturbed_parameters()
        if any(self._first_moment(p) is not None for p in moved):
            self._kept_average = None
            return loss
        kept = self._kept_average
        before = kept if fits(kept, moved) else [torch.zeros_like(p) for p in moved]
        seen = [torch.zeros_like(p) if p.grad is None else dense(p.grad) for p in moved]
        self._kept_average = [b.lerp(s, 1 - self.decay) for b, s in zip(before, seen, strict=True)]
        return loss

    def _own_state(self) -> dict[str, Any]:
        return {
            **super()._own_state(),
            "ascend": self.ascend,
            "decay": self.decay,
            "kept_average": saved(self._kept_average),
        }

    def _load_own_state(self, state: dict[str, Any]) -> None:
        average = restored(state["kept_average"], self.perturbed_parameters(), "an average")
        super()._load_own_state(state)
        self._kept_average = average
        self.ascend, self.decay = state["ascend"], state["decay"]
