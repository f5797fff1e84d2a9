"""The outbox: alarms stay owed to every sink until it takes them, whatever happens to the process."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, Protocol

from filelock import FileLock, Timeout

from tailwise.dashboard._alarms import Alarm, AlarmFile, AlarmPlace
from tailwise.dashboard._outbox_file import GivenUp, Queue, Stored, Why, read_outbox, write_outbox
from tailwise.dashboard._words import GIVEN_UP

__all__ = ["AlarmSink", "Deliveries", "Outbox", "Outcome", "Owed"]

_log = logging.getLogger("tailwise.monitor")
_DAY_S = 86_400.0
_SAID_S = 30 * _DAY_S  # for so long the dashboard says what was given up

Outcome = Literal["taken", "refused", "away"]


class AlarmSink(Protocol):
    """Where new alarms go."""

    @property
    def name(self) -> str:
        """What it is known by from one process to the next; people read it, so it holds no secret."""
        ...

    def send(self, alarms: Sequence[Alarm], *, delivery: str) -> Outcome:
        """Send them.

        Args:
            alarms: Of one look.
            delivery: The same whenever the same alarms are sent again.

        Returns:
            ``taken``; ``refused`` where sending them again is no use; ``away`` where it may be.
        """
        ...


@dataclass(frozen=True)
class Owed:
    """Deliveries that a sink has not taken yet.

    Attributes:
        sink: Its name.
        n: Deliveries, >= 1.
        since: Unix seconds of the oldest one's alarms.
    """

    sink: str
    n: int
    since: float


@dataclass(frozen=True)
class Deliveries:
    """What sinks are owed, and what was given up within the last 30 days.

    Attributes:
        owed: By sink.
        given_up: By sink and reason.
    """

    owed: tuple[Owed, ...] = ()
    given_up: tuple[GivenUp, ...] = ()

    @property
    def n_owed(self) -> int:
        """Deliveries owed to all sinks."""
        return sum(each.n for each in self.owed)

    @property
    def since(self) -> float | None:
        """Unix seconds of the oldest one's alarms; None: none is owed."""
        return min((each.since for each in self.owed), default=None)

    @property
    def n_given_up(self) -> int:
        """Deliveries that were given up."""
        return sum(each.n for each in self.given_up)


