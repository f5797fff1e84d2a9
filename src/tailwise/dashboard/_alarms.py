"""Alarms of the monitor: what they are, and the file that keeps every one of them."""

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import BaseFileLock, FileLock

from tailwise.errors import DataError

__all__ = ["Alarm", "AlarmFile", "AlarmPlace", "Finding"]

Level = Literal["notice", "warning", "alarm"]
State = Literal["raised", "cleared"]


@dataclass(frozen=True)
class Finding:
    """Something that the monitor found to be out of its bounds.

    Attributes:
        kind: ``exposure``, ``coverage``, ``concentration``, ``popularity-drift``, ``retrain`` or
            ``no-traffic``.
        subject: What it is about, such as a segment; empty: all.
        level: ``notice`` to be read some time, ``warning`` soon, ``alarm`` now.
        message: One sentence with its numbers.
        numbers: The numbers again, for machines.
    """

    kind: str
    subject: str
    level: Level
    message: str
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """What makes two findings the same."""
        return self.kind, self.subject


@dataclass(frozen=True)
class Alarm:
    """A finding as it was written down.

    Attributes:
        at: Unix seconds.
        state: ``raised``, or ``cleared`` when it was no longer found.
        kind: Of the finding; so the others.
        subject: See :class:`Finding`.
        level: See :class:`Finding`.
        message: See :class:`Finding`.
        numbers: See :class:`Finding`.
    """

    at: float
    state: State
    kind: str
    subject: str
    level: Level
    message: str
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """What makes two alarms the same."""
        return self.kind, self.subject


@dataclass(frozen=True)
class AlarmPlace:
    """How far somebody has read an alarm file.

    Attributes:
        offset: Bytes.
        first: Of the file's first line, so that another file in its place is known as one; empty: no line.
    """

    offset: int = 0
    first: str = ""


class AlarmFile:
    """Alarms as lines of JSON, only ever appended to; any number of processes may share the file.

    Args:
        file: Need not exist.
        repeat_s: An alarm that goes on is raised again after so many seconds, > 0.

    Example:
        >>> import tempfile
        >>> found = Finding("coverage", "", "warning", "coverage fell.")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     alarms = AlarmFile(Path(folder) / "alarms.jsonl")
        ...     for at, now in ((0.0, [found]), (60.0, [found]), (90.0, [])):
        ...         print([alarm.state for alarm in alarms.take(now, at)])
        ['raised']
        []
        ['cleared']
    """

    def __init__(self, file: Path, *, repeat_s: float = 7 * 86_400.0) -> None:
        if not repeat_s > 0:
            raise ValueError(f"repeat_s must be > 0; got {repeat_s}.")
        self.file = file
        self._repeat_s = repeat_s

    def take(
        self, found: Sequence[Finding], at: float, *, judged: Collection[str] | None = None
    ) -> list[Alarm]:
        """Write down what is new: findings not raised yet, and raised ones that are found no more.

        Args:
            found: All that the monitor finds now.
            at: Now, unix seconds.
            judged: Kinds that could be judged; what is raised of others stays so. None: all.

        Returns:
            What was written, for the webhook; nothing where everything was known.

        Raises:
            DataError: the file is damaged.
        """
        with self._locked():
            latest = {alarm.key: alarm for alarm in reversed(self.all())}
            current = {finding.key: finding for finding in found}
            new = [
                Alarm(at, "raised", f.kind, f.subject, f.level, f.message, dict(f.numbers))
                for key, f in current.items()
                if not self._is_known(latest.get(key), f, at)
            ]
            new += [
                Alarm(at, "cleared", a.kind, a.subject, a.level, a.message, dict(a.numbers))
                for key, a in latest.items()
                if a.state == "raised" and key not in current and (judged is None or a.kind in judged)
            ]
            self._append(new)
        return new

    def all(self) -> list[Alarm]:
        """Return every alarm, newest first; an unfinished last line is passed over.

        Raises:
            DataError: a line before the last is damaged.
        """
        try:
            text = self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        whole, _, _ = text.rpartition("\n")
        return self._read(whole.split("\n") if whole else [])[::-1]

    def read_on(self, place: AlarmPlace) -> tuple[list[Alarm], AlarmPlace]:
        """Return what was written since ``place``, oldest first, and the place behind it.

        Another file in the old one's place is read from its beginning; one that was cut, from its end.

        Raises:
            DataError: a line is damaged.
        """
        with self._locked():
            content = self.file.read_bytes() if self.file.exists() else b""
        end = content.rfind(b"\n") + 1
        head = content[: content.find(b"\n") + 1]
        first = hashlib.sha256(head).hexdigest()[:16] if head else ""
        begin = min(place.offset, end) if first == place.first else 0
        lines = content[begin:end].decode("utf-8", "replace").split("\n")[:-1]
        return self._read(lines, n_before=content[:begin].count(b"\n")), AlarmPlace(end, first)

    def open_ones(self) -> list[Alarm]:
        """Return what is raised and not cleared, newest first."""
        latest: dict[tuple[str, str], Alarm] = {}
        for alarm in self.all():
            latest.setdefault(alarm.key, alarm)
        return [alarm for alarm in latest.values() if alarm.state == "raised"]

    def _is_known(self, last: Alarm | None, found: Finding, at: float) -> bool:
        return (
            last is not None
            and last.state == "raised"
            and last.level == found.level
            and at - last.at < self._repeat_s
        )

    def _locked(self) -> BaseFileLock:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self.file.with_name(f"{self.file.name}.lock"), timeout=30)

    def _read(self, lines: Sequence[str], *, n_before: int = 0) -> list[Alarm]:
        alarms = []
        for number, line in enumerate(lines, start=n_before + 1):
            try:
                alarms.append(Alarm(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise DataError(
                    f"alarms must be lines that the monitor wrote; got {type(error).__name__} in "
                    f"line {number} of {str(self.file)!r}.\n  Move the file away; the monitor begins another."
                ) from None
        return alarms

    def _append(self, alarms: Sequence[Alarm]) -> None:
        if not alarms:
            return
        with self.file.open("a+b") as stream:
            stream.seek(0, os.SEEK_END)
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":  # a killed writer's: it was never acknowledged
                    self._cut(stream)
            stream.write(b"".join(_line(alarm) for alarm in alarms))
            stream.flush()
            os.fsync(stream.fileno())

    @staticmethod
    def _cut(stream: Any) -> None:
        stream.seek(0)
        content = stream.read()
        stream.truncate(content.rfind(b"\n") + 1)


def _line(alarm: Alarm) -> bytes:
    return json.dumps(asdict(alarm), sort_keys=True).encode() + b"\n"
