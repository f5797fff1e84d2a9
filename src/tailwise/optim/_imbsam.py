"""Imbalanced SAM: flatten the loss of tail items, train the others plainly."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tailwise.optim._eisam import EISAM

__all__ = ["ImbSAM"]


class ImbSAM(EISAM):
    """SAM for the targets that are tail items, plain training for those that are not.

    With ``L_head`` and ``L_tail`` the sums of the losses of head and tail targets, both
    over the number of all targets::

        ε = ρ · ∇L_tail(θ) / ‖∇L_tail(θ)‖₂
        G = ∇L_head(θ) + ∇L_tail(θ+ε)

    That is EISAM's ``exact`` with weights of 1 for the tail and 0 for the head at
    strength 1, and it is computed by it: at most two forwards and three backwards, the
    second forward over rows with a tail target only.

    The authors' public training script also doubles L_tail. Their optimizer does not, and
    nor does this one; to follow the script, let ``loss_fn`` return twice the losses of tail
    targets.

    Args:
        params: As for ``torch.optim.Optimizer``; groups may say ``"perturb": False`` or
            ``"per_item": True``.
        base_optimizer: Class of the base optimizer.
        tail_items: ``[n_items]`` bool; True for tail items, for example ``counts < threshold``.
        rho: Radius ρ of the perturbation, in the units of the parameters, >= 0.
        **arguments: As for :class:`PerturbingOptimizer`, and those of ``base_optimizer``.

    Raises:
        ValueError: ``tail_items`` is not a bool vector, another argument is out of range, or a
            perturbed parameter is in less than float32.

    Example:
        >>> theta = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> tail_items = torch.tensor([False, True])
        >>> optimizer = ImbSAM([theta], torch.optim.SGD, tail_items=tail_items, rho=2.0, lr=1.0)
        >>> _ = optimizer.compute_gradient(lambda rows: theta[rows] ** 2 / 2, torch.tensor([0, 1]))
        >>> theta.grad  # the head at 3, the tail at 4 + 2, over two targets
        tensor([1.5000, 3.0000])

    Reference:
        Zhou et al., ImbSAM: A Closer Look at Sharpness-Aware Minimization in
        Class-Imbalanced Recognition (arXiv:2308.07815).
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: type[Optimizer],
        *,
        tail_items: Tensor,
        rho: float,
        **arguments: Any,
    ) -> None:
        if tail_items.ndim != 1 or tail_items.dtype != torch.bool:
            raise ValueError(
                f"tail_items must be a bool vector [n_items]; got {tail_items.dtype} of shape "
                f"{tuple(tail_items.shape)}. Compare counts with a threshold: counts < 20."
            )
        super().__init__(
            params,
            base_optimizer,
            item_weights=tail_items.to(torch.float32),
            rho=rho,
            strength=1.0,
            estimator="exact",
            **arguments,
        )
