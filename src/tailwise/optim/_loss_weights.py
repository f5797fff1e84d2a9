"""Rivals on the side of the loss: weigh rare items' losses, or draw their rows, more often."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["LOSS_WEIGHT_SCHEMES", "loss_weights", "row_sampling_weights"]

LOSS_WEIGHT_SCHEMES = ("inverse", "effective-number")


def loss_weights(
    counts: Tensor,
    scheme: str = "inverse",
    *,
    power: float = 1.0,
    beta: float = 0.999,
    max_weight: float | None = None,
) -> Tensor:
    """Weigh the loss of each item the more the rarer it is (re-weighting).

    Multiply the per-target losses by them: ``losses * weights[items]``. With ``n_i``
    training interactions of item i, before normalisation:

    ==================== ==============================================================
    ``inverse``          ``n_i ** -power``; 1/2 and 1 are customary, 0 changes nothing
    ``effective-number`` ``(1 - beta) / (1 - beta ** n_i)``: one over the effective number
                         of samples
    ==================== ==============================================================

    They are normalised over interactions, ``Σ n_i v_i / Σ n_i = 1``, so that the mean loss
    and with it the learning rate keep their meaning. ``max_weight`` is applied before the
    normalisation is settled: both hold at once. Items never seen in training get the
    largest weight; no training target uses it.

    Args:
        counts: ``[n_items]`` integer or floating; training interactions, each >= 0.
        scheme: One of the names above.
        power: For ``inverse``; dimensionless, >= 0.
        beta: For ``effective-number``; in (0, 1). Near 1 for large counts.
        max_weight: Largest weight, >= 1; None for no limit. At 1 all weights are 1.

    Returns:
        ``[n_items]`` float32, positive, on ``counts.device``.

    Raises:
        ValueError: ``scheme`` is unknown, ``counts`` is not a vector of non-negative
            numbers with at least one positive, or a parameter is out of its range.

    Example:
        >>> loss_weights(torch.tensor([8, 2, 0]))
        tensor([0.6250, 2.5000, 2.5000])
        >>> loss_weights(torch.tensor([8, 2, 0]), max_weight=2.0)
        tensor([0.7500, 2.0000, 2.0000])

    Reference:
        Cui et al., Class-Balanced Loss Based on Effective Number of Samples
        (arXiv:1901.05555), equation 3.
    """
    if scheme not in LOSS_WEIGHT_SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(LOSS_WEIGHT_SCHEMES)}; got {scheme!r}.")
    if max_weight is not None and not max_weight >= 1:
        raise ValueError(f"max_weight must be >= 1, the mean weight; got {max_weight}.")
    n = _checked_counts(counts)
    trained = n > 0
    if not bool(trained.any()):
        raise ValueError("counts must have a positive entry; got zeros only. Count training interactions.")
    m = n[trained]
    raw = _inverse(m, power) if scheme == "inverse" else _effective_number(m, beta)
    weights = _normalised(raw, m / m.sum(), math.inf if max_weight is None else max_weight)
    result = torch.full_like(n, float(weights.max()))
    result[trained] = weights
    return result.to(torch.float32)


def row_sampling_weights(
    rows_of_items: Tensor | Sequence[Tensor], counts: Tensor, *, power: float = 0.5
) -> Tensor:
    """Weigh each training row for being drawn, the more the rarer its items are (re-sampling).

    The weight is the mean of ``n_i ** -power`` over the row's targets. For rows of one
    target, ``power=1`` draws every item equally often, 1/2 is square-root sampling, and 0
    draws every row equally often. A row of many targets brings its popular items along,
    so that there the balance is never complete.

    Args:
        rows_of_items: The items of each row: ``[rows, positions]`` or ``[rows]`` int64 with -1
            where there is no target, or a sequence of int64 vectors.
        counts: ``[n_items]``; training interactions, each >= 0.
        power: Dimensionless, >= 0.

    Returns:
        ``[rows]`` float32 with mean 1 over the rows that hold a target; 0 for the others. For
        ``torch.utils.data.WeightedRandomSampler``.

    Raises:
        ValueError: no row holds a target, an item is beyond ``counts`` or has a count of zero, or
            ``power`` is negative or not finite.

    Example:
        >>> row_sampling_weights(torch.tensor([[0, 0], [0, 1]]), torch.tensor([100, 4]), power=0.5)
        tensor([0.5000, 1.5000])

    Reference:
        Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition
        (arXiv:1910.09217), section 3, whose q is 1 − ``power``; square-root sampling after
        Mahajan et al., Exploring the Limits of Weakly Supervised Pretraining
        (arXiv:1805.00932).
    """
    n = _checked_counts(counts)
    if isinstance(rows_of_items, Tensor):
        n_rows, items = len(rows_of_items), rows_of_items.flatten()
        lengths = torch.full((n_rows,), items.numel() // max(n_rows, 1))
    else:
        n_rows, items = len(rows_of_items), torch.cat([torch.empty(0, dtype=torch.int64), *rows_of_items])
        lengths = torch.tensor([len(row) for row in rows_of_items], dtype=torch.int64)
    is_target = items >= 0
    row_of = torch.arange(n_rows).repeat_interleave(lengths)[is_target.cpu()].to(n.device)
    items = items[is_target].to(n.device)
    if items.numel() == 0:
        raise ValueError("rows_of_items must name a target in at least one row; got none.")
    if int(items.max()) >= n.numel():
        raise ValueError(
            f"rows_of_items must be below {n.numel()}, the length of counts; got {int(items.max())}."
        )
    if bool((n[items] == 0).any()):
        unseen = items[n[items] == 0]
        raise ValueError(
            f"counts must be positive for every item of a training row; got 0 for {len(unseen)} targets "
            f"(first: item {int(unseen[0])}). Count the interactions of these rows."
        )
    value = _inverse(n, power)[items]
    n_targets = torch.bincount(row_of, minlength=n_rows)
    weights = n.new_zeros(n_rows).index_add_(0, row_of, value) / n_targets.clamp_min(1)
    return (weights / weights[n_targets > 0].mean()).to(torch.float32)


def _checked_counts(counts: Tensor) -> Tensor:
    """``counts`` in float64."""
    if counts.ndim != 1:
        raise ValueError(f"counts must be a vector [n_items]; got shape {tuple(counts.shape)}.")
    n = counts.to(torch.float64)
    if bool((n < 0).any()) or not bool(torch.isfinite(n).all()):
        raise ValueError(f"counts must be finite and >= 0; got a smallest value of {n.min().item()}.")
    return n


def _inverse(n: Tensor, power: float) -> Tensor:
    if not math.isfinite(power) or power < 0:
        raise ValueError(f"power must be a finite number >= 0; got {power}.")
    return n**-power


def _effective_number(n: Tensor, beta: float) -> Tensor:
    if not 0 < beta < 1:
        raise ValueError(f"beta must be in (0, 1); got {beta}.")
    return (1 - beta) / -torch.expm1(n * math.log(beta))


def _normalised(raw: Tensor, shares: Tensor, limit: float) -> Tensor:
    """``min(s · raw, limit)`` with the s that makes its mean under ``shares`` 1; ``limit`` >= 1."""
    weights = raw / (raw * shares).sum()
    is_capped = torch.zeros_like(raw, dtype=torch.bool)
    while bool((weights > limit).any()):
        is_capped |= weights > limit  # what is capped raises the others, so nothing comes back below
        rest = 1 - limit * shares[is_capped].sum()
        weights = torch.where(is_capped, limit, raw * (rest / (raw * shares)[~is_capped].sum()))
    return weights
