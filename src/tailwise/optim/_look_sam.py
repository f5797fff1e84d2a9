"""LookSAM: the costly part of SAM every k steps, remembered between."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tailwise.optim._joint_batch import JointBatch
from tailwise.optim._kept import fits, restored, saved
from tailwise.optim._perturbing import PerturbingOptimizer, dense
from tailwise.optim._wrapper import direction_norm, perturbation_scale, perturbed

__all__ = ["LookSAM"]


class LookSAM(PerturbingOptimizer):
    """SAM every k steps; between, the plain gradient plus what SAM last added across it.

    With ``g`` the gradient of the mean loss at θ and ``g_s`` SAM's, at θ + ρ g/‖g‖, every
    ``every`` steps::

        G = g_s        g_v = g_s − (⟨g_s, g⟩ / ‖g‖²) g

    and between ``G = g + α (‖g‖/‖g_v‖) g_v``, with g of the batch at hand and the last
    g_v. ``every=1`` is SAM. Price: (1 + 1/k) forwards and as many backwards, and the memory
    of one gradient of what is perturbed.

    The vectors are those of all perturbed parameters together, as in the paper; some public
    versions project and scale each tensor by itself. Parameters that are not perturbed get
    ``g_s`` and, between, ``g``: an embedding row would otherwise drift in batches that do
    not hold its item.

    Args:
        params: As for ``torch.optim.Optimizer``; groups may say ``"perturb": False`` or
            ``"per_item": True``.
        base_optimizer: Class of the base optimizer.
        rho: Radius ρ of the perturbation, in the units of the parameters, >= 0.
        every: k, in steps, >= 1. The paper uses 5 to 10.
        alpha: α, dimensionless, >= 0. The paper uses 0.7 for vision transformers.
        **arguments: As for :class:`PerturbingOptimizer`, and those of ``base_optimizer``.

    Raises:
        ValueError: an argument is out of range, or a perturbed parameter is in less than
            float32.

    Reference:
        Liu et al., Towards Efficient and Scalable Sharpness-Aware Minimization
        (arXiv:2203.02714), algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: type[Optimizer],
        *,
        rho: float,
        every: int = 5,
        alpha: float = 0.7,
        **arguments: Any,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be >= 1; got {every}.")
        if not math.isfinite(alpha) or alpha < 0:
            raise ValueError(f"alpha must be a finite number >= 0; got {alpha}.")
        self.every = every
        self.alpha = alpha
        self._kept_across: list[Tensor] | None = None  # g_v of the last full step
        super().__init__(params, base_optimizer, rho=rho, **arguments)

    def _perturbed_gradient(self, batch: JointBatch) -> Tensor:
        moved = self._parameters_to_move()
        g_v = self._kept_across
        if self.n_steps % self.every != 0 and fits(g_v, moved):
            return self._between(batch, moved, g_v)
        return self._full(batch, moved)

    def _full(self, batch: JointBatch, moved: list[Tensor]) -> Tensor:
        loss, (g,) = batch.gradients([None], moved)
        direction, scale = self._perturbation(g, moved)
        with perturbed(moved, direction, scale):
            batch.add_gradient(again=True)
        self._kept_across = _across([dense(x) for x in batch.seen(moved)], [dense(x) for x in g])
        return loss

    def _between(self, batch: JointBatch, moved: Sequence[Tensor], g_v: Sequence[Tensor]) -> Tensor:
        loss = self._mean_loss_gradient(batch)
        batch.sum_gradients()
        # No gradient means no update, as with any PyTorch optimizer: such a parameter takes no part.
        taking_part = [(p, v) for p, v in zip(moved, g_v, strict=True) if p.grad is not None]
        norm = direction_norm(_gradients([p for p, _ in taking_part]))
        scale = perturbation_scale(self.alpha * norm, direction_norm(v for _, v in taking_part))
        for p, v in taking_part:
            if p.grad is not None:
                p.grad = dense(p.grad).add(v, alpha=scale)
        return loss

    def _own_state(self) -> dict[str, Any]:
        return {
            **super()._own_state(),
            "every": self.every,
            "alpha": self.alpha,
            "kept_across": saved(self._kept_across),
        }

    def _load_own_state(self, state: dict[str, Any]) -> None:
        across = restored(state["kept_across"], self.perturbed_parameters(), "g_v")
        super()._load_own_state(state)
        self._kept_across = across
        self.every, self.alpha = state["every"], state["alpha"]


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else dense(p.grad).detach() for p in parameters]


def _across(g_s: Sequence[Tensor], g: Sequence[Tensor]) -> list[Tensor]:
    """The part of ``g_s`` orthogonal to ``g``; zero where rounding is all there is of it."""
    norm, norm_s = direction_norm(g), direction_norm(g_s)
    product = sum(float((a.double() * b.double()).sum()) for a, b in zip(g_s, g, strict=True))
    share = product / norm / norm if norm > 0 else 0.0
    g_v = [a - share * b for a, b in zip(g_s, g, strict=True)]
    # Scaled up to the length of g, rounding errors would become a direction.
    rounding = max((torch.finfo(v.dtype).eps for v in g_v), default=0.0)
    if direction_norm(g_v) <= 4 * rounding * norm_s:
        return [torch.zeros_like(v) for v in g_v]
    return g_v
