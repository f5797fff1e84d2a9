"""Logit adjustment: a one-line change of the loss that trades head for tail."""

import math

import torch
from torch import Tensor

__all__ = ["logit_offsets"]


def logit_offsets(counts: Tensor, tau: float) -> Tensor:
    """Compute what to add to the training scores so that rare items get a margin.

    Training on ``scores + tau * log(counts + 1)`` and recommending by ``scores`` alone
    makes the model do without the popularity prior, in proportion to ``tau``. The
    ``+ 1`` keeps never-trained items finite.

    Args:
        counts: ``[n_items]``; training interactions, each >= 0.
        tau: Strength, >= 0; 0 changes nothing, 1 removes the prior altogether.

    Returns:
        ``[n_items]`` float32, on ``counts.device``.

    Raises:
        ValueError: ``tau`` is negative or not finite, or a count is negative or not finite.

    Example:
        >>> logit_offsets(torch.tensor([0, 9, 99]), tau=1.0)
        tensor([0.0000, 2.3026, 4.6052])

    Reference:
        Menon et al., Long-tail learning via logit adjustment (arXiv:2007.07314).
    """
    if not math.isfinite(tau) or tau < 0:
        raise ValueError(f"tau must be a finite number >= 0; got {tau}.")
    n = counts.to(torch.float64)
    if bool((n < 0).any()) or not bool(torch.isfinite(n).all()):
        raise ValueError(
            f"counts must be finite and >= 0; got values from {n.min().item()} to {n.max().item()}."
        )
    return (tau * torch.log1p(n)).to(torch.float32)
