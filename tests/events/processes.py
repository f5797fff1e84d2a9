"""Processes of a test's own, to write side by side or be killed; one that has imported all forks them."""

import asyncio
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.events.making import event, opened, served

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.events.processes"])


def start(work: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """Start a process; the test joins it or kills it by its pid."""
    process = _context.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def pipe() -> tuple[Any, Any]:
    """A reading and a writing end."""
    return _context.Pipe(duplex=False)


def append_shared(url: str, spool: Path, who: str) -> None:
    """Append events of one's own and events that others append too."""

    async def main() -> None:
        async with opened(url, spool) as log:
            for i in range(40):
                kept = await log.append([event(f"{who}-{i}"), event(f"shared-{i}")])
                if kept.n_spooled:
                    raise RuntimeError(f"the database was taken to be down: {log.state()}")

    asyncio.run(main())


def append_forever(url: str, spool: Path, who: str, acknowledged: Any) -> None:
    """Append with many callers until killed; tell of each batch only after its acknowledgement."""

    async def call(log: Any, caller: int) -> None:
        for i in range(100_000):
            name = f"{who}-{caller}-{i}"
            await log.append([event(f"{name}-a"), event(f"{name}-b")])
            acknowledged.send([f"{name}-a", f"{name}-b"])
            if i % 10 == 0:
                number = hash((caller, i)) & (2**64 - 1)
                await log.record(served(number))
            await asyncio.sleep(0.002)

    async def main() -> None:
        async with opened(url, spool) as log:
            await asyncio.gather(*(call(log, caller) for caller in range(8)))

    asyncio.run(main())
