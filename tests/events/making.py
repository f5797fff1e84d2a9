"""Events, lists and logs that the tests of this stage share."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import polars as pl

from tailwise.events import AttributionWindows, Event, EventLog, LogReader
from tailwise.serving import Answer, Assigned, ServedList, Slot

NOON = 1_700_049_600.0  # 2023-11-15 12:00 UTC
HOUR = 3_600.0
DAY = 24 * HOUR


def event(event_id: str, kind: str = "click", *, at: float = NOON, **fields: Any) -> Event:
    """An event of user u1 with item i1, unless said otherwise."""
    given = {"user_id": "u1", "item_id": "i1", "occurred_at": at} | fields
    return Event(event_id, kind, **given)


def list_id(number: int) -> str:
    return f"{number:032x}"


def served(number: int, items: str = "i1 i2", *, at: float = NOON, **fields: Any) -> ServedList:
    """A list of the treatment, explored, with the items in this order."""
    slots = tuple(
        Slot(place, item, 1.0 / place, "tail" if place > 1 else "head", propensity=0.5 / place)
        for place, item in enumerate(items.split(), start=1)
    )
    given: dict[str, Any] = {
        "surface": "discovery",
        "user_id": "u1",
        "assigned": Assigned("treatment", "discovery-eisam", 2, in_experiment=True),
        "model": "sha256:abc",
        "answer": Answer(slots, "model", history_length=3, is_explored=True, temperature=0.7, n_candidates=9),
        "latency_ms": 12.5,
        "context": {"page": "start", "is_app": True},
    }
    return ServedList(list_id(number), at, **(given | fields))


@asynccontextmanager
async def opened(url: str, spool: Path, **arguments: Any) -> AsyncIterator[EventLog]:
    log = EventLog.open(url, spool=spool, **arguments)
    try:
        yield log
    finally:
        await log.close(timeout_s=10)


def using(url: str, spool: Path, work: Callable[[EventLog], Awaitable[Any]], **arguments: Any) -> Any:
    """Open a log, do something with it, and close it."""

    async def run() -> Any:
        async with opened(url, spool, **arguments) as log:
            return await work(log)

    return asyncio.run(run())


def stored(url: str, **windows: float) -> pl.DataFrame:
    """All events of a log with their attribution."""
    reader = LogReader(url)
    try:
        frames = list(reader.events(windows=AttributionWindows(**windows)))
    finally:
        reader.close()
    return pl.concat(frames) if frames else pl.DataFrame({"event_id": [], "attribution": []})


async def until(is_so: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(timeout_s):
        while not is_so():
            await asyncio.sleep(0.02)
