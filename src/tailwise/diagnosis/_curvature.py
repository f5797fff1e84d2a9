"""The top eigenvalue of the Hessian of each popularity group's loss, and what it is worth held out."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tailwise.diagnosis._group_targets import GroupTargets, draw_halves
from tailwise.diagnosis._hessian import N_VECTORS, Top, top_eigenvalue
from tailwise.diagnosis._measure_sharpness import check_sizes, targets_in_chunks
from tailwise.diagnosis._moved_losses import Batches, MovedLosses, TargetLosses, inner, moved_parameters
from tailwise.diagnosis._uncertain import Uncertain
from tailwise.diagnosis._user_influence import by_user, clustered_error
from tailwise.optim._wrapper import perturbed

__all__ = ["Curvature", "GroupCurvature", "measure_curvature"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_STEP = 0.05  # of the second differences behind the interval: their rounding error is below 0.001


@dataclass(frozen=True)
class GroupCurvature:
    """One popularity group. Eigenvalues are in nats per squared unit of the parameters.

    Attributes:
        name: Of the group.
        eigenvalue: Largest algebraic one of the Hessian of the mean loss over half the drawn targets,
            averaged over both halves. Too large from noise alone. None where it was not found.
        held_out: Curvature vᵀHv of the other half's loss along the eigenvector v: the unbiased
            companion. The interval takes v as given, and as if both halves erred alike.
        residual: ‖Hv − λv‖ / |λ|, the larger one of the two halves.
        is_converged: ``residual`` reached the tolerance within the products allowed, in both halves.
        n_products: Hessian-vector products, both halves together.
    """

    name: str
    eigenvalue: float | None
    held_out: Uncertain
    residual: float | None
    is_converged: bool
    n_products: int

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {**vars(self), "held_out": self.held_out.as_dict()}


@dataclass(frozen=True)
class Curvature:
    """What :func:`measure_curvature` found.

    Attributes:
        groups: Most popular first.
        n_per_group: Targets of every group in each half.
        n_parameters: Entries that moved.
        perturb: Which parameters moved.
        tolerance: Largest relative residual.
        seed: Of the split, the draw and the start.
        fingerprint: Of targets and draw; equal where two models were measured on the same.
        seconds: The measurement took.
    """

    groups: tuple[GroupCurvature, ...]
    n_per_group: int
    n_parameters: int
    perturb: str | tuple[str, ...]
    tolerance: float
    seed: int
    fingerprint: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        perturb = self.perturb if isinstance(self.perturb, str) else list(self.perturb)
        return {**vars(self), "groups": [group.as_dict() for group in self.groups], "perturb": perturb}


def measure_curvature(
    losses: TargetLosses,
    parameters: Iterable[Any],
    targets: GroupTargets,
    *,
    n_targets_per_group: int | None = 300,
    tolerance: float = 0.01,
    max_products: int = 200,
    seed: int = 0,
    perturb: str | Sequence[str] = "shared",
    batches: Batches | None = None,
    progress: Callable[[int], None] | None = None,
) -> Curvature:
    """Find the top Hessian eigenvalue of each group's mean loss, by products with vectors.

    Lanczos (ARPACK, through ``scipy.sparse.linalg.eigsh``) over products Hv that differentiate twice; it
    finds the largest *algebraic* eigenvalue, where power iteration would end at a large negative one. The
    top eigenvalue of a sample is inflated: each half's eigenvector is therefore tried on the other.

    Args:
        losses: Twice differentiable: attention must not be a fused kernel.
        parameters: See :func:`measure_sharpness`, as are the others.
        targets: Groups and users.
        n_targets_per_group: Of each group in each half at most, >= 2. A product costs about three
            gradients; some 20 to 60 are needed per group and half.
        tolerance: Largest relative residual ‖Hv − λv‖ / |λ|, in (0, 1).
        max_products: Per group and half, >= 20; rounded down to whole restarts.
        seed: Of the split, the draw and the starting vector.
        perturb: Over which parameters.
        batches: Cuts targets into parts that are evaluated at once.
        progress: Told of every product.

    Raises:
        ValueError: an argument is out of range, or nothing moves.
        DataError: a group has too few targets.
        RuntimeError: an operation of the model has no second derivative.

    Example:
        >>> import torch
        >>> point = torch.nn.Parameter(torch.zeros(3))
        >>> steep = torch.tensor([[3.0, 1.0, 0.0], [0.0, -9.0, 2.0]])
        >>> found = measure_curvature(
        ...     lambda t: 0.5 * (steep[t % 2] * point.square()).sum(1),
        ...     [point],
        ...     GroupTargets(("head", "tail"), [0, 1] * 8, users=[i // 2 for i in range(16)]),
        ... )
        >>> [round(group.eigenvalue, 4) for group in found.groups]
        [3.0, 2.0]
    """
    started = time.perf_counter()
    check_sizes(n_targets_per_group=(n_targets_per_group, 2), max_products=(max_products, N_VECTORS))
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must be in (0, 1); got {tolerance}.")
    moved = moved_parameters(parameters, perturb)
    draw = draw_halves(targets, at_most=n_targets_per_group, n_splits=1, seed=seed)
    at = MovedLosses(losses, moved, batches or targets_in_chunks(targets))
    at.check_determinism(draw.targets[0])
    groups = []
    for g in range(len(targets.names)):
        halves = draw.targets[0, :, g]  # [2, n]
        tops = [
            top_eigenvalue(
                at, half, tolerance=tolerance, max_products=max_products, seed=seed, progress=progress
            )
            for half in halves
        ]
        groups.append(_put_together(at, targets, g, halves, tops, tolerance=tolerance))
    return Curvature(
        groups=tuple(groups),
        n_per_group=draw.n_per_group,
        n_parameters=sum(p.numel() for p in moved),
        perturb=perturb if isinstance(perturb, str) else tuple(perturb),
        tolerance=tolerance,
        seed=seed,
        fingerprint=draw.fingerprint,
        seconds=time.perf_counter() - started,
    )


def _put_together(
    at: MovedLosses, targets: GroupTargets, g: int, halves: Ints, tops: Sequence[Top], *, tolerance: float
) -> GroupCurvature:
    """Judge each half's eigenvector by the other half: ``halves`` is ``[2, n]``."""
    name = targets.names[g]
    n_products = sum(top.n_products for top in tops)
    values, residuals, held_out, errors = [], [], [], []
    for top, other in zip(tops, halves[::-1], strict=True):
        if top.value is None or top.vector is None or top.residual is None:
            return GroupCurvature(name, None, Uncertain(None), None, False, n_products)
        values.append(top.value)
        residuals.append(top.residual)
        held_out.append(inner(top.vector, at.hessian_product(other, top.vector)))
        _, user = np.unique(targets.users[other], return_inverse=True)
        errors.append(clustered_error(by_user(_bends(at, other, top.vector), user, int(user.max()) + 1)))
    value = float(np.mean(held_out))
    known = [error for error in errors if error is not None]
    return GroupCurvature(
        name=name,
        eigenvalue=float(np.mean(values)),
        held_out=Uncertain.normal(value, float(np.mean(known))) if len(known) == 2 else Uncertain(value),
        residual=max(residuals),
        is_converged=max(residuals) <= tolerance,
        n_products=n_products,
    )


def _bends(at: MovedLosses, chosen: Ints, vector: list[Tensor]) -> Floats:
    """Second difference of every target's loss along ``vector``: ``[n]``."""
    sides = []
    for step in (_STEP, -_STEP):
        with perturbed(at.parameters, vector, step):
            sides.append(at.values(chosen))
    bends: Floats = (sides[0] + sides[1] - 2 * at.values(chosen)) / _STEP**2
    return bends
