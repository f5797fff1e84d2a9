"""Bring an asset into the cache, from the first source that answers."""

import shutil
from pathlib import Path

from tailwise.assets._asset import Asset
from tailwise.assets._cache import asset_dir, stamped_files, verify, write_stamp
from tailwise.assets._registry import get_asset
from tailwise.assets._sources import obtain
from tailwise.errors import AssetError

__all__ = ["fetch"]


def fetch(name: str, *, progress: bool = True) -> Path:
    """Return the folder with the files of asset ``name``, downloading them when needed.

    An asset already in the cache costs a look at its stamp and sizes: no network, no hashing
    (:func:`verify` hashes). Sources are tried in the registry's order. Two processes may
    fetch at once: the second waits, then finds the files. A broken download resumes.

    Args:
        name: As listed by :func:`list_assets`.
        progress: Whether to show a bar on standard error.

    Raises:
        AssetError: no such asset, or no source answered; the message gives each source's reason.

    Example:
        >>> fetch("ml-100k").name  # doctest: +SKIP
        '1998-04'
    """
    from filelock import FileLock

    asset, folder = get_asset(name), asset_dir(name)
    if stamped_files(asset, folder):
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AssetError(
            f"cache folder must be writable; got {folder} ({error.strerror}).\n"
            "  Set TAILWISE_CACHE to a folder that you may write to."
        ) from error
    with FileLock(folder.with_name(f"{asset.version}.lock")):
        if stamped_files(asset, folder) or verify(name).is_verified:
            return folder
        _fetch_from_any(asset, folder, progress=progress)
    return folder


def _fetch_from_any(asset: Asset, folder: Path, *, progress: bool) -> None:
    reasons: list[str] = []
    for number, source in enumerate(asset.sources):
        # Beside the folder, on the same disk: files move into it only when all are there.
        staging = folder.with_name(f"{asset.version}.source{number}.part")
        try:
            staging.mkdir(exist_ok=True)
            obtain(source, staging, progress=progress)
            for file in source.files:
                (staging / file.name).replace(folder / file.name)
        except (AssetError, OSError) as error:
            reasons.append(f"{source.label}: {error}".replace("\n", "\n  "))
            continue
        _remove_other_sets(asset, folder, {file.name for file in source.files})
        write_stamp(asset, folder, source.files, source.label)
        for leftover in folder.parent.glob(f"{asset.version}.source*.part"):
            shutil.rmtree(leftover, ignore_errors=True)
        return
    by_hand = ", ".join(f"{file.name} (SHA-256 {file.sha256})" for file in asset.files)
    listed = "\n".join(f"  {number}. {reason}" for number, reason in enumerate(reasons, start=1))
    raise AssetError(
        f"asset {asset.name!r} must come from one of {len(reasons)} sources; none answered.\n{listed}\n"
        f"  Check the network and pip's index, or put by hand {by_hand}\n"
        f"  into {folder}; then run `tailwise assets verify {asset.name}`."
    )


def _remove_other_sets(asset: Asset, folder: Path, names: set[str]) -> None:
    """Drop remains of other file sets: whoever loads the folder looks at what is there."""
    for files in asset.file_sets:
        for file in files:
            if file.name not in names:
                (folder / file.name).unlink(missing_ok=True)
