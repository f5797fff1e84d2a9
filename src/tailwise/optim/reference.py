"""Slow versions that read like the equations; the tests hold the fast ones to them.

Nothing here is used in training. Every target's gradient is taken on its own, sums are
written out, and parameters are replaced rather than moved and restored.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["eisam_gradient", "sam_gradient"]

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
    there = _gradient_of_each_target(target_losses, [t + e for t, e in zip(theta, eps, strict=True)], n)
    return [
        sum(((1 - c[j]) * at_theta[j][p] + c[j] * there[j][p] for j in range(n)), torch.zeros(())) / n
        for p in range(len(theta))
    ]


def sam_gradient(target_losses: TargetLosses, theta: Sequence[Tensor], *, rho: float) -> list[Tensor]:
    """The gradient of the mean loss at ``θ + ρ g/‖g‖``, g its gradient at θ."""
    g = _gradient(lambda p: target_losses(p).mean(), theta)
    norm = torch.sqrt(sum(((x**2).sum() for x in g), torch.zeros(())))
    eps = [rho * x / norm if norm > 0 else torch.zeros_like(x) for x in g]
    return _gradient(lambda p: target_losses(p).mean(), [t + e for t, e in zip(theta, eps, strict=True)])


def _gradient(loss: Callable[[Sequence[Tensor]], Tensor], theta: Sequence[Tensor]) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in theta]
    return list(torch.autograd.grad(loss(leaves), leaves, materialize_grads=True, allow_unused=True))


def _gradient_of_each_target(
    target_losses: TargetLosses, theta: Sequence[Tensor], n_targets: int
) -> list[list[Tensor]]:
    return [_gradient(lambda p, j=j: target_losses(p)[j], theta) for j in range(n_targets)]  # type: ignore[misc]
