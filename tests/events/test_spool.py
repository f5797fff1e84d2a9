"""What is on disk while the database is away, and what becomes of it however a process ends."""

import asyncio
import fcntl
import json
import stat
from pathlib import Path

import pytest

from tailwise.events import EventLog
from tailwise.events._frames import encode_frames, read_frames
from tailwise.events._rows import row_of_event
from tailwise.events._spool import Spool, adopt_spools
from tests.events.making import NOON, event, opened, stored, until, using


def records(*names: str) -> list[dict]:
    return [{"event": row_of_event(event(name), NOON)} for name in names]


def names(path: Path) -> list[str | None]:
    return [frame.record["event"]["event_id"] if frame.record else None for frame in read_frames(path)]


def left_by_a_dead_worker(spool: Path, *events: str) -> Path:
    """A segment, as a killed process leaves it: its lock is free, its files are there."""
    dead = Spool(spool)
    dead.append(records(*events))
    dead.close()
    return next(spool.glob("*.spool"))


async def replayed(log: EventLog) -> None:
    await until(lambda: log.state().other_spooled_bytes == 0)


def test_a_line_says_its_length_and_checksum_before_the_json(tmp_path: Path) -> None:
    line = encode_frames([{"a": "ü\n"}])
    assert line == b"00000010 " + line[9:17] + b' {"a":"\\u00fc\\n"}\n'
    (tmp_path / "f").write_bytes(line * 2)
    assert [frame.record for frame in read_frames(tmp_path / "f")] == [{"a": "ü\n"}] * 2


def test_every_place_where_a_file_may_end_leaves_the_whole_lines_before_it(tmp_path: Path) -> None:
    text = encode_frames(records("e1", "e2"))
    first = text.index(b"\n") + 1
    for n_bytes in {*range(0, len(text), 5), first - 1, first, first + 1}:
        (tmp_path / "f").write_bytes(text[:n_bytes])
        whole = [name for name in names(tmp_path / "f") if name is not None]
        assert whole == (["e1"] if n_bytes >= first else [])


def test_any_changed_byte_is_noticed_and_the_other_lines_are_read(tmp_path: Path) -> None:
    text = encode_frames(records("e1", "e2", "e3"))
    first = text.index(b"\n") + 1
    second = text.index(b"\n", first)
    for place in range(first, second, 7):
        (tmp_path / "f").write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        found = names(tmp_path / "f")
        assert (found[0], found[-1]) == ("e1", "e3")
        assert "e2" not in found


def test_files_can_be_read_by_their_owner_alone(spool: Path) -> None:
    left_by_a_dead_worker(spool, "e1")
    assert stat.S_IMODE(spool.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in spool.iterdir()} == {0o600}


def test_the_spool_of_a_dead_worker_is_replayed_and_removed(url: str, spool: Path) -> None:
    left_by_a_dead_worker(spool, "e1", "e2")
    using(url, spool, replayed)
    assert sorted(stored(url)["event_id"]) == ["e1", "e2"]
    assert list(spool.iterdir()) == []


def test_the_spool_of_a_living_worker_is_left_to_it(spool: Path) -> None:
    living = Spool(spool)
    living.append(records("e1"))
    assert list(adopt_spools(spool)) == []
    living.close()
    assert [each.n_records for each in adopt_spools(spool)] == [1]


def test_a_spool_without_a_lock_file_is_found_too(url: str, spool: Path) -> None:
    left_by_a_dead_worker(spool, "e1")
    next(spool.glob("*.lock")).unlink()
    using(url, spool, replayed)
    assert stored(url)["event_id"].to_list() == ["e1"]


def test_a_torn_last_line_is_dropped(url: str, spool: Path) -> None:
    segment = left_by_a_dead_worker(spool, "e1", "never-acknowledged")
    segment.write_bytes(segment.read_bytes()[:-5])
    using(url, spool, replayed)
    assert stored(url)["event_id"].to_list() == ["e1"]
    assert list(spool.iterdir()) == []


