"""The file of what sinks are owed: read whole, checked, replaced whole and durably."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tailwise.dashboard._alarms import Alarm, AlarmPlace
from tailwise.errors import DataError

__all__ = ["GivenUp", "Queue", "Stored", "Why", "read_outbox", "write_outbox"]

_FORMAT = 1

Why = Literal["refused", "age", "count", "forgotten"]


@dataclass(frozen=True)
class GivenUp:
    """Deliveries that a sink will not be sent again.

    Attributes:
        sink: Its name.
        why: ``refused`` by the receiver for good; owed for too long (``age``); too many were owed
            (``count``); or nobody sent to the sink any more (``forgotten``).
        n: Deliveries.
        last_at: Unix seconds of the last one's alarms.
        ended_at: Unix seconds at which the last one was given up.
    """

    sink: str
    why: Why
    n: int
    last_at: float
    ended_at: float


@dataclass
class Queue:
    """What one sink is owed.

    Attributes:
        seen_at: Unix seconds of the last look that could send to it.
        owed: Ids of deliveries, oldest first.
    """

    seen_at: float
    owed: list[str] = field(default_factory=list)


@dataclass
class Stored:
    """The file's content.

    Attributes:
        place: Up to where the alarm file was taken up.
        deliveries: Id -> alarms raised or cleared by one look; only those that somebody is owed.
        queues: Name of a sink -> what it is owed.
        given_up: What is not sent again.
    """

    place: AlarmPlace
    deliveries: dict[str, tuple[Alarm, ...]] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    given_up: list[GivenUp] = field(default_factory=list)


def read_outbox(file: Path) -> Stored | None:
    """Read the file; None where there is none.

    Raises:
        DataError: it is damaged.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return _from_plain(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"the outbox must be a file that the monitor wrote; got {type(error).__name__} in "
            f"{str(file)!r}.\n  Move the file away; the monitor begins another, and owes nobody what was "
            "raised before."
        ) from None


def write_outbox(stored: Stored, file: Path) -> None:
    """Put the file in the old one's place; it is on the disk before this returns."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    with partial.open("w", encoding="utf-8") as stream:
        json.dump(_as_plain(stored), stream, indent=1, ensure_ascii=False)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # so that the name leads to the new file after a power cut too
    finally:
        os.close(folder)


def _as_plain(stored: Stored) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "place": vars(stored.place),
        "deliveries": {name: [vars(a) for a in alarms] for name, alarms in stored.deliveries.items()},
        "sinks": {name: vars(queue) for name, queue in stored.queues.items()},
        "given_up": [vars(entry) for entry in stored.given_up],
    }


def _from_plain(plain: Mapping[str, Any]) -> Stored:
    if plain["format"] != _FORMAT:
        raise ValueError(f"format {plain['format']}")
    stored = Stored(
        AlarmPlace(**plain["place"]),
        {name: tuple(Alarm(**a) for a in alarms) for name, alarms in plain["deliveries"].items()},
        {name: Queue(float(q["seen_at"]), [str(i) for i in q["owed"]]) for name, q in plain["sinks"].items()},
        [GivenUp(**entry) for entry in plain["given_up"]],
    )
    if any(name not in stored.deliveries for queue in stored.queues.values() for name in queue.owed):
        raise ValueError("a delivery that is owed is not there")
    return stored
