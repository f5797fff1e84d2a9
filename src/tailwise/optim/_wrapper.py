"""What every method here shares: a base optimizer, and a gradient computed from per-target losses."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["LossFunction", "PerTargetOptimizer", "perturbation_scale", "perturbed"]

LossFunction = Callable[[Tensor], Tensor]
"""Takes ``rows`` (int64 ``[n]``, positions in the batch) and returns their losses:
``[n]`` or ``[n, positions]``, one per target, differentiable."""

_STATE_VERSION = 2


class PerTargetOptimizer(Optimizer, ABC):
    """A ``torch.optim.Optimizer`` that computes its own gradient from per-target losses.

    It owns a base optimizer and shares ``param_groups`` and ``state`` with it, so that
    schedulers, ``zero_grad`` and ``add_param_group`` behave as usual. One training step
    is :meth:`step` with a loss function, or, to act in between (clipping, logging),
    :meth:`compute_gradient` followed by :meth:`step` without arguments.

    Args:
        params: Parameters, named parameters or parameter groups, as for any
            ``torch.optim.Optimizer``. A group may say ``"perturb": False``: trained, but never
            perturbed; and ``"per_item": True``: rows of single items, such as embeddings,
            which methods that perturb leave alone unless told otherwise.
        base_optimizer: The class that turns the gradient into an update.
        **base_arguments: Handed to ``base_optimizer``.
    """

    def __init__(self, params: Iterable[Any], base_optimizer: type[Optimizer], **base_arguments: Any) -> None:
        self.base = base_optimizer(params, **base_arguments)
        super().__init__(self.base.param_groups, self.base.defaults)
        self._share_with_base()
        for group in self.param_groups:
            self._check_group(group)

    def _share_with_base(self) -> None:
        self.param_groups = self.base.param_groups
        self.state = self.base.state

    def _check_group(self, group: dict[str, Any]) -> None:
        group.setdefault("perturb", True)
        group.setdefault("per_item", False)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to train, as for any optimizer; ``"perturb": False`` exempts them."""
        if not hasattr(self, "base") or self.param_groups is not self.base.param_groups:
            super().add_param_group(param_group)  # during construction: the base holds the group already
            return
        self.base.add_param_group(param_group)
        try:
            self._check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: all but hooks and a scheduler's wrapper; torch would drop the base."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if name != "step" and not name.startswith("_optimizer_")
        }

    @abstractmethod
    def compute_gradient(self, loss_fn: LossFunction, items: Tensor) -> Tensor:
        """Set every parameter's ``.grad`` to this method's gradient, leaving parameters as they were.

        Args:
            loss_fn: Maps ``rows`` (int64 ``[n]``) to their losses ``[n]`` or ``[n, positions]``.
            items: ``[rows]`` or ``[rows, positions]`` int64; the target item of each loss, -1 where
                there is no target.

        Returns:
            Scalar, detached: the mean loss over the targets, at the unperturbed parameters;
            a method that evaluates a row elsewhere only says so, and means that.

        Raises:
            ValueError: the losses do not have the shape of ``items``, or there is no target.
            FloatingPointError: a loss or the norm of the ascent direction is not finite.
                Parameters are restored before anything is raised.
        """

    @torch.no_grad()
    def step(self, loss_fn: LossFunction | None = None, items: Tensor | None = None) -> Tensor | None:  # type: ignore[override]
        """Update the parameters.

        Args:
            loss_fn: As for :meth:`compute_gradient`; with None, the base optimizer is applied to the
                gradients that are there.
            items: The target items; required with ``loss_fn``.

        Returns:
            The mean loss, or None without ``loss_fn``.
        """
        if loss_fn is None:
            self.base.step()
            return None
        if items is None:
            raise ValueError("items must be given with loss_fn; got None. Pass the target item of each loss.")
        with torch.enable_grad():
            loss = self.compute_gradient(loss_fn, items)
        self.base.step()
        return loss

    def parameters(self) -> list[Tensor]:
        """Return the trainable parameters in group order."""
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def _mean_loss_gradient(self, loss_fn: LossFunction, items: Tensor) -> Tensor:
        """The base optimizer's own gradient: one forward, one backward."""
        losses, n_targets = checked_losses(loss_fn, all_rows(items), items)
        loss = losses.sum() / n_targets
        self.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        return loss.detach()

    def _own_state(self) -> dict[str, Any]:
        """What beyond the base optimizer's state a resumed run needs."""
        return {}

    def _load_own_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`_own_state` gave, or raise ``ValueError`` before changing anything."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs: base moments, settings, version."""
        own = {
            "version": _STATE_VERSION,
            "method": type(self).__name__,
            "base": type(self.base).__name__,
            "shapes": [list(p.shape) for group in self.param_groups for p in group["params"]],
            **self._own_state(),
        }
        return {**self.base.state_dict(), "tailwise": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave; refuse anything else before changing anything.

        Raises:
            ValueError: the state is another method's, base optimizer's or version's, its shapes
                differ, or it would perturb a parameter of low precision.
        """
        own = state_dict.get("tailwise")
        if own is None:
            raise ValueError(
                "state_dict must come from a tailwise optimizer; got one without the key 'tailwise'. "
                "To start from a plain optimizer's state, load it into `.base`."
            )
        if own["version"] != _STATE_VERSION:
            raise ValueError(f"state_dict version must be {_STATE_VERSION}; got {own['version']}.")
        if own["method"] != type(self).__name__:
            raise ValueError(f"state_dict must be of method {type(self).__name__}; got {own['method']}.")
        if own["base"] != type(self.base).__name__:
            raise ValueError(
                f"state_dict must be of base optimizer {type(self.base).__name__}; got {own['base']}."
            )
        expected = {"version", "method", "base", "shapes", *self._own_state()}
        if own.keys() != expected:
            raise ValueError(
                f"state_dict must hold {sorted(expected)} under 'tailwise'; got {sorted(own)}. It is damaged."
            )
        base_state = {key: value for key, value in state_dict.items() if key != "tailwise"}
        self._check_shapes(base_state, own["shapes"])
        self._load_own_state(own)
        self.base.load_state_dict(base_state)
        self._share_with_base()

    def _check_shapes(self, base_state: dict[str, Any], saved_shapes: list[list[int]]) -> None:
        saved_sizes = [len(group["params"]) for group in base_state["param_groups"]]
        sizes = [len(group["params"]) for group in self.param_groups]
        if saved_sizes != sizes:
            raise ValueError(f"state_dict must have parameter groups of sizes {sizes}; got {saved_sizes}.")
        parameters = [p for group in self.param_groups for p in group["params"]]
        for index, (parameter, shape) in enumerate(zip(parameters, saved_shapes, strict=True)):
            if list(parameter.shape) != shape:
                raise ValueError(
                    f"state_dict must be of a parameter {index} of shape {tuple(parameter.shape)}; got "
                    f"{tuple(shape)}. The checkpoint belongs to another model or catalogue."
                )
        for group, saved in zip(self.param_groups, base_state["param_groups"], strict=True):
            self._check_group({**saved, "params": group["params"]})  # the saved group says what is perturbed


def all_rows(items: Tensor) -> Tensor:
    """Positions of all rows of the batch."""
    return torch.arange(items.shape[0], device=items.device)


def check_targets(items: Tensor) -> None:
    """Refuse a batch without any target."""
    if not bool((items >= 0).any()):
        raise ValueError("items must name a target in at least one place; got -1 everywhere.")


def checked_losses(loss_fn: LossFunction, rows: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate ``rows``; return losses with zeros where there is no target, and the number of targets.

    The number is the whole batch's, so that losses of a part of the rows stay on the same scale.
    """
    check_targets(items)
    has_target = items >= 0
    n_targets = has_target.sum()
    losses = loss_fn(rows)
    part = has_target[rows]
    if losses.shape != part.shape:
        raise ValueError(
            f"loss_fn must return one loss per target, shape {tuple(part.shape)}; got "
            f"{tuple(losses.shape)}. Use reduction='none'."
        )
    losses = torch.where(part, losses, torch.zeros_like(losses))
    if not bool(torch.isfinite(losses.detach()).all()):
        bad = int((~torch.isfinite(losses.detach())).sum())
        raise FloatingPointError(
            f"losses must be finite; got {bad} of {int(part.sum())} that are not. "
            "Parameters are unchanged; lower the learning rate or rho, or inspect the batch."
        )
    return losses, n_targets


def direction_norm(gradients: Iterable[Tensor]) -> float:
    """Euclidean norm over all tensors together, accumulated in float64."""
    norms = [torch.linalg.vector_norm(entries(g), dtype=torch.float64) for g in gradients]
    total = float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
    if not math.isfinite(total):
        raise FloatingPointError(
            "the norm of the ascent direction must be finite; got "
            f"{total}. Parameters are unchanged; lower the learning rate, or inspect the batch."
        )
    return total


def entries(gradient: Tensor) -> Tensor:
    """Those that may differ from zero: the gradient of an embedding may be sparse."""
    return (gradient.coalesce().values() if gradient.is_sparse else gradient).detach()


def perturbation_scale(rho: float, norm: float) -> float:
    """``rho / norm``; 0 where the direction has vanished, or the ratio is beyond float32."""
    return rho / norm if norm * 1e38 > rho else 0.0


@contextmanager
def perturbed(parameters: list[Tensor], direction: list[Tensor], scale: float) -> Iterator[None]:
    """Move ``parameters`` by ``scale * direction`` inside the block; restore them bit for bit after it.

    The originals are kept as copies: subtracting the perturbation again would leave
    rounding errors behind, which add up over a training run. Autocast keeps low-precision
    copies of parameters while it is active; they are dropped on both sides, or an evaluation
    would see the parameters of the one before.
    """
    saved = [p.detach().clone() for p in parameters]
    try:
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=scale)
        torch.clear_autocast_cache()
        yield
    finally:
        with torch.no_grad():
            for p, original in zip(parameters, saved, strict=True):
                p.copy_(original)
        torch.clear_autocast_cache()
