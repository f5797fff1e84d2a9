import hashlib
import json
from pathlib import Path

import pytest
import requests

from tailwise.assets._download import download, without_credentials
from tailwise.errors import AssetError

CONTENT = bytes(range(256)) * 4096  # 1 MiB: four chunks
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def test_download_puts_the_verified_file_in_place_and_leaves_no_part(site, tmp_path: Path):
    site.files["/a.bin"] = CONTENT
    target = download(f"{site.url}/a.bin", tmp_path / "a.bin", sha256=DIGEST, progress=False)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_progress_bar_writes_to_standard_error_only(site, tmp_path: Path, capsys):
    site.files["/a.bin"] = CONTENT
    download(f"{site.url}/a.bin", tmp_path / "a.bin", sha256=DIGEST, n_bytes=len(CONTENT), progress=True)
    assert capsys.readouterr().out == ""


def test_broken_connection_resumes_where_it_stopped(site, tmp_path: Path):
    site.files["/a.bin"] = CONTENT
    site.cut_after = 300_000
    download(f"{site.url}/a.bin", tmp_path / "a.bin", sha256=DIGEST, progress=False)
    first, second = (asked for _, asked in site.requests)
    assert first is None
    assert second is not None
    assert 0 < int(second.removeprefix("bytes=").rstrip("-")) <= 300_000


def _leave_part(folder: Path, content: bytes, etag: str, n_bytes: int = len(CONTENT)) -> None:
    (folder / "a.bin.part").write_bytes(content)
    (folder / "a.bin.part.json").write_text(json.dumps({"n_bytes": n_bytes, "etag": etag}))


def test_later_process_resumes_the_part_of_an_earlier_one(site, tmp_path: Path):
    site.files["/a.bin"] = CONTENT
    _leave_part(tmp_path, CONTENT[:1000], '"one"')
    download(f"{site.url}/a.bin", tmp_path / "a.bin", sha256=DIGEST, progress=False)
    assert site.requests == [("/a.bin", "bytes=1000-")]


def test_server_without_etag_is_resumed_on_equal_size(site, tmp_path: Path):
    site.files["/a.bin"], site.etag = CONTENT, ""
    _leave_part(tmp_path, CONTENT[:1000], "")
    download(f"{site.url}/a.bin", tmp_path / "a.bin", sha256=DIGEST, progress=False)
    assert site.requests == [("/a.bin", "bytes=1000-")]


def test_complete_part_needs_no_second_transfer(site, tmp_path: Path):
    site.files["/a.bin"] = CONTENT
    _leave_part(tmp_path, CONTENT, '"one"')
    download(f"{site.url}/a.bin", tmp_path / "a.bin", sha256=DIGEST, progress=False)
    assert site.requests == [("/a.bin", f"bytes={len(CONTENT)}-")]


def test_file_finished_by_an_earlier_call_is_not_fetched_again(tmp_path: Path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    target = download("http://127.0.0.1:1/a", tmp_path / "a.bin", sha256=DIGEST, progress=False)
    assert target.read_bytes() == CONTENT


def test_server_that_ignores_ranges_restarts_the_download(site, tmp_path: Path):
    site.files["/a.bin"], site.ranges = CONTENT, False
    _leave_part(tmp_path, b"x" * 1000, '"one"')
    assert download(f"{site.url}/a.bin", tmp_path / "a.bin", sha256=DIGEST, progress=False).is_file()


def test_changed_etag_restarts_the_download(site, tmp_path: Path):
    site.files["/a.bin"], site.etag = CONTENT, '"two"'
    _leave_part(tmp_path, b"x" * 1000, '"one"')
    assert download(f"{site.url}/a.bin", tmp_path / "a.bin", sha256=DIGEST, progress=False).is_file()


def test_changed_size_restarts_the_download(site, tmp_path: Path):
    site.files["/a.bin"], site.etag = CONTENT, ""
    _leave_part(tmp_path, b"x" * 1000, "", n_bytes=77)
    assert download(f"{site.url}/a.bin", tmp_path / "a.bin", sha256=DIGEST, progress=False).is_file()


def test_damaged_part_is_discarded_and_fetched_anew(site, tmp_path: Path):
    site.files["/a.bin"], site.etag = CONTENT, ""
    _leave_part(tmp_path, b"x" * 1000, "")
    download(f"{site.url}/a.bin", tmp_path / "a.bin", sha256=DIGEST, progress=False)
    assert [asked for _, asked in site.requests] == ["bytes=1000-", None]


def test_wrong_content_is_refused_naming_both_hashes(site, tmp_path: Path):
    site.files["/a.bin"] = b"other"
    found = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(AssetError, match=f"a.bin must have SHA-256 {DIGEST}; got {found}"):
        download(f"{site.url}/a.bin", tmp_path / "a.bin", sha256=DIGEST, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_missing_page_names_address_and_status(site, tmp_path: Path):
    with pytest.raises(AssetError, match=r"/none\.bin: HTTP 404"):
        download(f"{site.url}/none.bin", tmp_path / "a.bin", sha256=DIGEST, progress=False)


def test_unreachable_server_names_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise requests.ConnectionError("refused")

    monkeypatch.setattr(requests, "get", refuse)
    with pytest.raises(AssetError, match=r"http://127\.0\.0\.1:1/a: ConnectionError: refused"):
        download("http://127.0.0.1:1/a", tmp_path / "a.bin", sha256=DIGEST, progress=False)


def test_file_addresses_work(tmp_path: Path):
    origin = tmp_path / "origin file.bin"
    origin.write_bytes(CONTENT)
    target = download(origin.as_uri(), tmp_path / "a.bin", sha256=DIGEST, progress=False)
    assert target.read_bytes() == CONTENT


def test_full_disk_is_noticed_before_the_download(tmp_path: Path):
    with pytest.raises(AssetError, match=r"must have 1,000,000,000,000 MB free; got [\d,]+ MB"):
        download("http://127.0.0.1:1/a", tmp_path / "a", sha256=DIGEST, n_bytes=10**18, progress=False)


def test_credentials_are_left_out_of_messages():
    assert without_credentials("https://me:secret@host:81/a?b=c") == "https://host:81/a?b=c"
