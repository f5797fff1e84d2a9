"""Where assets lie on disk, and whether what lies there is what the registry says.

``<cache>/assets/<name>/<version>/`` holds one complete file set and the stamp
``tailwise-asset.json`` (source, file names, sizes, hashes). The stamp is written last, so
a folder without one is never taken for complete.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tailwise.assets._asset import Asset, AssetFile
from tailwise.assets._registry import get_asset

__all__ = [
    "AssetStatus",
    "FileStatus",
    "asset_dir",
    "cache_dir",
    "is_fetched",
    "sha256_of",
    "stamped_files",
    "verify",
    "write_stamp",
]

STAMP = "tailwise-asset.json"
_CHUNK_BYTES = 1 << 20


def cache_dir() -> Path:
    """Return the folder of everything Tailwise keeps between runs.

    ``TAILWISE_CACHE`` if it is set, else ``tailwise`` in the user's cache folder (XDG on Linux).
    The folder is not created.
    """
    if chosen := os.environ.get("TAILWISE_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("tailwise", appauthor=False))


def asset_dir(name: str) -> Path:
    """Return the folder of asset ``name``, whether or not it is fetched."""
    asset = get_asset(name)
    return cache_dir() / "assets" / asset.name / asset.version


@dataclass(frozen=True)
class FileStatus:
    """One file of a fetched asset, as :func:`verify` found it."""

    name: str
    state: Literal["ok", "missing", "changed"]
    expected_sha256: str
    found_sha256: str | None


@dataclass(frozen=True)
class AssetStatus:
    """What :func:`verify` found of one asset."""

    name: str
    version: str
    folder: Path
    state: Literal["verified", "absent", "damaged"]
    """``absent``: not one file is there. ``damaged``: some are, but no complete file set."""
    files: tuple[FileStatus, ...]
    """Of the file set that is nearest to complete."""
    source: str | None
    """Where the files came from; ``by hand`` when somebody put them there."""

    @property
    def is_verified(self) -> bool:
        """Whether a complete file set is there with the right content."""
        return self.state == "verified"

    def __str__(self) -> str:
        lines = [f"{self.name} {self.version}: {self.state} ({self.folder})"]
        for file in self.files:
            if file.state == "changed":
                lines.append(
                    f"  {file.name} must have SHA-256 {file.expected_sha256}; got {file.found_sha256}."
                )
            elif file.state == "missing" and self.state != "absent":
                lines.append(f"  {file.name} is missing.")
        if self.state != "verified":
            delete = "Delete the named files, then run" if self.state == "damaged" else "Run"
            lines.append(f"  {delete} `tailwise assets fetch {self.name}`.")
        return "\n".join(lines)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_stamp(asset: Asset, folder: Path, files: tuple[AssetFile, ...], source: str) -> None:
    """Declare ``folder`` complete, atomically."""
    stamp = {
        "asset": asset.name,
        "version": asset.version,
        "source": source,
        "files": {file.name: {"sha256": file.sha256, "n_bytes": file.n_bytes} for file in files},
    }
    part = folder / f"{STAMP}.{os.getpid()}.part"
    with part.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(stamp, indent=2) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(folder / STAMP)


def _read_stamp(folder: Path) -> dict[str, Any]:
    """Return the stamp, or an empty one when there is none that can be read."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def stamped_files(asset: Asset, folder: Path) -> tuple[AssetFile, ...] | None:
    """Return the file set that the stamp vouches for and whose sizes are right, else ``None``."""
    recorded = _read_stamp(folder).get("files")
    for files in asset.file_sets:
        expected = {file.name: {"sha256": file.sha256, "n_bytes": file.n_bytes} for file in files}
        if recorded == expected and all(_size(folder / file.name) == file.n_bytes for file in files):
            return files
    return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def is_fetched(name: str) -> bool:
    """Tell whether ``name`` is in the cache: the stamp is there and every file has its size."""
    return stamped_files(get_asset(name), asset_dir(name)) is not None


def verify(name: str) -> AssetStatus:
    """Hash every file of an asset again and compare with the registry.

    Files that somebody put into :func:`asset_dir` by hand are accepted here: when a whole
    file set is right and no stamp exists, the stamp is written, and ``fetch`` is content.

    Raises:
        AssetError: no asset is called ``name``.
    """
    asset, folder = get_asset(name), asset_dir(name)
    best: tuple[FileStatus, ...] = ()
    for files in asset.file_sets:
        found = tuple(_check_file(folder, file) for file in files)
        if all(file.state == "ok" for file in found):
            source = _read_stamp(folder).get("source")
            if stamped_files(asset, folder) != files:
                source = "by hand"
                write_stamp(asset, folder, files, source)
            return AssetStatus(name, asset.version, folder, "verified", found, source)
        if not best or _n_present(found) > _n_present(best):
            best = found
    state: Literal["absent", "damaged"] = "damaged" if _n_present(best) else "absent"
    return AssetStatus(name, asset.version, folder, state, best, _read_stamp(folder).get("source"))


def _n_present(files: tuple[FileStatus, ...]) -> int:
    return sum(file.state != "missing" for file in files)


def _check_file(folder: Path, file: AssetFile) -> FileStatus:
    if not (folder / file.name).is_file():
        return FileStatus(file.name, "missing", file.sha256, None)
    found = sha256_of(folder / file.name)
    return FileStatus(file.name, "ok" if found == file.sha256 else "changed", file.sha256, found)
