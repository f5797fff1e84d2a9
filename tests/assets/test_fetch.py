import hashlib
import io
import json
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from tailwise.assets import (
    ArchiveSource,
    Asset,
    AssetFile,
    HubSource,
    SiteSource,
    Source,
    WheelSource,
    _registry,
    _sources,
    asset_dir,
    cache_dir,
    fetch,
    get_asset,
    is_fetched,
    list_assets,
    verify,
)
from tailwise.errors import AssetError


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


ROWS = b"user\titem\n" * 1000
TITLES = b"1\tToy Story\n"


def _file(name: str, member: str, content: bytes) -> AssetFile:
    return AssetFile(name, member, sha256(content), len(content))


FILES = (_file("rows.tsv", "pkg/rows.tsv", ROWS), _file("titles.tsv", "pkg/titles.tsv", TITLES))


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return buffer.getvalue()


WHEEL = _zip({"pkg/rows.tsv": ROWS, "pkg/titles.tsv": TITLES, "pkg/unwanted.py": b"raise SystemExit"})


def _register(monkeypatch: pytest.MonkeyPatch, *sources: Source) -> Asset:
    asset = Asset("toy", "dataset", "1.0", "CC0", "A toy.", sources)
    monkeypatch.setitem(_registry._REGISTRY, "toy", asset)
    return asset


def _wheel_source(content: bytes = WHEEL) -> WheelSource:
    return WheelSource("toy-data", "1.0", sha256(content), len(content), FILES)


def _answer_of_pip(monkeypatch: pytest.MonkeyPatch, url: str) -> list[tuple[str, ...]]:
    calls: list[tuple[str, ...]] = []

    def pip(*arguments: str) -> str:
        calls.append(arguments)
        return json.dumps({"install": [{"download_info": {"url": url}}]})

    monkeypatch.setattr(_sources, "_pip", pip)
    return calls


def test_wheel_is_found_by_pip_downloaded_unpacked_and_removed(site, cache: Path, monkeypatch):
    site.files["/toy.whl"] = WHEEL
    calls = _answer_of_pip(monkeypatch, f"{site.url}/toy.whl")
    _register(monkeypatch, _wheel_source())
    folder = fetch("toy", progress=False)
    assert folder == cache / "assets" / "toy" / "1.0" == asset_dir("toy")
    assert sorted(path.name for path in folder.iterdir()) == ["rows.tsv", "tailwise-asset.json", "titles.tsv"]
    assert (folder / "rows.tsv").read_bytes() == ROWS
    assert calls[0][-1] == "toy-data==1.0"
    assert "--no-deps" in calls[0]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["1.0", "1.0.lock"]
    assert verify("toy").source == "package wheel toy-data==1.0"


def test_second_fetch_uses_neither_pip_nor_network(site, cache: Path, monkeypatch):
    site.files["/toy.whl"] = WHEEL
    calls = _answer_of_pip(monkeypatch, f"{site.url}/toy.whl")
    _register(monkeypatch, _wheel_source())
    fetch("toy", progress=False)
    assert fetch("toy", progress=False) == asset_dir("toy")
    assert (len(calls), len(site.requests)) == (1, 1)


def test_pip_downloads_itself_where_its_address_refuses_us(site, cache: Path, monkeypatch):
    def pip(*arguments: str) -> str:
        if arguments[0] == "download":
            (Path(arguments[arguments.index("--dest") + 1]) / "toy_data-1.0-py3-none-any.whl").write_bytes(
                WHEEL
            )
        return json.dumps({"install": [{"download_info": {"url": f"{site.url}/forbidden.whl"}}]})

    monkeypatch.setattr(_sources, "_pip", pip)
    _register(monkeypatch, _wheel_source())
    assert (fetch("toy", progress=False) / "titles.tsv").read_bytes() == TITLES


def test_real_pip_finds_a_wheel_in_a_folder_of_links(tmp_path: Path, cache: Path, monkeypatch):
    wheel = _zip(
        {
            "pkg/rows.tsv": ROWS,
            "pkg/titles.tsv": TITLES,
            "tailwise_toy_data-1.0.dist-info/METADATA": (
                b"Metadata-Version: 2.1\nName: tailwise-toy-data\nVersion: 1.0\n"
            ),
            "tailwise_toy_data-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
            "tailwise_toy_data-1.0.dist-info/RECORD": b"",
        }
    )
    (tmp_path / "tailwise_toy_data-1.0-py3-none-any.whl").write_bytes(wheel)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    _register(monkeypatch, WheelSource("tailwise-toy-data", "1.0", sha256(wheel), len(wheel), FILES))
    assert (fetch("toy", progress=False) / "rows.tsv").read_bytes() == ROWS


