"""Vectors that a method keeps between steps, one tensor per perturbed parameter, as checkpoints hold them.

Methods replace them and never change them in place, so that a state dict may share them, as it
shares the base optimizer's moments.
"""

from collections.abc import Sequence
from typing import TypeGuard

from torch import Tensor

from tailwise.optim._shards import held_like

__all__ = ["fits", "restored", "saved"]


def fits(kept: Sequence[Tensor] | None, moved: Sequence[Tensor]) -> TypeGuard[list[Tensor]]:
    """Whether there is a tensor for each of ``moved``: parameters may have been added or frozen since."""
    return kept is not None and [k.shape for k in kept] == [p.shape for p in moved]


def saved(kept: Sequence[Tensor] | None) -> list[Tensor] | None:
    """What goes into a state dict."""
    return None if kept is None else list(kept)


def restored(state: Sequence[Tensor] | None, moved: Sequence[Tensor], name: str) -> list[Tensor] | None:
    """The vector of a state dict, held as ``moved`` are; refused if it is of other parameters."""
    if state is None:
        return None
    if not fits(state, moved):
        raise ValueError(
            f"state_dict must hold {name} of {len(moved)} tensors, shaped like what is perturbed; "
            f"got {len(state)}. The checkpoint perturbs other parameters."
        )
    return [held_like(s, p) for s, p in zip(state, moved, strict=True)]
