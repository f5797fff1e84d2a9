"""Records on disk while the database is away: append-only files, one set per worker."""

import fcntl
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tailwise.events._frames import encode_frames, read_frames

__all__ = ["Spool", "adopt_spools"]

SEGMENT_BYTES = 64 * 2**20  # of a file, about; each is removed as a whole once it is replayed
OURS = (".lock", ".spool")
_NAMES = 20  # tried before a new worker gives up


class Spool:
    """One worker's files in the folder: ``<worker>.lock``, held while it lives, and ``<worker>-<n>.spool``.

    Not safe for several threads; the writer guards it.

    Args:
        folder: Made where it is missing.
        worker: Whose, where it is adopted. None: a new one.
        lock: Descriptor of its lock file, held. None: a new worker's is made and taken.
    """

    def __init__(self, folder: Path, worker: str | None = None, lock: int | None = None) -> None:
        self.folder = folder
        self._make_folder()
        self._lock: int | None
        if worker is None or lock is None:
            self.worker, self._lock = _new_worker(folder)
        else:
            self.worker, self._lock = worker, lock
        self.segments = sorted(folder.glob(f"{self.worker}-*.spool"))  # closed ones, oldest first
        self._next = 1 + max((int(path.stem.rpartition("-")[2]) for path in self.segments), default=0)
        self._file: int | None = None  # of the segment that is written now
        self._path = Path()
        self._length = 0  # bytes of it that are on disk for sure
        self.n_records = sum(sum(f.record is not None for f in read_frames(p)) for p in self.segments)
        self.n_bytes = sum(path.stat().st_size for path in self.segments)
        self._counts: dict[Path, int] = {}

    @property
    def _lock_path(self) -> Path:
        return self.folder / f"{self.worker}.lock"

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        """Write records; they are on disk when this returns.

        Raises:
            OSError: they are not, and none of them counts; the disk may be full.
        """
        text = encode_frames(records)
        file = self._begin_segment() if self._file is None else self._file
        try:
            rest = memoryview(text)
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        except OSError:
            self._take_back(file)
            raise
        self._length += len(text)
        self.n_records += len(records)
        self.n_bytes += len(text)
        self._counts[self._path] = self._counts.get(self._path, 0) + len(records)
        if self._length >= SEGMENT_BYTES:
            self.rotate()

    def rotate(self) -> None:
        """Close the segment that is written now; the next append begins another."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self.segments.append(self._path)

    def remove(self, segment: Path) -> None:
        """Remove a closed segment whose records are safe elsewhere."""
        n_bytes = segment.stat().st_size
        n_records = self._counts.pop(segment, None)
        if n_records is None:
            n_records = sum(frame.record is not None for frame in read_frames(segment))
        segment.unlink()
        _sync_folder(self.folder)
        self.segments.remove(segment)
        self.n_bytes = max(0, self.n_bytes - n_bytes)
        self.n_records -= n_records

    def close(self) -> None:
        """Let go of the files; where none are left, of the lock's file too. Others may adopt what is left."""
        self.rotate()
        if self._lock is None:
            return
        if not self.segments:
            with suppress(OSError):
                self._lock_path.unlink()
        os.close(self._lock)
        self._lock = None

    def _begin_segment(self) -> int:
        self._make_folder()
        path = self.folder / f"{self.worker}-{self._next:06d}.spool"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._path, self._length = path, 0
        self._next += 1
        _sync_folder(self.folder)
        return self._file

    def _take_back(self, file: int) -> None:
        """Undo a write that failed half-way. It may not have worked, so nothing is ever written behind it."""
        with suppress(OSError):
            os.ftruncate(file, self._length)
            os.fsync(file)
        self.rotate()
        if self._length == 0:
            with suppress(OSError):
                self.remove(self.segments[-1])

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _sync_folder(self.folder.parent)


def adopt_spools(folder: Path) -> Iterator[Spool]:
    """Take over the spools of workers that are gone, one at a time: each until the next is asked for."""
    for worker in sorted({path.stem.partition("-")[0] for path in folder.glob("*.*") if path.suffix in OURS}):
        lock = _take(folder / f"{worker}.lock")
        if lock is not None:
            spool = Spool(folder, worker, lock)
            try:
                yield spool
            finally:
                spool.close()


def _new_worker(folder: Path) -> tuple[str, int]:
    """A worker's name and its lock.

    One that looks for spools of the dead may come between the making and the taking of the lock's file, and
    take it: it finds nothing there and removes it. Then another name will do.
    """
    for _ in range(_NAMES):
        worker = uuid.uuid4().hex
        lock = _take(folder / f"{worker}.lock")
        if lock is not None:
            return worker, lock
    raise OSError(f"each of {_NAMES} new lock files in {folder} is held by another process.")


def _take(path: Path) -> int | None:
    """Lock a file that is made where it is missing; None where another process holds it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(lock).st_ino:  # else its holder removed it meanwhile
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


def _sync_folder(folder: Path) -> None:
    """Put a folder's list of names on disk."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
