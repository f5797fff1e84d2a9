"""Efficient item-wise sharpness-aware minimisation."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

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

__all__ = ["EISAM"]

ESTIMATORS = ("exact",)


class EISAM(PerturbingOptimizer):
    """Flatten the loss strongly around rare items and lightly around popular ones.

    For target j of item i(j), with item weight w and strength λ, let ``c_j = λ·w_{i(j)}``::

        g_w = (1/N) Σ_j c_j ∇l_j(θ)        ε = ρ · g_w / ‖g_w‖₂
        G   = (1/N) Σ_j (1−c_j) ∇l_j(θ)  +  (1/N) Σ_j c_j ∇l_j(θ+ε)

    and the base optimizer gets G at θ. One perturbation is shared by all items, which is
    what makes it affordable. ``strength=0`` or ``rho=0`` is the base optimizer bit for
    bit; weights of one at strength 1 are SAM.

    This is our reconstruction of EISAM (arXiv:2603.12752) from its abstract and its
    nearest public relatives; the paper's own formulas and code are not public.

    The estimator ``exact`` takes both weighted gradients at θ from one graph, then
    evaluates once more the rows that hold a target with c > 0: at most two forwards and
    three backwards. Where the loss function draws random numbers (dropout), the second
    evaluation repeats them; masks depend on the shape of the whole batch, so in that
    case all rows are evaluated again.

    Args:
        params: As for ``torch.optim.Optimizer``. A group may say ``"perturb": False``:
            trained, but not perturbed (per-item embedding rows, say).
        base_optimizer: Class of the base optimizer, e.g. ``torch.optim.AdamW``.
        item_weights: ``[n_items]`` floating, each in [0, 1]; see :func:`item_weights`.
        rho: Radius ρ of the perturbation, in the units of the parameters, >= 0.
        strength: λ in [0, 1]; the share of the objective that the rarest items move to θ+ε.
        estimator: ``"exact"``.
        short_circuit: Skip everything when ``rho`` or ``strength`` is 0, or every c of the
            batch. Turn it off only to check the identities.
        **base_arguments: Handed to ``base_optimizer`` (``lr=...``).

    Raises:
        ValueError: an argument is out of range, or a perturbed parameter is in less than
            float32.

    Example:
        >>> from tailwise.optim import item_weights
        >>> theta = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> weights = item_weights(torch.tensor([90, 10]))
        >>> optimizer = EISAM([theta], torch.optim.SGD, item_weights=weights, rho=0.1, strength=1.0, lr=0.1)
        >>> items = torch.tensor([0, 1])  # one target of each item
        >>> float(optimizer.step(lambda rows: 0.5 * theta[rows] ** 2, items))
        1.25
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: type[Optimizer],
        *,
        item_weights: Tensor,
        rho: float,
        strength: float = 1.0,
        estimator: str = "exact",
        short_circuit: bool = True,
        **base_arguments: Any,
    ) -> None:
        if not math.isfinite(strength) or not 0 <= strength <= 1:
            raise ValueError(f"strength must be in [0, 1]; got {strength}.")
        if estimator not in ESTIMATORS:
            raise ValueError(f"estimator must be one of {', '.join(ESTIMATORS)}; got {estimator!r}.")
        if item_weights.ndim != 1 or not item_weights.is_floating_point():
            raise ValueError(
                "item_weights must be a floating vector [n_items]; got "
                f"{item_weights.dtype} of shape {tuple(item_weights.shape)}. Use item_weights(counts)."
            )
        if not bool(((item_weights >= 0) & (item_weights <= 1)).all()):
            raise ValueError(
                f"item_weights must be in [0, 1]; got values from {item_weights.min().item()} "
                f"to {item_weights.max().item()}. Use item_weights(counts)."
            )
        self.item_weights = item_weights.detach()
        self.strength = strength
        self.estimator = estimator
        self.short_circuit = short_circuit
        super().__init__(params, base_optimizer, rho=rho, **base_arguments)

    def compute_gradient(self, loss_fn: LossFunction, items: Tensor) -> Tensor:
        """Set ``.grad`` to G; see the base class for the arguments, return value and errors."""
        if self.short_circuit and (self.rho == 0 or self.strength == 0):
            return self._mean_loss_gradient(loss_fn, items)
        return self._exact(loss_fn, items)

    def _target_strengths(self, items: Tensor) -> Tensor:
        """c_j of every target, in the shape of ``items``; zero where there is no target."""
        largest = int(items.max()) if items.numel() > 0 else -1
        if largest >= self.item_weights.numel():
            raise ValueError(
                f"items must be below {self.item_weights.numel()}, the length of item_weights; got {largest}."
            )
        self.item_weights = self.item_weights.to(items.device)
        c = self.strength * self.item_weights[items.clamp_min(0)]
        return torch.where(items >= 0, c, torch.zeros_like(c))

    def _exact(self, loss_fn: LossFunction, items: Tensor) -> Tensor:
        c = self._target_strengths(items)
        if self.short_circuit and not bool((c > 0).any()):
            return self._mean_loss_gradient(loss_fn, items)
        moved = self._parameters_to_move()
        random_state = RandomState(items.device)
        losses, n_targets = checked_losses(loss_fn, all_rows(items), items)
        c = c.to(losses.dtype)
        loss = losses.detach().sum() / n_targets
        all_at_theta_plus_eps = bool((c[items >= 0] == 1).all())  # then G has no first sum, and SAM's price

        g_w = torch.autograd.grad(
            (c * losses).sum() / n_targets,
            moved,
            retain_graph=not all_at_theta_plus_eps,
            allow_unused=True,
            materialize_grads=True,
        )
        scale = perturbation_scale(self.rho, direction_norm(g_w))
        self.zero_grad(set_to_none=True)
        if not all_at_theta_plus_eps:
            torch.autograd.backward(((1 - c) * losses).sum() / n_targets)
        del losses  # frees the graph before the second one is built

        rows = all_rows(items)
        if not random_state.has_changed():
            rows = rows[(c > 0).reshape(len(c), -1).any(dim=1)]
        if len(rows) == 0:
            return loss
        with perturbed(moved, list(g_w), scale), random_state.replayed():
            losses_there, _ = checked_losses(loss_fn, rows, items)
            torch.autograd.backward((c[rows] * losses_there).sum() / n_targets)  # adds to the first sum
        return loss

    def _own_state(self) -> dict[str, Any]:
        return {
            "rho": self.rho,
            "strength": self.strength,
            "estimator": self.estimator,
            "item_weights": self.item_weights.clone(),
        }

    def _load_own_state(self, state: dict[str, Any]) -> None:
        saved: Tensor = state["item_weights"]
        if saved.shape != self.item_weights.shape:
            raise ValueError(
                f"state_dict must hold weights of {self.item_weights.numel()} items; got {saved.numel()}. "
                "The checkpoint belongs to another catalogue."
            )
        if state["estimator"] != self.estimator:
            raise ValueError(
                f"state_dict must be of estimator {self.estimator!r}; got {state['estimator']!r}."
            )
        self.item_weights = saved.to(self.item_weights.device)
        self.rho, self.strength = state["rho"], state["strength"]
