"""Download one file: resumable, with a progress bar, verified, put in place atomically.

Bytes arrive in ``<target>.part``; ``<target>.part.json`` remembers what the server said
about them (size, ETag). A later call asks for the rest with a Range request and starts
over when the server ignores the range or the content has changed meanwhile. Callers hold
the asset's lock, so one process at a time writes a part file.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

from tailwise.assets._cache import sha256_of
from tailwise.errors import AssetError

if TYPE_CHECKING:
    import requests

__all__ = ["download", "without_credentials"]

_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = (10.0, 60.0)  # to connect, between two chunks
_N_ATTEMPTS = 5  # in a row without one new byte
_N_ATTEMPTS_UNREACHED = 2  # while nothing at all has come: another source may do better
_PAUSE_S = 0.5  # doubles after each attempt that brought nothing


class _Advance(Protocol):
    def __call__(self, n_bytes_done: int, n_bytes_total: int | None) -> None: ...


def download(
    url: str, target: Path, *, sha256: str, n_bytes: int | None = None, progress: bool = True
) -> Path:
    """Bring ``url`` (http, https or file) to ``target`` and check its content.

    Args:
        url: Address; credentials in it are used but never shown.
        target: Final path; its folder exists.
        sha256: Of the whole file, in hexadecimal.
        n_bytes: Size if known; used for the disk check and the bar.
        progress: Whether to show a bar on standard error.

    Returns:
        ``target``.

    Raises:
        AssetError: the server answers with an error, the connection keeps breaking, the disk
            is too full, or the content has another hash.
    """
    if target.is_file() and sha256_of(target) == sha256:  # an earlier call was stopped just after
        return target
    _check_space(target.parent, n_bytes)
    part = target.with_name(target.name + ".part")
    n_old = part.stat().st_size if part.is_file() else 0
    with _bar(target.name, n_bytes, show=progress) as advance:
        _bring(url, part, advance)
        found = sha256_of(part)
        if found != sha256 and n_old:
            # The remains of an earlier download may be what is wrong: once more from the start.
            _forget(part)
            _bring(url, part, advance)
            found = sha256_of(part)
    if found != sha256:
        size = part.stat().st_size
        _forget(part)
        raise AssetError(
            f"{target.name} must have SHA-256 {sha256}; got {found} ({size:,} bytes).\n"
            f"  Read from {without_credentials(url)}; it serves another version or a damaged file."
        )
    with part.open("rb+") as stream:
        os.fsync(stream.fileno())
    part.replace(target)
    _forget(part)
    return target


def without_credentials(url: str) -> str:
    """Return ``url`` without the user name and password that it may carry."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _check_space(folder: Path, n_bytes: int | None) -> None:
    free = shutil.disk_usage(folder).free
    if n_bytes is not None and free < n_bytes:
        raise AssetError(
            f"{folder} must have {n_bytes / 1e6:,.0f} MB free; got {free / 1e6:,.0f} MB.\n"
            "  Free some space, or set TAILWISE_CACHE to a folder on another disk."
        )


def _bring(url: str, part: Path, advance: _Advance) -> None:
    """Fill ``part`` completely, whatever its present content."""
    if urlsplit(url).scheme == "file":
        _copy(Path(url2pathname(urlsplit(url).path)), part, advance)
        return
    import requests

    n_failures = 0
    while True:
        n_before = part.stat().st_size if part.is_file() else 0
        try:
            if _request(url, part, advance):
                return
            reason = "the connection closed early"
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            reason = f"{type(error).__name__}: {_first_line(error)}"
        except requests.RequestException as error:
            raise AssetError(f"{without_credentials(url)}: {_first_line(error)}") from error
        n_after = part.stat().st_size if part.is_file() else 0
        n_failures = 0 if n_after > n_before else n_failures + 1
        if n_failures >= _N_ATTEMPTS or (
            n_failures and n_after == 0 and reason.startswith("ConnectionError")
        ):
            kept = f"; {n_after:,} bytes are kept for the next attempt" if n_after else ""
            raise AssetError(f"{without_credentials(url)}: {reason}{kept}")
        time.sleep(_PAUSE_S * 2**n_failures if n_failures else 0)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _copy(origin: Path, part: Path, advance: _Advance) -> None:
    if not origin.is_file():
        raise AssetError(f"{origin} is not a file")
    total, done = origin.stat().st_size, 0
    with origin.open("rb") as source, part.open("wb") as stream:
        while chunk := source.read(_CHUNK_BYTES):
            stream.write(chunk)
            done += len(chunk)
            advance(done, total)


def _request(url: str, part: Path, advance: _Advance) -> bool:
    """Make one request, for the missing bytes if some are here; tell whether all have arrived."""
    import requests

    remembered = _read_memory(part)
    n_have = part.stat().st_size if part.is_file() and remembered else 0
    # A compressed transfer would make byte positions meaningless.
    headers = {"Accept-Encoding": "identity"}
    if n_have:
        headers["Range"] = f"bytes={n_have}-"
        if remembered.get("etag"):
            headers["If-Range"] = remembered["etag"]
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
        if response.status_code == 416:  # the part is as long as the file, or the file has shrunk
            if n_have and n_have == remembered.get("n_bytes"):
                return True
            _forget(part)
            return False
        if response.status_code >= 400:
            raise AssetError(f"{without_credentials(url)}: HTTP {response.status_code} {response.reason}")
        if response.status_code == 206 and not _continues(response, n_have, remembered):
            _forget(part)
            return False
        if response.status_code != 206:  # the whole file: no range asked, ignored, or changed content
            n_have = 0
            _remember(part, response)
        total = _read_memory(part).get("n_bytes")
        with part.open("ab" if n_have else "wb") as stream:
            advance(n_have, total)
            for chunk in response.iter_content(_CHUNK_BYTES):
                stream.write(chunk)
                n_have += len(chunk)
                advance(n_have, total)
    return total is None or n_have == total


def _continues(response: "requests.Response", n_have: int, remembered: dict[str, Any]) -> bool:
    """Tell whether a 206 answer starts where the part ends and is of the same file."""
    span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    same_start = span.partition("-")[0] == str(n_have)
    same_size = total == "*" or remembered.get("n_bytes") in (None, int(total) if total.isdigit() else -1)
    same_tag = response.headers.get("ETag") in (None, remembered.get("etag")) or not remembered.get("etag")
    return same_start and same_size and same_tag


def _memory(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _remember(part: Path, response: "requests.Response") -> None:
    length = response.headers.get("Content-Length", "")
    etag = response.headers.get("ETag", "")
    memory = {
        "n_bytes": int(length) if length.isdigit() else None,
        "etag": "" if etag.startswith("W/") else etag,  # a weak tag does not vouch for bytes
    }
    part.unlink(missing_ok=True)  # so that memory and bytes never come from two files
    _memory(part).write_text(json.dumps(memory), encoding="utf-8")


def _read_memory(part: Path) -> dict[str, Any]:
    try:
        memory = json.loads(_memory(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return memory if isinstance(memory, dict) else {}


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _memory(part).unlink(missing_ok=True)


@contextmanager
def _bar(label: str, n_bytes: int | None, *, show: bool) -> Iterator[_Advance]:
    """Show a bar on standard error, so that piped output stays clean."""
    if not show:
        yield lambda n_bytes_done, n_bytes_total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=n_bytes)
        yield lambda n_bytes_done, n_bytes_total: bar.update(
            task, completed=n_bytes_done, total=n_bytes_total or n_bytes
        )
