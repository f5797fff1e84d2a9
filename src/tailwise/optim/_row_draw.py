"""Which rows of a batch are evaluated at the perturbed point, and what that makes of their targets' weights.

Enters the strength ``c`` of every target; leaves the rows drawn and a factor per target.
"""

import math

import torch
from torch import Tensor

__all__ = [
    "ROW_WEIGHTS",
    "alike_probabilities",
    "by_row",
    "row_probabilities",
    "sampling_probabilities",
    "systematic_draw",
    "target_factors",
]

ROW_WEIGHTS = ("unbiased", "unit")


def by_row(values: Tensor) -> Tensor:
    """``[rows]`` or ``[rows, positions]`` as ``[rows, positions]``; there may be no rows."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def row_probabilities(
    c: Tensor, has_target: Tensor, *, row_weights: str = "unbiased", clip: float = 0.05
) -> Tensor:
    """Probability with which each row is evaluated at θ+ε.

    With ``c`` the vector of a row's strengths, ``unbiased`` takes ``‖c‖ / (‖c‖ + ‖1−c‖)``,
    which minimises the sum of squared factors of :func:`target_factors`, clipped to
    [``clip``, 1 − ``clip``] where the row mixes strengths; a row of one target gets c.
    ``unit`` takes the mean of ``c``.

    Args:
        c: ``[rows]`` or ``[rows, positions]`` in [0, 1]; 0 where there is no target.
        has_target: As ``c``, bool.
        row_weights: ``"unbiased"`` or ``"unit"``.
        clip: In [0, 1/2).

    Returns:
        ``[rows]`` float64 in [0, 1]; 0 for a row without a target.
    """
    c = by_row(c.to(torch.float64))
    has_target = by_row(has_target)
    if row_weights == "unit":
        return c.sum(1) / has_target.sum(1).clamp_min(1)
    there = c.norm(dim=1)
    here = torch.where(has_target, 1 - c, torch.zeros_like(c)).norm(dim=1)
    q = there / (there + here).clamp_min(torch.finfo(torch.float64).tiny)
    is_mixed = (there > 0) & (here > 0) & (has_target.sum(1) > 1)
    return torch.where(is_mixed, q.clamp(clip, 1 - clip), q)


def sampling_probabilities(strength_of_row: Tensor, n_rows: float) -> Tensor:
    """Probabilities in proportion to ``strength_of_row`` that add up to ``n_rows``, none above 1.

    What would be above 1 is 1, and the others share the rest in proportion. Rows of no
    strength are never drawn; where fewer than ``n_rows`` have any, all of those are.

    Args:
        strength_of_row: ``[rows]``, >= 0; for ``sampled`` the sum of a row's c.
        n_rows: Wanted sum, > 0.

    Returns:
        ``[rows]`` float64 in [0, 1].
    """
    strength = strength_of_row.to(torch.float64)
    is_certain = torch.zeros_like(strength, dtype=torch.bool)
    for _ in range(len(strength)):
        rest = strength.masked_fill(is_certain, 0.0)
        if float(rest.sum()) == 0:
            break
        wanted = rest * ((n_rows - int(is_certain.sum())) / rest.sum())
        newly_certain = wanted >= 1
        if not bool(newly_certain.any()):
            return torch.where(is_certain, torch.ones_like(wanted), wanted)
        is_certain |= newly_certain
    return is_certain.to(torch.float64)


def alike_probabilities(strength_of_row: Tensor, n_rows: float) -> tuple[Tensor, float]:
    """Probabilities in proportion to ``strength_of_row`` that add up to ``n_rows`` at most, none above 1.

    Unlike in :func:`sampling_probabilities` one factor makes up for the draw in all rows: where a
    probability would be above 1, all are lowered.

    Args:
        strength_of_row: ``[rows]`` in [0, 1].
        n_rows: Wanted sum, > 0.

    Returns:
        ``[rows]`` float64 in [0, 1], and the factor: probability times factor is the strength.

    Example:
        >>> p, factor = alike_probabilities(torch.tensor([0.25, 0.5, 0.0, 0.75]), 1.0)
        >>> [round(x, 3) for x in p.tolist()], factor
        ([0.167, 0.333, 0.0, 0.5], 1.5)
    """
    strength = strength_of_row.to(torch.float64)
    factor = max(float(strength.sum()) / n_rows, float(strength.max())) if len(strength) else 0.0
    return strength / max(factor, torch.finfo(torch.float64).tiny), factor


def systematic_draw(q: Tensor, uniform: float) -> Tensor:
    """Draw each row with its probability; the number drawn stays within one of its expectation.

    Row b is drawn when one of ``uniform``, ``uniform + 1``, … falls into its interval of the
    running sum of ``q``.

    Args:
        q: ``[rows]`` in [0, 1].
        uniform: One number, uniform in [0, 1): all the randomness there is.

    Returns:
        ``[rows]`` bool.
    """
    ends = q.to(torch.float64).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    # How many of the points uniform + k lie below each end.
    return torch.ceil(ends - uniform) > torch.ceil(starts - uniform)


def target_factors(c: Tensor, q: Tensor, is_drawn: Tensor, *, row_weights: str = "unbiased") -> Tensor:
    """What each target's loss is multiplied by, where its row was evaluated.

    ``unbiased``: ``c/q`` in a drawn row, ``(1−c)/(1−q)`` in another, so that the expectation
    over the draw is ``c`` times the loss at θ+ε plus ``1−c`` times the loss at θ. ``unit``: 1.

    Args:
        c: ``[rows]`` or ``[rows, positions]``.
        q: ``[rows]``, from :func:`row_probabilities`.
        is_drawn: ``[rows]`` bool, from :func:`systematic_draw`.
        row_weights: ``"unbiased"`` or ``"unit"``.

    Returns:
        Factors in the shape and dtype of ``c``.
    """
    if row_weights == "unit":
        return torch.ones_like(c)
    shape = (-1,) + (1,) * (c.ndim - 1)
    drawn, q = is_drawn.reshape(shape), q.reshape(shape)
    strength = c.to(torch.float64)
    # The denominators of the branch not taken may be zero; they are never used.
    tiny = torch.finfo(torch.float64).tiny
    factors = torch.where(drawn, strength / q.clamp_min(tiny), (1 - strength) / (1 - q).clamp_min(tiny))
    return factors.to(c.dtype)
