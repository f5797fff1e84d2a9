"""Things that go wrong, for real: acknowledged events lost 0, doubled 0."""

import asyncio
import os
import resource
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailwise.errors import LogUnavailableError
from tailwise.events import Event, EventLog, LogReader
from tests.events.making import NOON, event, opened, served, stored, until, using
from tests.events.processes import append_forever, pipe, start
from tests.postgres import PostgresServer


def received(end: Any, n_least: int, timeout_s: float = 60.0) -> set[str]:
    """Ids that a process says were acknowledged, at least so many."""
    found: set[str] = set()
    last = time.monotonic() + timeout_s
    while len(found) < n_least:
        assert time.monotonic() < last, f"only {len(found)} events were acknowledged"
        if end.poll(0.1):
            found.update(end.recv())
    return found


def drained(end: Any) -> set[str]:
    """The rest of what a killed process had said."""
    found: set[str] = set()
    try:
        while end.poll(0):
            found.update(end.recv())
    except (EOFError, OSError):
        pass
    return found


def assert_whole(url: str, acknowledged: set[str]) -> None:
    """Each acknowledged event is in the log, and no event is there twice."""
    counts = Counter(stored(url)["event_id"].to_list())
    assert acknowledged <= set(counts)
    assert set(counts.values()) == {1}


def test_a_killed_process_loses_nothing_that_it_acknowledged(url: str, spool: Path) -> None:
    reading, writing = pipe()
    writer = start(append_forever, url, spool, "a", writing)
    writing.close()
    acknowledged = received(reading, 200)
    os.kill(writer.pid, 9)
    writer.join(10)
    acknowledged |= drained(reading)
    using(url, spool, lambda log: log.append([event("after")]))
    assert_whole(url, acknowledged | {"after"})


def test_a_process_killed_in_an_outage_leaves_a_spool_that_the_next_replays(
    victim: PostgresServer, spool: Path
) -> None:
    url = victim.new_schema()
    using(url, spool, lambda log: log.append([event("before")]))
    victim.kill()
    reading, writing = pipe()
    writer = start(append_forever, url, spool, "a", writing)
    writing.close()
    acknowledged = received(reading, 200)
    os.kill(writer.pid, 9)
    writer.join(10)
    acknowledged |= drained(reading)
    victim.start()

    async def wait_for_replay(log: EventLog) -> None:
        await until(lambda: log.state().other_spooled_bytes == 0)

    using(url, spool, wait_for_replay)
    assert_whole(url, acknowledged | {"before"})
    assert list(spool.iterdir()) == []


def test_a_killed_database_loses_nothing_and_recommendations_go_on(
    victim: PostgresServer, spool: Path
) -> None:
    url = victim.new_schema()
    acknowledged: set[str] = set()
    lists = 0
    waits: list[float] = []

    async def run() -> None:
        nonlocal lists
        async with opened(url, spool) as log:
            goes_on = True

            async def call(caller: int) -> None:
                nonlocal lists
                for i in range(100_000):
                    if not goes_on:
                        return
                    before = time.monotonic()
                    await log.append([event(f"{caller}-{i}")])
                    acknowledged.add(f"{caller}-{i}")
                    await log.record(served(caller * 100_000 + i))
                    lists += 1
                    waits.append(time.monotonic() - before)
                    await asyncio.sleep(0.002)

            callers = [asyncio.create_task(call(caller)) for caller in range(4)]
            await until(lambda: len(acknowledged) > 50)
            assert log.state().database == "up"
            await asyncio.to_thread(victim.kill)
            await until(lambda: log.state().database == "down")
            so_far = len(acknowledged)
            await until(lambda: len(acknowledged) > so_far + 200)
            state = log.state()
            assert state.spooled_records > 100
            assert state.spooled_bytes > 100 * state.spooled_records
            assert state.last_error is not None
            await asyncio.to_thread(victim.start)
            await until(lambda: log.state().database == "up")
            so_far = len(acknowledged)
            await until(lambda: len(acknowledged) > so_far + 50)
            goes_on = False
            await asyncio.gather(*callers)
            await until(lambda: log.state().spooled_records == 0)

    asyncio.run(run())
    assert_whole(url, acknowledged)
    reader = LogReader(url)
    n_lists = sum(frame["recommendation_id"].n_unique() for frame in reader.slots())
    reader.close()
    assert n_lists == lists
    assert max(waits) < 6, "a caller waited for a database that was known to be away"
    assert list(spool.iterdir()) == []


