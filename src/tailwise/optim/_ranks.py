"""Processes that train one model together, as far as a gradient is concerned: what they add up and share.

Enters one rank's part of a number, a vector or a gradient; leaves the whole, the same on every rank.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = ["OneProcess", "Ranks", "ReplicatedRanks", "ShardedRanks"]


class Ranks(ABC):
    """What a method needs of the processes it runs in, so that its ε is that of the joint batch."""

    size: int = 1
    """Number of processes."""

    reduces_in_backward: bool = False
    """True where a backward itself communicates: then every rank has to run every one of them."""

    @abstractmethod
    def total(self, value: Tensor) -> Tensor:
        """Sum of a small tensor over the ranks; ``value`` stays as it is."""

    @abstractmethod
    def gathered(self, values: Tensor) -> tuple[Tensor, slice]:
        """The vectors ``[n_r]`` of all ranks one after the other, and where this rank's lies."""

    @abstractmethod
    def summed(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of the joint batch from each rank's part; what comes in stays as it is."""


class OneProcess(Ranks):
    """No others: everything is the whole already."""

    def total(self, value: Tensor) -> Tensor:
        """Return ``value``."""
        return value

    def gathered(self, values: Tensor) -> tuple[Tensor, slice]:
        """Return ``values`` and all of it."""
        return values, slice(0, len(values))

    def summed(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Return ``gradients``."""
        return list(gradients)


class _ProcessGroup(Ranks):
    """Small tensors over a ``torch.distributed`` process group."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise RuntimeError(
                f"{type(self).__name__} needs an initialised process group; got none. "
                "Call torch.distributed.init_process_group() first, or start with torchrun."
            )
        self.group = group
        self.size = dist.get_world_size(group)
        self._rank = dist.get_rank(group)

    def total(self, value: Tensor) -> Tensor:
        """Sum over the ranks."""
        summed = value.detach().clone()
        dist.all_reduce(summed, group=self.group)
        return summed

    def gathered(self, values: Tensor) -> tuple[Tensor, slice]:
        """All ranks' vectors; they may differ in length."""
        lengths = torch.zeros(self.size, dtype=torch.int64, device=values.device)
        lengths[self._rank] = len(values)
        dist.all_reduce(lengths, group=self.group)
        sizes = lengths.tolist()
        padded = values.new_zeros(max(sizes))
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded, group=self.group)
        start = sum(sizes[: self._rank])
        joint = torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
        return joint, slice(start, start + len(values))


class ReplicatedRanks(_ProcessGroup):
    """Every rank holds all parameters and some of the rows, as under DistributedDataParallel.

    Gradients are added here, after the last backward: evaluate inside ``model.no_sync()``, or
    call the module that DistributedDataParallel wraps, so that it does not add them as well.

    Args:
        group: Process group; None for the default one.

    Raises:
        RuntimeError: ``torch.distributed`` has not been initialised.
    """

    def summed(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Add gradients over the ranks, all of one dtype and device in one message."""
        out: list[Tensor] = [torch.empty(0)] * len(gradients)

        def kind(index: int) -> tuple[str, str]:
            return str(gradients[index].dtype), str(gradients[index].device)

        for _, indices in groupby(sorted(range(len(gradients)), key=kind), key=kind):
            of_kind = list(indices)
            parts = [gradients[i].detach() for i in of_kind]
            parts = [g.to_dense() if g.is_sparse else g for g in parts]
            flat = torch.cat([g.reshape(-1) for g in parts])
            dist.all_reduce(flat, group=self.group)
            for i, whole, part in zip(
                of_kind, torch.split(flat, [g.numel() for g in parts]), parts, strict=True
            ):
                out[i] = whole.view(part.shape)
        return out


class ShardedRanks(_ProcessGroup):
    """Every rank holds a shard of each parameter, as under ``fully_shard`` (FSDP2).

    A backward itself adds the gradients and leaves each rank its shard, so every rank runs
    as many evaluations as any other; one whose part is empty evaluates a row at weight zero.

    Args:
        group: Process group over which parameters are sharded; None for the default one.

    Raises:
        RuntimeError: ``torch.distributed`` has not been initialised.
    """

    reduces_in_backward = True

    def summed(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Return copies: they have been added."""
        return [g.detach().clone() for g in gradients]
