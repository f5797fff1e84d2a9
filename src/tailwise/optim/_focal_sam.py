"""Focal SAM: a sharpness penalty per class, smaller for larger classes."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tailwise.optim._eisam import EISAM

__all__ = ["FocalSAM"]


class FocalSAM(EISAM):
    """Penalise each item's sharpness by a focal weight of its share of the interactions.

    With ``n_i`` training interactions of item i out of ``N_train``, and ``L^γ`` the mean
    over the targets of ``(1 − n_i/N_train)^γ · l_j``::

        ε = ρ · ∇L^γ(θ) / ‖∇L^γ(θ)‖₂
        G = ∇(L − λ L^γ)(θ) + λ ∇L^γ(θ+ε)

    That is EISAM's ``exact`` with these weights and ``strength`` λ, and it is computed by it:
    two forwards, three backwards. λ may exceed 1; the authors use 0.5 to 1.1, with γ from
    0.2 to 5.5 and ρ from 0.02 to 0.3, tuned per data set.

    In a catalogue of thousands no item's share comes near 1, so that every weight is nearly 1
    and the method is nearly SAM. This is the method as published; ``item_weights(counts,
    "focal-max")`` in EISAM is what spreads the weights over the catalogue.

    Args:
        params: As for ``torch.optim.Optimizer``; groups may say ``"perturb": False`` or
            ``"per_item": True``.
        base_optimizer: Class of the base optimizer.
        counts: ``[n_items]``; training interactions, each >= 0.
        gamma: γ, tail emphasis; dimensionless, >= 0. At 0 and ``strength`` 1 this is SAM.
        rho: Radius ρ of the perturbation, in the units of the parameters, >= 0.
        strength: λ, dimensionless, >= 0.
        **arguments: As for :class:`PerturbingOptimizer`, and those of ``base_optimizer``.

    Raises:
        ValueError: an argument is out of range, or a perturbed parameter is in less than
            float32.

    Example:
        >>> theta = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> counts = torch.tensor([100, 0])  # the weights are 0 and 1
        >>> optimizer = FocalSAM([theta], torch.optim.SGD, counts=counts, rho=2.0, strength=1.0, lr=1.0)
        >>> _ = optimizer.compute_gradient(lambda rows: theta[rows] ** 2 / 2, torch.tensor([0, 1]))
        >>> theta.grad
        tensor([1.5000, 3.0000])

    Reference:
        Li et al., Focal-SAM: Focal Sharpness-Aware Minimization for Long-Tailed
        Classification (arXiv:2505.01660).
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: type[Optimizer],
        *,
        counts: Tensor,
        gamma: float = 1.0,
        rho: float,
        strength: float = 0.8,
        **arguments: Any,
    ) -> None:
        for name, value in (("gamma", gamma), ("strength", strength)):
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be a finite number >= 0; got {value}.")
        super().__init__(
            params,
            base_optimizer,
            item_weights=_focal_weights(counts, gamma),
            rho=rho,
            strength=min(strength, 1.0),
            estimator="exact",
            **arguments,
        )
        self.strength = strength  # EISAM's own stays within [0, 1]; its `exact` holds beyond


def _focal_weights(counts: Tensor, gamma: float) -> Tensor:
    """``(1 − n_i/N)^γ``, float32."""
    n = counts.to(torch.float64)
    if counts.ndim != 1:
        raise ValueError(f"counts must be a vector [n_items]; got shape {tuple(counts.shape)}.")
    if bool((n < 0).any()) or not bool(torch.isfinite(n).all()) or not bool((n > 0).any()):
        raise ValueError(
            "counts must be finite, >= 0 and somewhere positive; got values from "
            f"{n.min().item()} to {n.max().item()}. Count training interactions."
        )
    return ((1 - n / n.sum()).clamp_min(0) ** gamma).to(torch.float32)
