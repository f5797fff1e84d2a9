"""What an estimator's perturbation has in common with the exact one, on one batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tailwise.optim._wrapper import perturbed

__all__ = ["Diagnostics", "cosine", "realised_norm"]


@dataclass(frozen=True)
class Diagnostics:
    """How the next step would treat one batch.

    Attributes:
        cosine_shared: cos(ε, ε_exact) over the perturbed shared parameters; None where none is
            perturbed, one of the two vanishes, or no direction is known yet.
        cosine_per_item: The same over the perturbed parameters of groups marked ``"per_item"``.
        radius: ‖ε‖₂ as intended, in the units of the parameters (‖T⁻¹ε‖₂ if adaptive).
        realised_norm: ‖(θ+ε) − θ‖₂ as the parameters' precision holds it.
        share_of_rows_perturbed: In [0, 1], of the rows with a target.
        smallest_factor: Of those that multiply a target's loss, in this batch's draw.
        largest_factor: Likewise; both are 1 where the estimator is exact.
    """

    cosine_shared: float | None
    cosine_per_item: float | None
    radius: float
    realised_norm: float
    share_of_rows_perturbed: float
    smallest_factor: float
    largest_factor: float


def cosine(left: Sequence[Tensor], right: Sequence[Tensor]) -> float | None:
    """Cosine between two lists of tensors, each read as one vector; None where one has no length."""
    if not left:
        return None
    a, b = (
        torch.cat([t.detach().to(torch.float64).to_dense().flatten() for t in ts]) for ts in (left, right)
    )
    norms = a.norm() * b.norm()
    return float(a @ b / norms) if norms > 0 else None


def realised_norm(parameters: list[Tensor], direction: list[Tensor], scale: float) -> float:
    """Length of what :func:`perturbed` really moves."""
    before = [p.detach().to(torch.float64, copy=True) for p in parameters]
    with perturbed(parameters, direction, scale):
        squares = [float((p.detach() - b).pow(2).sum()) for p, b in zip(parameters, before, strict=True)]
    return math.sqrt(sum(squares))
