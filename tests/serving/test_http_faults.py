"""A database that dies, a disk that fills while the service is asked: what was acknowledged is kept, once."""

import asyncio
import os
import resource
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .http_client import Client, DatabaseLog, ids

NOW = 1_764_000_000.0


def event(event_id, **fields):
    given = {"event_id": event_id, "type": "click", "user_id": "ann", "item_id": "a05", "occurred_at": NOW}
    return given | fields


class Load:
    """Callers that send batches and ask for lists until they are stopped."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.acknowledged: set[str] = set()
        self.lists: dict[bool, set[str]] = {True: set(), False: set()}  # by "logged"
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.n_spooled = 0
        self.goes_on = True

    async def call(self, caller: int) -> None:
        for number in range(5_000):
            if not self.goes_on:
                return
            names = [f"{caller}-{number}-{i}" for i in range(3)]
            batch = {"events": [event(name, user_id=f"u{caller}") for name in names]}
            sent = await self.client.asking("POST", "/v1/events", batch)
            self.statuses["events", sent.status_code] += 1
            if sent.status_code == 200:
                self.acknowledged.update(names)
                self.n_spooled += sent.json()["n_spooled"]
            body = {"surface": "home", "user_id": f"u{caller}", "history": ["a03"], "k": 2}
            listed = await self.client.asking("POST", "/v1/recommendations", body)
            self.statuses["lists", listed.status_code] += 1
            if listed.status_code == 200:
                assert ids(listed.json()) == ["a04", "a05"]
                self.lists[listed.json()["logged"]].add(listed.json()["recommendation_id"])
            await asyncio.sleep(0.005)

    @contextmanager
    def running(self, n_callers: int = 4) -> Iterator[None]:
        async def all_of_them() -> None:
            await asyncio.gather(*(self.call(caller) for caller in range(n_callers)))

        running = asyncio.run_coroutine_threadsafe(all_of_them(), self.client._loop)
        try:
            yield
        finally:
            self.goes_on = False
            running.result(30)

    def wait_for_more(self, n: int) -> None:
        so_far = len(self.acknowledged)
        wait_for(lambda: len(self.acknowledged) >= so_far + n)


def wait_for(is_so, timeout_s=40.0):
    last = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < last
        time.sleep(0.02)


def test_a_killed_database_stops_no_answer_and_loses_nothing(new_postgres, tmp_path):
    server = new_postgres()
    log = DatabaseLog.open(server.new_schema(), tmp_path / "spool")
    client = Client(tmp_path, log=log)
    load = Load(client)
    with load.running():
        load.wait_for_more(60)
        assert load.n_spooled == 0
        server.kill()
        wait_for(lambda: load.n_spooled > 100)
        load.wait_for_more(60)
        ready = client.ask("GET", "/readyz")
        assert (ready.status_code, log.state().database) == (200, "down")
        assert client.ask("DELETE", "/v1/users/u0").status_code == 503  # cannot be promised now
        assert client.forgotten == []
        server.start()
        wait_for(lambda: log.state().database == "up")
        load.wait_for_more(60)
    wait_for(lambda: log.state().spooled_records == 0)
    assert set(load.statuses) == {("events", 200), ("lists", 200)}
    assert load.lists[False] == set()
    kept = log.lists
    assert load.lists[True] == {each.recommendation_id for each in kept}
    assert load.acknowledged == set(log.events)  # which finds itself what is there twice
    client.close()


class SmallDisk:
    """A file system of 1 MiB, mounted; what fills it is our own load."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            for n_bytes in (4096, 1):
                try:
                    while True:
                        file.write(b"x" * n_bytes)
                except OSError:
                    continue

    def relieve(self) -> None:
        self._ballast.unlink()


class NoMoreBytes:
    """The kernel's limit of a process's files, at none: every write fails, whoever runs the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._before[1]))

    def relieve(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


@pytest.fixture(params=["a small file system", "a limit of the process"])
def disk(request, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "a limit of the process":
        limit = NoMoreBytes(folder)
        yield limit
        limit.relieve()
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root and a kernel that lets it")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_on_a_full_disk_no_event_is_acknowledged_and_lists_go_on_unlogged(disk, tmp_path):
    log = DatabaseLog.open(f"sqlite:///{disk.folder}/events.db", disk.folder / "spool")
    client = Client(tmp_path, log=log)

    def send(*names):
        return client.ask(
            "POST", "/v1/events", {"events": [event(name, session_id="s" * 200) for name in names]}
        )

    def listed():
        answer = client.lists(user_id="ann", history=["a03"], k=2)
        assert ids(answer) == ["a04", "a05"]
        return answer["logged"]

    assert send("before").status_code == 200
    assert listed() is True
    disk.fill()
    try:
        acknowledged, refused = {"before"}, set()
        for number in range(400):  # what is left of a page takes a few more
            names = {f"{number}-{i}" for i in range(10)}
            answer = send(*names)
            if answer.status_code == 200:
                acknowledged |= names
                continue
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            refused |= names
            if len(refused) >= 50:
                break
        assert len(refused) >= 50
        found = [listed() for _ in range(50)]
        assert found[-5:] == [False] * 5
        assert log.state().database == "down"
        assert client.ask("GET", "/readyz").status_code == 200
    finally:
        disk.relieve()
    wait_for(lambda: log.state().database == "up" and log.state().spooled_records == 0)
    assert listed() is True
    assert acknowledged <= set(log.events)
    assert send(*refused).status_code == 200  # as docs/serving.md tells clients to
    assert set(log.events) == acknowledged | refused
    client.close()