def test_a_database_that_hangs_is_given_up_and_later_callers_do_not_wait(
    victim: PostgresServer, spool: Path
) -> None:
    url = victim.new_schema()

    async def work(log: EventLog) -> None:
        await log.append([event("before")])
        victim.freeze()
        try:
            begin = time.monotonic()
            assert (await log.append([event("first")])).n_spooled == 1
            assert 0.5 < time.monotonic() - begin < 4
            begin = time.monotonic()
            assert (await log.append([event("second")])).n_spooled == 1
            await log.record(served(1))
            assert time.monotonic() - begin < 0.4
            with pytest.raises(LogUnavailableError, match="cannot be read now"):
                await log.items("u1")
            begin = time.monotonic()
            with pytest.raises(LogUnavailableError, match="a moment ago"):
                await log.items("u1")
            assert time.monotonic() - begin < 0.2
        finally:
            victim.thaw()
        await until(lambda: log.state().database == "up" and log.state().spooled_records == 0)

    using(url, spool, work, write_timeout_s=1.0)
    assert sorted(stored(url)["event_id"]) == ["before", "first", "second"]


def test_a_log_opens_while_its_database_is_away(victim: PostgresServer, spool: Path) -> None:
    url = victim.new_schema()
    victim.kill()

    async def work(log: EventLog) -> None:
        assert log.state().database == "down"
        assert (await log.append([event("e1"), event("e1"), event("e2")])).n_spooled == 2
        victim.start()
        await until(lambda: log.state().database == "up")
        assert (await log.append([event("e1"), event("e3")])).n_duplicates == 1

    using(url, spool, work)
    assert sorted(stored(url)["event_id"]) == ["e1", "e2", "e3"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB; without the right to mount one, the test is skipped."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root and a kernel that lets it")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def fill(log: EventLog, name: str) -> set[str]:
    """Append until the log says that it cannot; what it acknowledged before."""
    acknowledged: set[str] = set()
    for i in range(10_000):
        batch = [event(f"{name}-{i}-{j}", session_id="s" * 200) for j in range(10)]
        try:
            await log.append(batch)
        except LogUnavailableError as error:
            if "Neither the event log's database nor its spool can be written" not in str(error):
                raise
            return acknowledged
        acknowledged |= {each.event_id for each in batch}
    raise AssertionError("the disk never filled")


def test_a_full_disk_is_said_and_nothing_acknowledged_is_lost(small_disk: Path) -> None:
    """Database and spool on one small disk that fills, is relieved, and fills again."""
    url, spool = f"sqlite:///{small_disk}/events.db", small_disk / "spool"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 300_000)

    async def work(log: EventLog) -> set[str]:
        acknowledged = await fill(log, "a")
        assert log.state().database == "down"
        assert "No space left" in (log.state().last_error or "")
        ballast.unlink()
        await until(lambda: log.state().database == "up" and log.state().spooled_records == 0)
        kept = await log.append([event("relieved")])
        assert kept.n_new == 1
        return acknowledged | {"relieved"}

    acknowledged = using(url, spool, work)
    assert len(acknowledged) > 100
    assert_whole(url, acknowledged)


def test_a_spool_that_is_full_keeps_what_it_acknowledged(victim: PostgresServer, spool: Path) -> None:
    """A limit of the process, not of the disk: the kernel stops the write half-way through a batch."""
    url = victim.new_schema()
    using(url, spool, lambda log: log.append([event("before")]))
    victim.kill()
    reading, writing = pipe()
    writer = start(fill_within, url, spool, 50_000, writing)
    acknowledged = set(reading.recv())
    writer.join(30)
    assert writer.exitcode == 0
    assert len(acknowledged) > 50
    victim.start()

    async def wait_for_replay(log: EventLog) -> None:
        await until(lambda: log.state().other_spooled_bytes == 0)

    using(url, spool, wait_for_replay)
    assert_whole(url, acknowledged | {"before"})


def fill_within(url: str, spool: Path, n_bytes: int, acknowledged: Any) -> None:
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))

    async def main() -> None:
        async with opened(url, spool) as log:
            acknowledged.send(await fill(log, "a"))

    asyncio.run(main())


def test_a_clock_that_jumps_changes_no_order_and_loses_nothing(url: str, spool: Path) -> None:
    times = iter([NOON, NOON - 86_400, NOON + 7, NOON - 400 * 86_400, NOON])

    async def work(log: EventLog) -> None:
        for i in range(4):
            assert (await log.append([event(f"e{i}", "purchase", item_id=f"i{i}", at=NOON + i)])).n_new == 1
        assert [item.item_id for item in await log.items("u1")] == ["i0", "i1", "i2", "i3"]
        assert (await log.append([event("e1", "purchase", item_id="i1", at=NOON + 1)])).n_duplicates == 1

    using(url, spool, work, clock=lambda: next(times))
    rows = stored(url).sort("seq")
    assert rows["event_id"].to_list() == ["e0", "e1", "e2", "e3"]
    assert rows["received_at"].to_list() == [NOON, NOON - 86_400, NOON + 7, NOON - 400 * 86_400]


def test_an_event_is_in_the_log_when_its_append_returns(url: str, spool: Path) -> None:
    """Seen from another connection, not from the one that wrote."""
    seen: list[int] = []

    async def work(log: EventLog) -> None:
        for i in range(5):
            await log.append([Event(f"e{i}", "click", "u1", "i1", NOON)])
            seen.append(len(stored(url)))

    using(url, spool, work)
    assert seen == [1, 2, 3, 4, 5]
