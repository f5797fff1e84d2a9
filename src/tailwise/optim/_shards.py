"""A tensor of which each process holds a shard (``DTensor``): the whole of it, and back."""

from typing import Any

from torch import Tensor

__all__ = ["held_like", "is_sharded", "whole"]


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor; where each process holds a shard, every one of them has to ask."""
    sharded: Any = tensor
    return sharded.full_tensor() if is_sharded(tensor) else tensor


def held_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a tensor as ``parameter`` is held: its device and dtype, and this process's shard of it."""
    if not is_sharded(parameter) or is_sharded(tensor):
        return tensor.to(parameter)
    from torch.distributed.tensor import distribute_tensor

    like: Any = parameter
    return distribute_tensor(tensor.to(like.device, like.dtype), like.device_mesh, like.placements)


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process may hold a part of it only."""
    return hasattr(tensor, "full_tensor")  # without importing what only sharded training needs