def test_a_damaged_line_is_kept_for_people_to_look_at(
    url: str, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    segment = left_by_a_dead_worker(spool, "e1", "e2")
    damaged = segment.read_bytes().replace(b'"e1"', b'"e7"')
    segment.write_bytes(damaged)
    using(url, spool, replayed)
    assert stored(url)["event_id"].to_list() == ["e2"]
    assert [path.read_bytes() for path in spool.iterdir()] == [damaged]
    assert "1 damaged records" in caplog.text


def test_a_record_that_the_database_refuses_is_put_aside_and_the_others_go_in(
    url: str, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = records("bad")
    bad[0]["event"]["user_id"] = None
    dead = Spool(spool)
    dead.append([*records("e1"), *bad, *records("e2")])
    dead.close()
    using(url, spool, replayed)
    assert sorted(stored(url)["event_id"]) == ["e1", "e2"]
    (aside,) = spool.glob("*.refused")
    assert [json.loads(json.dumps(frame.record)) for frame in read_frames(aside)] == bad
    assert "refused by the database: " in caplog.text
    assert "bad" not in caplog.text


def test_an_unforeseen_error_leaves_the_spool_as_it_is(
    url: str, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = left_by_a_dead_worker(spool, "e1")
    before = segment.read_bytes()

    def broken(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    async def work(log: EventLog) -> None:
        await asyncio.sleep(0.5)
        assert (await log.append([event("e2")])).n_new == 1  # the way into the database is not shut by it

    with monkeypatch.context() as patch:
        patch.setattr("tailwise.events._replay.insert", broken)
        using(url, spool, work)
    assert segment.read_bytes() == before
    using(url, spool, replayed)
    assert sorted(stored(url)["event_id"]) == ["e1", "e2"]


def test_a_replay_that_was_stopped_half_way_doubles_nothing(url: str, spool: Path) -> None:
    left_by_a_dead_worker(spool, "e1", "e2")
    using(url, spool, lambda log: log.append([event("e1", received_at=NOON)]))
    using(url, spool, replayed)
    assert sorted(stored(url)["event_id"]) == ["e1", "e2"]


def test_segments_are_replayed_oldest_first_so_that_the_first_of_an_id_is_kept(url: str, spool: Path) -> None:
    dead = Spool(spool)
    for item in ("first", "second"):
        dead.append([{"event": row_of_event(event("e1", item_id=item), NOON)}])
        dead.rotate()
    dead.close()
    using(url, spool, replayed)
    assert stored(url)["item_id"].to_list() == ["first"]


def test_counts_are_those_of_what_is_on_disk(spool: Path) -> None:
    own = Spool(spool)
    own.append(records("e1", "e2"))
    own.rotate()
    own.append(records("e3"))
    assert own.n_records == 3
    assert own.n_bytes == sum(path.stat().st_size for path in spool.glob("*.spool"))
    own.remove(own.segments[0])
    assert own.n_records == 1
    assert own.n_bytes == sum(path.stat().st_size for path in spool.glob("*.spool"))
    own.close()


def test_long_spools_are_cut_into_segments(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailwise.events._spool.SEGMENT_BYTES", 1)
    own = Spool(spool)
    for name in ("e1", "e2", "e3"):
        own.append(records(name))
    assert [names(path) for path in own.segments] == [["e1"], ["e2"], ["e3"]]
    own.close()


def test_a_lock_that_another_worker_took_for_an_orphans_is_left_to_it(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come between the making of a new lock's file and the taking of it."""
    flock, n_calls = fcntl.flock, 0

    def late(file: int, how: int) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            raise BlockingIOError
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    own = Spool(spool)
    own.append([row_of_event(event("e1"), NOON)])
    assert n_calls == 2
    assert [found.worker for found in adopt_spools(spool)] != [own.worker]
    assert [path.stem for path in spool.glob("*.lock")] == [own.worker]  # the other was an orphan's by now
    own.close()


def test_two_logs_of_a_folder_keep_apart(url: str, spool: Path) -> None:
    async def work(one: EventLog) -> None:
        async with opened(url, spool) as other:
            assert len(list(spool.glob("*.lock"))) == 2
            assert (await other.append([event("e1")])).n_new == 1
            assert (await one.append([event("e2")])).n_new == 1

    using(url, spool, work)
    assert list(spool.iterdir()) == []
