"""What every method here shares: a base optimizer, and a gradient computed from per-target losses."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tailwise.optim._joint_batch import JointBatch, LossFunction
from tailwise.optim._ranks import OneProcess, Ranks
from tailwise.optim._shards import is_sharded, whole

__all__ = ["LossFunction", "PerTargetOptimizer", "perturbation_scale", "perturbed"]

_STATE_VERSION = 2
_ENTRIES_AT_ONCE = 2**16  # whose squares are summed at once on a CPU


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
        ranks: The processes that train this model together; None for this one alone. See
            :class:`ReplicatedRanks` and :class:`ShardedRanks`.
        **base_arguments: Handed to ``base_optimizer``.
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: type[Optimizer],
        *,
        ranks: Ranks | None = None,
        **base_arguments: Any,
    ) -> None:
        self.ranks = OneProcess() if ranks is None else ranks
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

    def compute_gradient(
        self,
        loss_fn: LossFunction,
        items: Tensor,
        *,
        rows_at_once: int | Sequence[int] | None = None,
        normalizer: float | None = None,
        loss_scale: float = 1.0,
    ) -> Tensor:
        """Set every parameter's ``.grad`` to this method's gradient, leaving parameters as they were.

        Args:
            loss_fn: Maps ``rows`` (int64 ``[n]``) to their losses ``[n]`` or ``[n, positions]``.
            items: ``[rows]`` or ``[rows, positions]`` int64; the target item of each loss, -1 where
                there is no target. With several ranks, this rank's.
            rows_at_once: Rows per evaluation, whose graph is freed before the next one's:
                a number, or the sizes of consecutive micro-batches; None for all at once. The
                gradient is the whole batch's either way.
            normalizer: What sums of losses are divided by; None for the number of targets, of
                all ranks. For losses that are sums over tokens, the number of tokens.
            loss_scale: Factor on what is differentiated, as ``GradScaler.get_scale()`` gives it;
                ``.grad`` is left multiplied by it, as ``scaler.scale(loss).backward()`` leaves it.

        Returns:
            Scalar, detached: the mean loss over the targets, at the unperturbed parameters;
            a method that evaluates a row elsewhere only says so, and means that.

        Raises:
            ValueError: the losses do not have the shape of ``items``, there is no target, or
                ``rows_at_once`` does not fit.
            FloatingPointError: a loss or the norm of the ascent direction is not finite.
                Parameters are restored before anything is raised, on every rank.
        """
        batch = JointBatch(
            loss_fn,
            items,
            self.parameters(),
            self.ranks,
            rows_at_once=rows_at_once,
            normalizer=normalizer,
            loss_scale=loss_scale,
        )
        loss = self._gradient(batch)
        batch.sum_gradients()
        # In one precision: a rank without rows does not know that of the losses.
        return loss if self.ranks.size == 1 else self.ranks.total(loss.to(torch.float64))

    @abstractmethod
    def _gradient(self, batch: JointBatch) -> Tensor:
        """Leave the gradient, this rank's part or all of it, in ``.grad``; return its part of the loss."""

    @torch.no_grad()
    def step(  # type: ignore[override]
        self,
        loss_fn: LossFunction | None = None,
        items: Tensor | None = None,
        *,
        rows_at_once: int | Sequence[int] | None = None,
    ) -> Tensor | None:
        """Update the parameters.

        Args:
            loss_fn: As for :meth:`compute_gradient`; with None, the base optimizer is applied to the
                gradients that are there.
            items: The target items; required with ``loss_fn``.
            rows_at_once: As for :meth:`compute_gradient`.

        Returns:
            The mean loss, or None without ``loss_fn``.
        """
        if loss_fn is None:
            self.base.step()
            return None
        if items is None:
            raise ValueError("items must be given with loss_fn; got None. Pass the target item of each loss.")
        with torch.enable_grad():
            loss = self.compute_gradient(loss_fn, items, rows_at_once=rows_at_once)
        self.base.step()
        return loss

    def parameters(self) -> list[Tensor]:
        """Return the trainable parameters in group order."""
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def _mean_loss_gradient(self, batch: JointBatch) -> Tensor:
        """The base optimizer's own gradient: one forward, one backward."""
        batch.clear()
        return batch.add_gradient()

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


def direction_norm(gradients: Iterable[Tensor]) -> float:
    """Euclidean norm over all tensors together, accumulated in float64."""
    norms = [_norm(entries(g)) for g in gradients]
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


def _norm(gradient: Tensor) -> Tensor:
    """Of a whole tensor, also where this rank holds a shard of it only."""
    if gradient.device.type != "cpu" or is_sharded(gradient):
        return whole(torch.linalg.vector_norm(gradient, dtype=torch.float64))
    # Part by part: on a CPU the float64 copy that is made on the way would be twice the tensor.
    parts = torch.split(gradient.reshape(-1), _ENTRIES_AT_ONCE)
    norms = torch.stack([torch.linalg.vector_norm(part, dtype=torch.float64) for part in parts])
    total: Tensor = torch.linalg.vector_norm(norms)
    return total


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
