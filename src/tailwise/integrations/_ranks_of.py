"""Which of the ways to add gradients over processes an Accelerator stands for."""

from typing import Any

from tailwise.optim import OneProcess, Ranks, ReplicatedRanks, ShardedRanks

__all__ = ["ranks_of"]


def ranks_of(accelerator: Any) -> Ranks:
    """Return what EISAM needs to know of an Accelerator's processes.

    Args:
        accelerator: ``accelerate.Accelerator``.

    Returns:
        Pass it to ``EISAM(..., ranks=...)``.

    Raises:
        ValueError: the processes share the model in a way that is not supported: DeepSpeed,
            Megatron, FSDP before version 2, a pipeline.
    """
    from accelerate.utils import DistributedType

    kind = accelerator.distributed_type
    if kind == DistributedType.NO:
        return OneProcess()
    if kind in (DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        return ReplicatedRanks()
    if kind == DistributedType.FSDP and accelerator.is_fsdp2:
        return ShardedRanks()
    raise ValueError(
        "processes must share the model by DistributedDataParallel or FSDP version 2; got "
        f"{getattr(kind, 'value', kind)}. EISAM moves parameters between two evaluations, which this "
        "does not allow: set fsdp_version to 2, or use DistributedDataParallel."
    )
