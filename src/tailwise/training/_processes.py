"""Several processes that run one job together, as ``torchrun`` and ``accelerate launch`` start them.

Every process runs the same code and meets the others at the same calls; the first one writes and
speaks. The job's folder lies where all of them can read it.
"""

import importlib
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from tailwise.errors import ConfigError, StoppedElsewhereError
from tailwise.optim import OneProcess, Ranks, ReplicatedRanks, ShardedRanks

__all__ = ["Processes", "joined_processes"]

_T = TypeVar("_T")
_VARIABLES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# A process may wait for as long as another one ranks users or encodes titles. That one has died is
# noticed by the launcher, which stops the others.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """The processes of a job, seen from one of them; by default there is this one alone.

    Attributes:
        rank: Of this process, 0..size - 1.
        size: How many there are.
        local_rank: Of this process among those of its machine.
        shards_parameters: Each process holds a shard of every parameter (FSDP2) rather than all.
        device: Where what is sent to others must lie.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    shards_parameters: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """True for the process that writes and speaks."""
        return self.rank == 0

    def ranks(self) -> Ranks:
        """Return what an optimizer needs of the processes, so that its step is that of the joint batch."""
        if self.size == 1:
            return OneProcess()
        return ShardedRanks() if self.shards_parameters else ReplicatedRanks()

    def part(self, n: int) -> slice:
        """Return this process's share of ``n`` things: consecutive; shares differ by one at most."""
        small, rest = divmod(n, self.size)
        start = self.rank * small + min(self.rank, rest)
        return slice(start, start + small + (self.rank < rest))

    def any(self, flag: bool) -> bool:
        """True on every process if it is on one of them."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def wait(self) -> None:
        """Go on when all have come here."""
        self.any(False)

    def gathered(self, value: _T) -> list[_T]:
        """Return every process's value, by rank, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def first_does(self, act: Callable[[], _T]) -> _T:
        """Let the first process act; return what it returned, on every process.

        Raises:
            StoppedElsewhereError: on the others, where ``act`` raised an error on the first.
        """
        if self.size == 1:
            return act()
        if not self.is_first:
            outcome: list[Any] = [None]
            dist.broadcast_object_list(outcome, src=0)
            failure, content = outcome[0]
            if failure is not None:
                raise StoppedElsewhereError(f"process 0 of this job stopped: {failure}")
            value: _T = pickle.loads(content)
            return value
        try:
            result = act()
        except BaseException as error:
            dist.broadcast_object_list([(f"{type(error).__name__}: {error}", b"")], src=0)
            raise
        dist.broadcast_object_list([(None, pickle.dumps(result))], src=0)
        return result

    @contextmanager
    def first_holds(self, context: AbstractContextManager[object]) -> Iterator[None]:
        """Let the first process alone enter ``context``, before any goes on, and leave it in the end.

        Raises:
            StoppedElsewhereError: on the others, where the first one could not enter.
        """
        with ExitStack() as stack:

            def enter() -> None:
                stack.enter_context(context)

            self.first_does(enter)
            yield

    def first_of_machine_does(self, act: Callable[[], _T]) -> _T:
        """Let every process act, the first one of each machine before its others: what it stored is there."""
        early = act() if self.local_rank == 0 else None
        self.wait()
        result = act() if self.local_rank else early
        return result  # type: ignore[return-value]


@contextmanager
def joined_processes(device: torch.device, *, shard: bool = False) -> Iterator[Processes]:
    """Meet the processes that the launcher started beside this one; part again at the end of the block.

    Where no launcher did, or where it started one process, there is this one alone. A CUDA device is
    that of the process's number on its machine.

    Args:
        device: Of the training.
        shard: Give each process a shard of every parameter (FSDP2); else each holds all of them.

    Raises:
        ConfigError: the launcher's environment is not whole, there are more processes than CUDA devices,
            or ``shard`` with one process.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        if shard:
            raise ConfigError(
                "--shard must go with several processes; got one. Start the command with torchrun "
                "--nproc-per-node=N or accelerate launch, or leave --shard out."
            )
        yield Processes()
        return
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE={size} must come with RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; got no "
            f"{', '.join(missing)}. Start the command with torchrun or accelerate launch, or unset "
            "WORLD_SIZE."
        )
    local_rank = _number("LOCAL_RANK", 0)
    own = _own_device(device, local_rank)
    joined_here = not dist.is_initialized()
    if joined_here:
        # Functions of that module take the default group of its first import as a default, for good;
        # a group that outlives its destruction can end in the middle of the interpreter's own end.
        importlib.import_module("torch.distributed.nn.functional")
        dist.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), local_rank, shard, own)
    finally:
        if joined_here:
            dist.destroy_process_group()


def _own_device(device: torch.device, local_rank: int) -> torch.device:
    if device.type != "cuda":
        return device
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"processes of one machine must have a CUDA device each; got process {local_rank + 1} and "
            f"{torch.cuda.device_count()} devices. Start fewer, or pass --device cpu."
        )
    own = torch.device("cuda", local_rank)
    torch.cuda.set_device(own)
    return own


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal():
        raise ConfigError(f"environment variable {variable} must be a whole number >= 0; got {text!r}.")
    return int(text)