def test_pip_errors_are_passed_on_without_credentials(monkeypatch):
    def run(*args: Any, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(
            [], 1, "", "WARNING: x\nERROR: No match at https://me:pw@host/simple"
        )

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(AssetError, match="pip says ERROR: No match at https://host/simple"):
        _sources._wheel_url("toy-data==1.0")


def test_second_source_serves_when_the_first_fails(site, cache: Path, monkeypatch):
    site.files["/data/rows.tsv"] = ROWS
    site.files["/data/titles.tsv"] = TITLES
    plain = (_file("rows.tsv", "rows.tsv", ROWS), _file("titles.tsv", "titles.tsv", TITLES))
    _register(
        monkeypatch,
        ArchiveSource(f"{site.url}/gone.zip", sha256(b"x"), 1, FILES),
        SiteSource(f"{site.url}/data/", plain),
    )
    fetch("toy", progress=False)
    assert verify("toy").source == f"site {site.url}/data/"


def test_archive_members_are_extracted(site, cache: Path, monkeypatch):
    site.files["/toy.zip"] = WHEEL
    _register(monkeypatch, ArchiveSource(f"{site.url}/toy.zip", sha256(WHEEL), len(WHEEL), FILES))
    assert (fetch("toy", progress=False) / "rows.tsv").read_bytes() == ROWS


def test_archive_with_an_altered_member_is_refused(site, cache: Path, monkeypatch):
    altered = _zip({"pkg/rows.tsv": b"altered", "pkg/titles.tsv": TITLES})
    site.files["/toy.zip"] = altered
    _register(monkeypatch, ArchiveSource(f"{site.url}/toy.zip", sha256(altered), len(altered), FILES))
    with pytest.raises(
        AssetError, match=f"rows.tsv must have SHA-256 {sha256(ROWS)}; got {sha256(b'altered')}"
    ):
        fetch("toy", progress=False)


def test_hub_files_are_asked_for_at_the_pinned_commit(cache: Path, monkeypatch):
    asked: list[dict[str, Any]] = []

    def hf_hub_download(**arguments: Any) -> str:
        asked.append(arguments)
        path = Path(arguments["local_dir"]) / arguments["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ROWS)
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    _register(monkeypatch, HubSource("org/toy", "c0ffee", (_file("rows.tsv", "rows.tsv", ROWS),)))
    assert (fetch("toy", progress=False) / "rows.tsv").read_bytes() == ROWS
    assert (asked[0]["repo_id"], asked[0]["revision"]) == ("org/toy", "c0ffee")


def test_hub_file_with_other_content_is_refused(cache: Path, monkeypatch):
    def hf_hub_download(**arguments: Any) -> str:
        path = Path(arguments["local_dir"]).parent / "x"
        path.write_bytes(b"poison")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    _register(monkeypatch, HubSource("org/toy", "c0ffee", (_file("rows.tsv", "rows.tsv", ROWS),)))
    with pytest.raises(AssetError, match=f"hub org/toy@c0ffee: rows.tsv must .* got {sha256(b'poison')}"):
        fetch("toy", progress=False)


def test_error_lists_every_source_its_reason_and_the_way_by_hand(site, cache: Path, monkeypatch):
    def offline(**arguments: Any) -> str:
        raise ConnectionError("hub is offline")

    def no_pip(*arguments: str) -> str:
        raise AssetError("pip says ERROR: No matching distribution found for toy-data==1.0")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    monkeypatch.setattr(_sources, "_pip", no_pip)
    _register(
        monkeypatch,
        _wheel_source(),
        SiteSource(f"{site.url}/data/", FILES),
        HubSource("org/toy", "c0ffee", FILES),
    )
    with pytest.raises(AssetError) as caught:
        fetch("toy", progress=False)
    message = str(caught.value)
    assert "asset 'toy' must come from one of 3 sources; none answered." in message
    assert "1. package wheel toy-data==1.0: pip says ERROR: No matching distribution" in message
    assert f"2. site {site.url}/data/: {site.url}/data/pkg/rows.tsv: HTTP 404" in message
    assert "3. hub org/toy@c0ffee: pkg/rows.tsv: ConnectionError: hub is offline" in message
    assert f"into {asset_dir('toy')}; then run `tailwise assets verify toy`" in message


def test_files_put_there_by_hand_are_verified_and_then_fetched_without_network(cache: Path, monkeypatch):
    _register(monkeypatch, SiteSource("http://127.0.0.1:1/", FILES))
    asset_dir("toy").mkdir(parents=True)
    (asset_dir("toy") / "rows.tsv").write_bytes(ROWS)
    assert verify("toy").state == "damaged"
    assert not is_fetched("toy")
    (asset_dir("toy") / "titles.tsv").write_bytes(TITLES)
    assert (verify("toy").state, verify("toy").source) == ("verified", "by hand")
    assert is_fetched("toy")
    assert fetch("toy", progress=False) == asset_dir("toy")


def test_verify_sees_a_changed_byte_that_fetch_does_not_look_for(site, cache: Path, monkeypatch):
    site.files["/toy.zip"] = WHEEL
    _register(monkeypatch, ArchiveSource(f"{site.url}/toy.zip", sha256(WHEEL), len(WHEEL), FILES))
    folder = fetch("toy", progress=False)
    changed = b"U" + ROWS[1:]
    (folder / "rows.tsv").write_bytes(changed)
    status = verify("toy")
    assert not status.is_verified
    assert f"rows.tsv must have SHA-256 {sha256(ROWS)}; got {sha256(changed)}" in str(status)
    (folder / "rows.tsv").unlink()
    assert (fetch("toy", progress=False) / "rows.tsv").read_bytes() == ROWS


def test_remains_of_another_file_set_are_removed(site, cache: Path, monkeypatch):
    site.files["/whole.bin"] = ROWS
    whole = SiteSource(f"{site.url}/", (_file("whole.bin", "whole.bin", ROWS),))
    _register(monkeypatch, SiteSource(f"{site.url}/gone/", FILES), whole)
    asset_dir("toy").mkdir(parents=True)
    (asset_dir("toy") / "rows.tsv").write_bytes(b"half a file")
    folder = fetch("toy", progress=False)
    assert sorted(path.name for path in folder.iterdir()) == ["tailwise-asset.json", "whole.bin"]


def test_verify_of_an_asset_never_fetched_says_absent(cache: Path):
    status = verify("ml-100k")
    assert status.state == "absent"
    assert "Run `tailwise assets fetch ml-100k`" in str(status)


def test_parallel_fetches_share_one_download(site, cache: Path, monkeypatch):
    site.files["/toy.zip"] = WHEEL
    _register(monkeypatch, ArchiveSource(f"{site.url}/toy.zip", sha256(WHEEL), len(WHEEL), FILES))
    folders: list[Path] = []
    threads = [
        threading.Thread(target=lambda: folders.append(fetch("toy", progress=False)), daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert folders == [asset_dir("toy")] * 4
    assert len(site.requests) == 1


def test_unknown_name_lists_near_matches():
    with pytest.raises(AssetError, match=r"got 'ml100k'.\n  Did you mean 'ml-100k'"):
        get_asset("ml100k")


def test_cache_follows_the_variable_and_else_the_users_cache_folder(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    monkeypatch.delenv("TAILWISE_CACHE")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_dir() == tmp_path / "xdg" / "tailwise"


def test_unwritable_cache_names_folder_and_variable(tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path / "file"))
    with pytest.raises(AssetError, match=r"cache folder must be writable; got .*(?s:.*)Set TAILWISE_CACHE"):
        fetch("ml-100k", progress=False)


@pytest.mark.parametrize("asset", list_assets(), ids=lambda asset: asset.name)
def test_registry_entries_are_complete_and_pinned(asset: Asset):
    assert asset.licence
    assert len(asset.sources) >= 2
    for source in asset.sources:
        assert source.files
        for file in source.files:
            assert len(file.sha256) == 64
            assert file.n_bytes > 0


def test_equal_file_sets_of_two_sources_count_once():
    assert [len(files) for files in get_asset("ml-100k").file_sets] == [2, 2]
    assert [len(files) for files in get_asset("smollm2-135m").file_sets] == [1, 6]


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["ml-100k", "completejourney"])
def test_data_sets_fetch_and_verify(name: str, fetched):
    fetched(name)
    assert verify(name).is_verified
