"""Item weights: how strongly each item's sharpness is penalised, from its training count."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["WEIGHT_SCHEMES", "item_weights"]


def item_weights(
    counts: Tensor,
    scheme: str = "rank",
    *,
    gamma: float = 1.0,
    reference_quantile: float = 0.5,
    beta: float = 0.999,
    head_share: float = 0.2,
) -> Tensor:
    """Weigh each item's sharpness more the rarer it is.

    With ``n_i`` training interactions of item ``i``, all schemes are non-increasing in
    ``n_i`` and stay within [0, 1]; items never seen in training get 1.

    ============================ ==========================================================
    ``power``                    ``min(1, (n_ref / n_i) ** gamma)``, where ``n_ref`` is the
                                 ``reference_quantile`` of the positive counts
    ``rank``                     ``((r_i - 1/2) / n) ** gamma``; ``r_i`` is the popularity
                                 rank among the ``n`` trained items (1 = most popular,
                                 equal counts share the mean rank)
    ``focal-max``                ``(1 - n_i / n_max) ** gamma``
    ``effective-number``         ``(1 - beta) / (1 - beta ** n_i)``: one over the effective
                                 number of samples; ``gamma`` is not used
    ``step``                     1 for the tail, 0 for the ``head_share`` most popular
                                 trained items; items whose count equals the first tail
                                 item's are tail too; ``gamma`` is not used
    ============================ ==========================================================

    With ``gamma=0`` the first three weigh all items alike: ordinary SAM at strength 1.

    Args:
        counts: ``[n_items]`` integer or floating; training interactions, each >= 0.
        scheme: One of the names above.
        gamma: Tail emphasis; dimensionless, >= 0.
        reference_quantile: For ``power``; in (0, 1].
        beta: For ``effective-number``; in (0, 1).
        head_share: For ``step``; share of trained items that form the head, in (0, 1).

    Returns:
        ``[n_items]`` float32 in [0, 1], on ``counts.device``.

    Raises:
        ValueError: ``scheme`` is unknown, ``counts`` is not a vector of non-negative
            numbers with at least one positive, or a parameter is out of its range.

    Example:
        >>> item_weights(torch.tensor([100, 4, 4, 0]), "rank")
        tensor([0.1667, 0.6667, 0.6667, 1.0000])

    Reference:
        ``docs/decisions/0003-item-weights.md``; after the focal weights of Focal-SAM
        (arXiv:2505.01660) and the class-balanced loss (arXiv:1901.05555).
    """
    if scheme not in WEIGHT_SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(WEIGHT_SCHEMES)}; got {scheme!r}.")
    if counts.ndim != 1:
        raise ValueError(f"counts must be a vector [n_items]; got shape {tuple(counts.shape)}.")
    if not math.isfinite(gamma) or gamma < 0:
        raise ValueError(f"gamma must be a finite number >= 0; got {gamma}.")
    n = counts.to(torch.float64)
    if bool((n < 0).any()) or not bool(torch.isfinite(n).all()):
        raise ValueError(f"counts must be finite and >= 0; got a smallest value of {n.min().item()}.")
    trained = n > 0
    if not bool(trained.any()):
        raise ValueError("counts must have a positive entry; got zeros only. Count training interactions.")
    if scheme == "power":
        weights = _power(n[trained], gamma, reference_quantile)
    elif scheme == "effective-number":
        weights = _effective_number(n[trained], beta)
    elif scheme == "step":
        weights = _step(n[trained], head_share)
    else:
        weights = WEIGHT_SCHEMES[scheme](n[trained], gamma)
    result = torch.ones_like(n)
    result[trained] = weights
    return result.to(torch.float32)


def _power(n: Tensor, gamma: float, quantile: float) -> Tensor:
    if not 0 < quantile <= 1:
        raise ValueError(f"reference_quantile must be in (0, 1]; got {quantile}.")
    return (torch.quantile(n, quantile) / n).clamp(max=1.0) ** gamma


def _rank(n: Tensor, gamma: float) -> Tensor:
    _, value_of, sizes = torch.unique(n, return_inverse=True, return_counts=True)  # ascending
    more_popular = n.numel() - sizes.cumsum(0)  # items with a strictly larger count, per value
    mean_rank: Tensor = (more_popular + (sizes + 1) / 2).to(n.dtype)[value_of]
    return ((mean_rank - 0.5) / n.numel()) ** gamma


def _focal_max(n: Tensor, gamma: float) -> Tensor:
    return (1 - n / n.max()) ** gamma


def _effective_number(n: Tensor, beta: float) -> Tensor:
    if not 0 < beta < 1:
        raise ValueError(f"beta must be in (0, 1); got {beta}.")
    return ((1 - beta) / (1 - beta**n)).clamp(max=1.0)  # a decayed count may be below one


def _step(n: Tensor, head_share: float) -> Tensor:
    if not 0 < head_share < 1:
        raise ValueError(
            f"head_share must be a fraction in (0, 1); got {head_share}. For twenty percent, write 0.2."
        )
    n_head = int(head_share * n.numel() + 1e-9)  # 1e-9: 0.2 * 5 must count as one whole item
    largest_tail_count = n.sort(descending=True).values[n_head]
    return (n <= largest_tail_count).to(n.dtype)


WEIGHT_SCHEMES: dict[str, Callable[..., Tensor]] = {
    "power": _power,
    "rank": _rank,
    "focal-max": _focal_max,
    "effective-number": _effective_number,
    "step": _step,
}
