"""A large table written part by part, so that a killed job goes on where it was.

``lists.parquet`` is made in ``lists.parquet.parts/``::

    settings.json           what the parts are parts of, written first
    part-00000.parquet      complete, or not there
    .part-00001.parquet.tmp being written
    .lock                   held by the process at work

The finished table takes its place by a rename; the folder goes away last.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from tailwise.errors import ConfigError
from tailwise.evaluation import LISTS_METADATA
from tailwise.jobs._run_folder import write_json

__all__ = ["ListParts", "read_lists_metadata"]

_PART = re.compile(r"part-\d{5,}\.parquet|\.part-\w+(\.parquet)?\.tmp")


def read_lists_metadata(file: Path) -> dict[str, Any] | None:
    """Return what ``tailwise recommend`` wrote about the lists in ``file``; None for any other file."""
    try:
        text = pl.read_parquet_metadata(file).get(LISTS_METADATA)
    except (pl.exceptions.PolarsError, OSError):
        return None  # no Parquet at all
    return None if text is None else json.loads(text)


@dataclass(frozen=True, eq=False)
class ListParts:
    """The parts of one table.

    Attributes:
        out: Where the table goes.
        settings: Everything that decides its content; JSON values.
    """

    out: Path
    settings: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where the parts lie."""
        return self.out.with_name(f"{self.out.name}.parts")

    @property
    def key(self) -> str:
        """Digest of the settings: parts and tables with this key are interchangeable."""
        return hashlib.sha256(json.dumps(dict(self.settings), sort_keys=True).encode()).hexdigest()

    def is_written(self) -> bool:
        """True where ``out`` holds this very table already."""
        if not self.out.is_file():
            return False
        return (read_lists_metadata(self.out) or {}).get("key") == self.key

    @contextmanager
    def claimed(self, *, overwrite: bool) -> Iterator[None]:
        """Make the folder ours inside the block, keeping the parts of an earlier, interrupted job.

        Raises:
            ConfigError: another process is at work in it, it holds other files, or, without
                ``overwrite``, parts of other settings.
        """
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise ConfigError(
                f"--out must be free; got {str(self.out)!r}, at which another process is at work. "
                "Wait for it, or choose another file."
            ) from None
        try:
            self._prepare(overwrite=overwrite)
            yield
        finally:
            lock.release()
            if not [p.name for p in self.folder.iterdir() if p.name != ".lock"]:
                (self.folder / ".lock").unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # a process that has just come needs the folder
                    self.folder.rmdir()

    def _prepare(self, *, overwrite: bool) -> None:
        known = (".lock", "settings.json", ".settings.json.")
        foreign = [
            p.name
            for p in self.folder.iterdir()
            if not p.name.startswith(known) and not _PART.fullmatch(p.name)
        ]
        if foreign:
            raise ConfigError(
                f"folder {str(self.folder)!r} must hold parts of lists alone; got {sorted(foreign)[0]!r}. "
                "It would be removed with them: move it, or choose another --out."
            )
        file = self.folder / "settings.json"
        earlier = json.loads(file.read_text()) if file.is_file() else None
        if earlier != dict(self.settings):
            if earlier is not None and not overwrite:
                raise ConfigError(
                    f"settings must be those of the unfinished lists in {str(self.folder)!r}; got other "
                    f"values of {', '.join(_differing(earlier, self.settings))}. Repeat that command to "
                    "finish them, pass --overwrite to drop them, or choose another --out."
                )
            file.unlink(missing_ok=True)  # first, so that no part is ever taken for one of other settings
            for part in self.folder.glob("part-*.parquet"):
                part.unlink()
            write_json(dict(self.settings), file)

    def _file(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.parquet"

    def counts(self, number: int) -> dict[str, int] | None:
        """Return what was counted for a finished part; None if it must be made."""
        file = self._file(number)
        metadata = read_lists_metadata(file) if file.is_file() else None
        return None if metadata is None else metadata["counts"]

    def write(self, number: int, table: pl.DataFrame, counts: Mapping[str, int]) -> None:
        """Write a part; it is there as a whole or not at all."""
        metadata = {LISTS_METADATA: json.dumps({"counts": dict(counts)})}
        temporary = self.folder / f".part-{number:05d}.parquet.tmp"
        _replace(temporary, self._file(number), lambda path: table.write_parquet(path, metadata=metadata))

    def finish(self, n_parts: int, notes: Mapping[str, Any]) -> None:
        """Join all parts into ``out`` without holding them in memory, and remove them.

        The table's metadata hold key, settings and ``notes``, which decide nothing.
        """
        metadata = {LISTS_METADATA: json.dumps({"key": self.key, **self.settings, **notes})}
        files = [self._file(number) for number in range(n_parts)]
        joined = pl.scan_parquet(files, glob=False)
        temporary = self.folder / ".part-joined.tmp"
        _replace(temporary, self.out, lambda path: joined.sink_parquet(path, metadata=metadata))
        self.remove()

    def remove(self) -> None:
        """Remove the parts, if there are any; the lock stays with whoever holds it."""
        if self.folder.is_dir():
            (self.folder / "settings.json").unlink(missing_ok=True)
            for file in list(self.folder.iterdir()):
                if _PART.fullmatch(file.name) or file.name.startswith(".settings.json."):
                    file.unlink()


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def _replace(temporary: Path, file: Path, write: Callable[[Path], object]) -> None:
    """Write to ``temporary``, flush it to disk, and rename it into place."""
    write(temporary)
    with temporary.open("rb+") as written:
        os.fsync(written.fileno())
    temporary.replace(file)
