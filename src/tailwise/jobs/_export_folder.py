"""The folder of an export: made beside its place, put there whole.

``shop`` is made in ``.shop.partial`` while ``.shop.lock`` is held, flushed to the disk, and renamed. In
between two renames an earlier export lies in ``.shop.old``. ``export.json``, written last, says what
was exported, and the SHA-256 of every file.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailwise.errors import ConfigError
from tailwise.jobs._run_folder import write_json

__all__ = ["ExportFolder"]

_MANIFEST = "export.json"
_CARD = "README.md"
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class ExportFolder:
    """Where an export goes.

    Attributes:
        path: The folder.
        identity: What makes two exports the same; JSON values.
    """

    path: Path
    identity: Mapping[str, Any]

    @contextmanager
    def replaced(self, notes: Mapping[str, Any]) -> Iterator[Path]:
        """Give an empty folder to fill inside the block, which then takes its place.

        Args:
            notes: Kept in ``export.json`` beside the identity; JSON values.

        Raises:
            ConfigError: there is something else in its place, or another process is at work there.
        """
        from filelock import FileLock, Timeout

        place = self.path.resolve()
        partial, old = (place.with_name(f".{place.name}.{word}") for word in ("partial", "old"))
        if not old.is_dir():
            self._check()  # before anything is made
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place.with_name(f".{place.name}.lock"), blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise ConfigError(
                f"--out must be free; got {str(self.path)!r}, at which another process is at work. "
                "Wait for it, or choose another folder."
            ) from None
        try:
            _settle(place, partial, old)
            self._check()
            partial.mkdir()
            yield partial
            self._write_manifest(partial, notes)
            if place.exists():
                place.rename(old)
            partial.rename(place)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def _check(self) -> None:
        """Refuse a place that holds anything but an earlier export of the same."""
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--out must be a folder; got {str(self.path)!r}, which is a file.")
        found = _files(self.path)
        if not found:
            return
        earlier = _read_manifest(self.path / _MANIFEST)
        if earlier is None:
            raise ConfigError(
                "--out must be a new or empty folder, or hold an earlier export of the same; got "
                f"{str(self.path)!r}, which holds {found[0]!r}. Choose another folder."
            )
        differing = sorted(name for name in self.identity if earlier.get(name) != self.identity[name])
        if differing:
            raise ConfigError(
                f"--out must be a new or empty folder, or hold an earlier export of the same; got "
                f"{str(self.path)!r}, which holds an export of other {', '.join(differing)}. "
                "Choose another folder, or remove that one."
            )
        foreign = [name for name in found if name not in earlier["files"] and name != _MANIFEST]
        if foreign:
            raise ConfigError(
                f"folder {str(self.path)!r} must hold files of the export alone; got {foreign[0]!r}. "
                "It would be removed with them: move it, or choose another --out."
            )
        if _CARD in found and _sha256(self.path / _CARD) != earlier["files"][_CARD]:
            raise ConfigError(
                f"the card {str(self.path / _CARD)!r} must be as it was written; got a changed one. It would "
                "be written anew: move it, or choose another --out."
            )

    def _write_manifest(self, partial: Path, notes: Mapping[str, Any]) -> None:
        """Describe what lies in ``partial``, and let all of it reach the disk."""
        digests = {name: _sha256(partial / name) for name in _files(partial)}
        write_json({"format": _FORMAT, **self.identity, **notes, "files": digests}, partial / _MANIFEST)
        for name in (*digests, _MANIFEST):
            with (partial / name).open("rb+") as file:
                os.fsync(file.fileno())


def _settle(place: Path, partial: Path, old: Path) -> None:
    """Clear away what a killed process left behind; between its two renames, undo the first."""
    shutil.rmtree(partial, ignore_errors=True)
    if old.is_dir() and not place.exists():
        old.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _files(folder: Path) -> list[str]:
    """Every file below, by its path with slashes, in order; empty where there is no folder."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


def _read_manifest(file: Path) -> dict[str, Any] | None:
    """What an export wrote about itself; None for any other file, or none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_ours = isinstance(content, dict) and isinstance(content.get("files"), dict)
    return content if is_ours and content.get("format") == _FORMAT else None


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
