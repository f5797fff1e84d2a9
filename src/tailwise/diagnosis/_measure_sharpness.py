"""Sharpness per group: direction from one half of the users, rise of the loss on the other."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.diagnosis._group_targets import GroupTargets, draw_halves
from tailwise.diagnosis._moved_losses import Batches, MovedLosses, TargetLosses, moved_parameters
from tailwise.diagnosis._sharpness import Sharpness
from tailwise.diagnosis._sharpness_roles import Roles

__all__ = ["check_sizes", "measure_sharpness", "targets_in_chunks"]

Ints = NDArray[np.int64]

_CHUNK = 1024


def measure_sharpness(
    losses: TargetLosses,
    parameters: Iterable[Any],
    targets: GroupTargets,
    *,
    rho: float = 0.05,
    n_targets_per_group: int | None = 1000,
    n_repeats: int = 3,
    n_random: int = 2,
    seed: int = 0,
    perturb: str | Sequence[str] = "shared",
    batches: Batches | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Sharpness:
    """Measure how much the loss of each group rises where that group is at its worst nearby.

    Users are split in two halves A and B, and equally many targets of every group are drawn from
    each. With ∇L_g(A) the gradient of a group's mean loss over A, the parameters are moved by
    ε_g = ρ ∇L_g(A) / ‖∇L_g(A)‖, and the rise of the loss is read on B. Then A and B change places;
    all of it is repeated over several splits and averaged. Parameters are restored bit for bit, also
    after an error.

    The intervals cluster by user: the linear influence of each user on the average, as judge (the losses
    read on it) and through the direction (the difference of its loss along the derivative of
    the result), squared and summed. Where the direction is mostly noise they are too wide, by up
    to √2 (docs/decisions/0012-sharpness.md).

    Args:
        losses: See :data:`TargetLosses`. In evaluation mode, float32 or float64, outside autocast.
        parameters: As for an optimizer: parameters, named ones or groups; those that
            ``perturb`` chooses move.
        targets: Groups and users of the targets that ``losses`` knows.
        rho: ρ > 0, in the units of the parameters.
        n_targets_per_group: Of each group in each half at most, >= 2; None takes as many as every
            group has. The number used is in the result.
        n_repeats: Splits, >= 1.
        n_random: Random directions per split, >= 2.
        seed: Of splits, draws and random directions. Measure models that are to be compared with
            the same seed, on the same targets.
        perturb: ``"shared"`` (all but parameters marked ``"per_item"``), ``"all"``, or patterns of
            names; see the optimizers.
        batches: Cuts targets into parts that are evaluated at once; by default 1,024 targets.
        progress: Told of evaluations done and in all.

    Returns:
        :class:`Sharpness`.

    Raises:
        ValueError: an argument is out of range, nothing moves, what moves is in less than float32, or
            losses change between two evaluations.
        DataError: a group has too few targets.
        FloatingPointError: a loss or a gradient is not finite.

    Example:
        >>> import torch
        >>> point = torch.nn.Parameter(torch.zeros(2))
        >>> goals = torch.tensor([[1.0, 0.0]] * 8 + [[0.0, 2.0]] * 8)
        >>> found = measure_sharpness(
        ...     lambda t: (goals[t] - point).square().sum(1),
        ...     [point],
        ...     GroupTargets(("head", "tail"), [0] * 8 + [1] * 8, users=list(range(8)) * 2),
        ...     rho=0.1,
        ... )
        >>> [round(group.held_out.value, 3) for group in found.groups]  # 2·0.1·‖goal‖ + 0.1²
        [0.21, 0.41]
    """
    started = time.perf_counter()
    if not math.isfinite(rho) or rho <= 0:
        raise ValueError(f"rho must be a finite number > 0; got {rho}.")
    check_sizes(
        n_targets_per_group=(n_targets_per_group, 2), n_repeats=(n_repeats, 1), n_random=(n_random, 2)
    )
    moved = moved_parameters(parameters, perturb)
    draw = draw_halves(targets, at_most=n_targets_per_group, n_splits=n_repeats, seed=seed)
    at = MovedLosses(losses, moved, batches or targets_in_chunks(targets))
    at.check_determinism(draw.targets[0])
    n_passes = n_repeats * (2 + 2 * len(targets.names) * 5 + 2 * n_random)
    roles = Roles(
        at,
        targets,
        draw.targets,
        rho=rho,
        progress=lambda done: progress(done, n_passes) if progress else None,
    )
    for split, halves in enumerate(draw.targets):
        roles.add_split(halves)
        for k in range(n_random):
            roles.add_random(seed=(seed, 1, split, k))
    return Sharpness(
        groups=tuple(roles.group(g) for g in range(len(targets.names))),
        cross=roles.cross(),
        rho=rho,
        n_per_group=draw.n_per_group,
        n_repeats=n_repeats,
        n_random=n_random * n_repeats,
        n_parameters=sum(p.numel() for p in moved),
        perturb=perturb if isinstance(perturb, str) else tuple(perturb),
        seed=seed,
        fingerprint=draw.fingerprint,
        seconds=time.perf_counter() - started,
        losses=roles.influences("loss"),
        rises=roles.influences("held_out"),
        bends=roles.influences("curvature"),
    )


def check_sizes(**sizes: tuple[int | None, int]) -> None:
    """Refuse numbers below their least value; None is no number, and passes."""
    for name, (size, least) in sizes.items():
        if size is not None and size < least:
            raise ValueError(f"{name} must be >= {least}; got {size}.")


def targets_in_chunks(targets: GroupTargets) -> Batches:
    """Cut targets into parts of 1,024, those of a row side by side."""

    def cut(chosen: Ints) -> Iterator[Ints]:
        in_order = chosen[np.argsort(targets.rows[chosen], kind="stable")]
        yield from (in_order[i : i + _CHUNK] for i in range(0, in_order.size, _CHUNK))

    return cut
