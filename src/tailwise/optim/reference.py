"""Slow versions that read like the equations; the tests hold the fast ones to them.

Nothing here is used in training. Every target's gradient is taken on its own, sums are
written out, and parameters are replaced rather than moved and restored.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = [
    "asam_gradient",
    "draws",
    "eisam_gradient",
    "focal_sam_gradient",
    "gradient_for_given_eps",
    "group_sam_gradient",
    "imbsam_gradient",
    "look_sam_gradient",
    "momentum_sam_gradient",
    "sam_gradient",
    "sampled_alike_gradient",
    "sampled_gradient",
    "single_pass_gradient",
]

TargetLosses = Callable[[Sequence[Tensor]], Tensor]
"""Maps a parameter list to the losses ``[n_targets]`` of every target."""


def eisam_gradient(
    target_losses: TargetLosses, theta: Sequence[Tensor], c: Tensor, *, rho: float
) -> list[Tensor]:
    """G of EISAM: ``(1/N) Σ (1−c_j) ∇l_j(θ) + (1/N) Σ c_j ∇l_j(θ+ε)``, ``ε = ρ g_w/‖g_w‖``.

    Args:
        target_losses: Losses of all N targets as a function of the parameters.
        theta: The parameters θ, all of them perturbed.
        c: ``[N]``, strength times item weight of each target.
        rho: Radius.

    Returns:
        G, one tensor per parameter.
    """
    n = len(c)
    at_theta = _gradient_of_each_target(target_losses, theta, n)
    g_w = [sum((c[j] * at_theta[j][p] for j in range(n)), torch.zeros(())) / n for p in range(len(theta))]
    norm = torch.sqrt(sum(((g**2).sum() for g in g_w), torch.zeros(())))
    eps = [rho * g / norm if norm > 0 else torch.zeros_like(g) for g in g_w]
    return gradient_for_given_eps(target_losses, theta, c, eps)


def sam_gradient(target_losses: TargetLosses, theta: Sequence[Tensor], *, rho: float) -> list[Tensor]:
    """The gradient of the mean loss at ``θ + ρ g/‖g‖``, g its gradient at θ."""
    g = _gradient(lambda p: target_losses(p).mean(), theta)
    norm = torch.sqrt(sum(((x**2).sum() for x in g), torch.zeros(())))
    eps = [rho * x / norm if norm > 0 else torch.zeros_like(x) for x in g]
    return _gradient(lambda p: target_losses(p).mean(), [t + e for t, e in zip(theta, eps, strict=True)])


def gradient_for_given_eps(
    target_losses: TargetLosses, theta: Sequence[Tensor], c: Tensor, eps: Sequence[Tensor]
) -> list[Tensor]:
    """``(1/N) Σ (1−c_j) ∇l_j(θ) + (1/N) Σ c_j ∇l_j(θ+ε)``, for a given ε.

    Args:
        target_losses: Losses of all N targets as a function of the parameters.
        theta: The parameters θ.
        c: ``[N]``, strength times item weight of each target.
        eps: ε, one tensor per parameter.
    """
    n = len(c)
    at_theta = _gradient_of_each_target(target_losses, theta, n)
    there = _gradient_of_each_target(target_losses, [t + e for t, e in zip(theta, eps, strict=True)], n)
    return [
        sum(((1 - c[j]) * at_theta[j][p] + c[j] * there[j][p] for j in range(n)), torch.zeros(())) / n
        for p in range(len(theta))
    ]


def draws(q: Sequence[float]) -> list[tuple[float, list[bool]]]:
    """Every outcome of a systematic draw: its probability, and whether each row is drawn.

    The running sum of ``q``, taken modulo 1, cuts [0, 1) into intervals; within one of them the
    uniform number decides nothing more.
    """
    ends = [math.fsum(q[: b + 1]) for b in range(len(q))]
    starts = [0.0, *ends[:-1]]
    cuts = sorted({0.0, 1.0, *(end % 1 for end in ends)})
    outcomes = []
    for left, right in itertools.pairwise(cuts):
        points = [(left + right) / 2 + k for k in range(len(q) + 1)]
        drawn = [any(s <= x < e for x in points) for s, e in zip(starts, ends, strict=True)]
        outcomes.append((right - left, drawn))
    return outcomes


def single_pass_gradient(
    target_losses: TargetLosses,
    theta: Sequence[Tensor],
    c: Tensor,
    *,
    row_of_target: Sequence[int],
    q: Sequence[float],
    is_drawn: Sequence[bool],
    eps: Sequence[Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """One draw of ``single-pass``: ``c/q`` at θ+ε in a drawn row, ``(1−c)/(1−q)`` at θ in another.

    Args:
        target_losses: Losses of all N targets as a function of the parameters.
        theta: The parameters θ.
        c: ``[N]``, strength times item weight of each target.
        row_of_target: N row numbers.
        q: Probability of each row.
        is_drawn: Whether each row was drawn.
        eps: ε, one tensor per parameter.

    Returns:
        The gradient, and the drawn rows' share of it: what the average behind ε takes in.
    """
    n = len(c)
    at_theta = _gradient_of_each_target(target_losses, theta, n)
    there = _gradient_of_each_target(target_losses, [t + e for t, e in zip(theta, eps, strict=True)], n)
    total = [torch.zeros_like(t) for t in theta]
    of_drawn = [torch.zeros_like(t) for t in theta]
    for j, b in enumerate(row_of_target):
        for p in range(len(theta)):
            if is_drawn[b]:
                term = c[j] / q[b] * there[j][p] / n
                of_drawn[p] = of_drawn[p] + term
            else:
                term = (1 - c[j]) / (1 - q[b]) * at_theta[j][p] / n
            total[p] = total[p] + term
    return total, of_drawn


def sampled_gradient(
    target_losses: TargetLosses,
    theta: Sequence[Tensor],
    c: Tensor,
    *,
    row_of_target: Sequence[int],
    p: Sequence[float],
    is_drawn: Sequence[bool],
    rho: float,
) -> list[Tensor]:
    """One draw of ``sampled``: the plain gradient, and ``(c_j/p) [∇l_j(θ+ε) − ∇l_j(θ)]`` of drawn rows.

    ``ε = ρ h/‖h‖`` with ``h = Σ (c_j/p) ∇l_j(θ)`` over the drawn rows' targets.

    Args:
        target_losses: Losses of all N targets as a function of the parameters.
        theta: The parameters θ.
        c: ``[N]``.
        row_of_target: N row numbers.
        p: Probability of each row.
        is_drawn: Whether each row was drawn.
        rho: Radius.
    """
    factors = torch.stack(
        [c[j] / p[b] if is_drawn[b] else torch.zeros_like(c[j]) for j, b in enumerate(row_of_target)]
    )
    return eisam_gradient(target_losses, theta, factors, rho=rho)  # (1−f) ∇l(θ) + f ∇l(θ+ε)


def sampled_alike_gradient(
    target_losses: TargetLosses,
    theta: Sequence[Tensor],
    *,
    row_of_target: Sequence[int],
    factor: float,
    is_drawn: Sequence[bool],
    rho: float,
) -> list[Tensor]:
    """One draw of ``sampled``, unit weights: the plain gradient, and ``f [∇l(θ+ε) − ∇l(θ)]`` of drawn rows.

    ``ε = ρ h/‖h‖`` with ``h = Σ ∇l_j(θ)`` over the drawn rows' targets, whatever their items.

    Args:
        target_losses: Losses of all N targets as a function of the parameters.
        theta: The parameters θ.
        row_of_target: N row numbers.
        factor: f, of all drawn rows.
        is_drawn: Whether each row was drawn.
        rho: Radius.
    """
    of_drawn = torch.tensor([float(is_drawn[b]) for b in row_of_target], dtype=theta[0].dtype)
    h = _gradient(lambda p: (of_drawn * target_losses(p)).sum(), theta)
    return gradient_for_given_eps(target_losses, theta, factor * of_drawn, _to_length(rho, h))


def _gradient(loss: Callable[[Sequence[Tensor]], Tensor], theta: Sequence[Tensor]) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in theta]
    return list(torch.autograd.grad(loss(leaves), leaves, materialize_grads=True, allow_unused=True))


def _gradient_of_each_target(
    target_losses: TargetLosses, theta: Sequence[Tensor], n_targets: int
) -> list[list[Tensor]]:
    return [_gradient(lambda p, j=j: target_losses(p)[j], theta) for j in range(n_targets)]  # type: ignore[misc]


# The rivals


def asam_gradient(
    target_losses: TargetLosses, theta: Sequence[Tensor], *, rho: float, eta: float
) -> list[Tensor]:
    """The gradient of the mean loss at ``θ + ρ T²g/‖T g‖``, ``T = |θ| + η``; ASAM, algorithm 1."""
    g = _gradient(lambda p: target_losses(p).mean(), theta)
    size = [t.detach().abs() + eta for t in theta]
    norm = _norm([t * x for t, x in zip(size, g, strict=True)])
    eps = [rho * t**2 * x / norm for t, x in zip(size, g, strict=True)]
    return _gradient(lambda p: target_losses(p).mean(), _plus(theta, eps))


def imbsam_gradient(
    target_losses: TargetLosses, theta: Sequence[Tensor], is_tail: Tensor, *, rho: float
) -> list[Tensor]:
    """``∇L_head(θ) + ∇L_tail(θ + ρ ∇L_tail/‖∇L_tail‖)``; ``is_tail`` ``[N]`` bool; ImbSAM."""
    n = len(is_tail)

    def tail(p: Sequence[Tensor]) -> Tensor:
        return target_losses(p)[is_tail].sum() / n

    head = _gradient(lambda p: target_losses(p)[~is_tail].sum() / n, theta)
    return _plus(head, _gradient(tail, _plus(theta, _to_length(rho, _gradient(tail, theta)))))


def focal_sam_gradient(
    target_losses: TargetLosses, theta: Sequence[Tensor], focal: Tensor, *, rho: float, strength: float
) -> list[Tensor]:
    """``∇(L − λ L^γ)(θ) + λ ∇L^γ(θ + ρ ∇L^γ/‖∇L^γ‖)``; ``focal`` ``[N]`` is ``(1−n/N)^γ``; Focal-SAM."""

    def weighted(p: Sequence[Tensor]) -> Tensor:
        return (focal * target_losses(p)).mean()

    here = _gradient(lambda p: target_losses(p).mean() - strength * weighted(p), theta)
    eps = _to_length(rho, _gradient(weighted, theta))
    return _plus(here, _gradient(lambda p: strength * weighted(p), _plus(theta, eps)))


def group_sam_gradient(
    target_losses: TargetLosses, theta: Sequence[Tensor], groups: Tensor, *, rhos: Sequence[float]
) -> list[Tensor]:
    """``Σ_g ∇L_g(θ + ρ_g ∇L_g/‖∇L_g‖)``; ``groups`` ``[N]`` is each target's; after CC-SAM."""
    n = len(groups)
    total = [torch.zeros_like(t) for t in theta]
    for g, rho in enumerate(rhos):

        def of_group(p: Sequence[Tensor], g: int = g) -> Tensor:
            return target_losses(p)[groups == g].sum() / n

        total = _plus(total, _gradient(of_group, _plus(theta, _to_length(rho, _gradient(of_group, theta)))))
    return total