class Outbox:
    """Delivers what an alarm file holds, at least once, in order, to every sink.

    The alarm file is what counts: an alarm is owed from the moment it stands there, and this file says up to
    where that one was taken up, in which deliveries, and which of them a sink has not taken. A process
    may be killed anywhere: between two steps something is sent twice, under the same id, and nothing is
    lost. Any number of processes may share the files; one at a time sends. A sink is owed what is
    raised after it was first seen, by whichever process, also one that does not know the sink.

    Args:
        alarms: Whose lines are delivered; the outbox lies beside it.
        sinks: That this process can send to.
        max_age_s: What is older and was not taken even now is given up; a sink that no process has known
            for as long is forgotten, > 0.
        max_owed: Deliveries kept for a sink; beyond, the oldest are given up, >= 1.

    Raises:
        ValueError: an argument is out of range, or two sinks have one name.
    """

    def __init__(
        self,
        alarms: AlarmFile,
        sinks: Sequence[AlarmSink] = (),
        *,
        max_age_s: float = 7 * _DAY_S,
        max_owed: int = 1000,
    ) -> None:
        if not max_age_s > 0 or max_owed < 1:
            raise ValueError(f"max_age_s must be > 0 and max_owed >= 1; got {max_age_s} and {max_owed}.")
        names = [sink.name for sink in sinks]
        if len(set(names)) < len(names):
            raise ValueError(f"sinks must have names of their own; got {', '.join(names)}.")
        self.alarms = alarms
        self.file: Path = alarms.file.with_name("alarms-outbox.json")
        self._sinks = tuple(sinks)
        self._max_age_s, self._max_owed = max_age_s, max_owed

    def state(self) -> Deliveries:
        """Return who is owed what; reads only.

        Raises:
            DataError: the file is damaged.
        """
        stored = read_outbox(self.file)
        return Deliveries() if stored is None else _summary(stored)

    def take_up(self, at: float) -> None:
        """Owe every sink what was raised since the last call; to be called before anything is raised, too.

        Args:
            at: Now, unix seconds.

        Raises:
            DataError: this file or the alarm file is damaged.
        """
        self._change(at, lambda stored: None)

    def deliver(self, at: float, *, is_ending: Callable[[], bool] = lambda: False) -> Deliveries:
        """Take up what is new and send what is owed; a sink that is away keeps what follows waiting.

        If another process is sending, this one leaves it to that one.

        Args:
            at: Now, unix seconds.
            is_ending: Asked between deliveries; what is left waits for the next look.

        Returns:
            What is owed afterwards.

        Raises:
            DataError: this file or the alarm file is damaged.
        """
        self.take_up(at)
        if not self.file.exists():
            return Deliveries()
        try:
            with FileLock(self._beside("sending"), blocking=False):
                for sink in self._sinks:
                    self._send(sink, at, is_ending)
                self._change(at, lambda stored: self._give_up(stored, at))
        except Timeout:
            _log.info("another process is delivering alarms; this one leaves it to that one")
        return self.state()

    def _send(self, sink: AlarmSink, at: float, is_ending: Callable[[], bool]) -> None:
        while not is_ending():
            stored = read_outbox(self.file)
            queue = None if stored is None else stored.queues.get(sink.name)
            if stored is None or queue is None or not queue.owed:
                return
            name = queue.owed[0]
            outcome = sink.send(stored.deliveries[name], delivery=name)
            if outcome == "away":
                return

            def settle(stored: Stored, name: str = name, outcome: Outcome = outcome) -> None:
                if outcome == "refused" and name in stored.deliveries:
                    _drop(stored, sink.name, name, "refused", at)
                elif name in stored.queues[sink.name].owed:
                    stored.queues[sink.name].owed.remove(name)

            self._change(at, settle)

    def _give_up(self, stored: Stored, at: float) -> None:
        """Keep to the bounds, after everything was tried once more."""
        for sink, queue in list(stored.queues.items()):
            is_gone = at - queue.seen_at > self._max_age_s
            for name in list(queue.owed):
                if is_gone:
                    _drop(stored, sink, name, "forgotten", at)
                elif at - stored.deliveries[name][0].at > self._max_age_s:
                    _drop(stored, sink, name, "age", at)
                elif len(queue.owed) > self._max_owed:
                    _drop(stored, sink, name, "count", at)
                else:
                    break
            if is_gone:
                _log.warning("%s is owed no more alarms: no monitor has sent to it for long", sink)
                del stored.queues[sink]
        stored.given_up = [entry for entry in stored.given_up if at - entry.ended_at <= _SAID_S]

    def _change(self, at: float, change: Callable[[Stored], None]) -> None:
        """Read, bring up to date, change, write: one process at a time. Without any sink there is no file."""
        if not self._sinks and not self.file.exists():
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._beside("lock"), timeout=30):
            stored = read_outbox(self.file)
            if stored is None:  # what was raised before there was an outbox is owed to nobody
                stored = Stored(self.alarms.read_on(AlarmPlace())[1])
            else:
                self._take_up(stored)
            for sink in self._sinks:
                stored.queues.setdefault(sink.name, Queue(at)).seen_at = at
            change(stored)
            owed = {name for queue in stored.queues.values() for name in queue.owed}
            stored.deliveries = {name: alarms for name, alarms in stored.deliveries.items() if name in owed}
            write_outbox(stored, self.file)

    def _take_up(self, stored: Stored) -> None:
        before = stored.place
        new, stored.place = self.alarms.read_on(before)
        for number, (_, alarms) in enumerate(groupby(new, key=lambda alarm: alarm.at)):
            delivery = tuple(alarms)
            name = _delivery_id(delivery, before, number)
            stored.deliveries[name] = delivery
            for queue in stored.queues.values():
                queue.owed.append(name)

    def _beside(self, ending: str) -> Path:
        return self.file.with_name(f"{self.file.name}.{ending}")


def _delivery_id(alarms: Sequence[Alarm], place: AlarmPlace, number: int) -> str:
    """Of these alarms at this place of the file, so that no two deliveries share one."""
    text = json.dumps([asdict(alarm) for alarm in alarms], sort_keys=True)
    return hashlib.sha256(f"{place.offset} {number} {text}".encode()).hexdigest()[:32]


def _drop(stored: Stored, sink: str, name: str, why: Why, at: float) -> None:
    """Give a delivery up, and say so in the log and in the file."""
    alarms = stored.deliveries[name]
    stored.queues[sink].owed.remove(name)
    _log.error("%s was not told of %d alarms: %s (delivery %s)", sink, len(alarms), GIVEN_UP[why], name)
    n = sum(entry.n for entry in stored.given_up if (entry.sink, entry.why) == (sink, why))
    others = [entry for entry in stored.given_up if (entry.sink, entry.why) != (sink, why)]
    stored.given_up = [*others, GivenUp(sink, why, n + 1, alarms[0].at, at)]


def _summary(stored: Stored) -> Deliveries:
    return Deliveries(
        tuple(
            Owed(sink, len(queue.owed), stored.deliveries[queue.owed[0]][0].at)
            for sink, queue in stored.queues.items()
            if queue.owed
        ),
        tuple(stored.given_up),
    )