def look_sam_gradient(
    target_losses: TargetLosses,
    theta: Sequence[Tensor],
    g_v: Sequence[Tensor] | None,
    *,
    rho: float,
    alpha: float,
) -> tuple[list[Tensor], Sequence[Tensor]]:
    """One step of LookSAM, algorithm 1: its gradient, and the g_v to hand to the next.

    With ``g_v`` None this is a full step; else ``g + α (‖g‖/‖g_v‖) g_v``.
    """
    g = _gradient(lambda p: target_losses(p).mean(), theta)
    if g_v is not None:
        return _plus(g, [alpha * _norm(g) / _norm(g_v) * v for v in g_v]), g_v
    g_s = sam_gradient(target_losses, theta, rho=rho)
    cosine = _dot(g_s, g) / (_norm(g_s) * _norm(g))
    return g_s, [s - _norm(g_s) * cosine * x / _norm(g) for s, x in zip(g_s, g, strict=True)]


def momentum_sam_gradient(
    target_losses: TargetLosses, theta: Sequence[Tensor], momentum: Sequence[Tensor], *, rho: float
) -> list[Tensor]:
    """``∇L(θ − ρ v/‖v‖)``, v the accumulated gradients; MSAM, algorithm 1."""
    return _gradient(lambda p: target_losses(p).mean(), _plus(theta, _to_length(-rho, momentum)))


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    return sum(((a * b).sum() for a, b in zip(left, right, strict=True)), torch.zeros(()))


def _norm(vector: Sequence[Tensor]) -> Tensor:
    return torch.sqrt(_dot(vector, vector))


def _to_length(length: float, vector: Sequence[Tensor]) -> list[Tensor]:
    norm = _norm(vector)
    return [length * v / norm if norm > 0 else torch.zeros_like(v) for v in vector]


def _plus(left: Sequence[Tensor], right: Sequence[Tensor]) -> list[Tensor]:
    return [a + b for a, b in zip(left, right, strict=True)]
