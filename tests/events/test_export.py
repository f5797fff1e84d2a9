"""The log as files: whole, by day, and made again only where something changed."""

import os
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from tailwise.errors import ConfigError, LogUnavailableError
from tailwise.events import AttributionWindows, Exported, LogReader
from tailwise.events._export import _alone
from tests.events.making import DAY, HOUR, NOON, event, list_id, served, stored, using

FIRST = date(2023, 11, 15)


def export(url: str, folder: Path, **arguments: object) -> Exported:
    reader = LogReader(url)
    try:
        return reader.export(folder, **arguments)
    finally:
        reader.close()


def append(url: str, spool: Path, *things: object, **arguments: object) -> None:
    async def work(log) -> None:
        for thing in things:
            await (log.record(thing) if hasattr(thing, "answer") else log.append([thing]))

    using(url, spool, work, **arguments)


def files(folder: Path) -> dict[str, int]:
    """Every Parquet file and when it was made."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}


def changed(folder: Path, before: dict[str, int]) -> set[str]:
    return {name for name, moment in files(folder).items() if before.get(name) != moment}


def test_a_day_s_file_holds_that_day_with_its_attribution(url: str, spool: Path, tmp_path: Path) -> None:
    append(
        url, spool, served(1), event("s1", "impression", recommendation_id=list_id(1), at=NOON + 11 * HOUR),
        event("e1", at=NOON + 13 * HOUR),
        event("e2", "purchase", at=NOON + 13 * HOUR, revenue=2.5, currency="EUR"),
    )  # fmt: skip
    out = tmp_path / "out"
    assert export(url, out) == Exported(n_written=3, n_kept=0, n_removed=0, n_rows=5)
    assert set(files(out)) == {
        "events/day=2023-11-15/events.parquet",
        "events/day=2023-11-16/events.parquet",
        "slots/day=2023-11-15/slots.parquet",
    }
    both = pl.scan_parquet(out / "events/**/*.parquet", hive_partitioning=False).collect().sort("seq")
    assert both.equals(stored(url).sort("seq"))
    assert both["attribution"].to_list() == ["named", "window", "window"]
    slots = pl.read_parquet(out / "slots/day=2023-11-15/slots.parquet")
    assert slots.select("position", "item_id", "segment", "propensity").rows() == [
        (1, "i1", "head", 0.5),
        (2, "i2", "tail", 0.25),
    ]


def test_only_days_that_something_can_change_are_written_again(url: str, spool: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    append(url, spool, *(event(f"e{i}", at=NOON + i * DAY) for i in (0, 1, 7, 9)), served(1))
    assert export(url, out).n_written == 5
    before = files(out)
    assert export(url, out) == Exported(n_written=0, n_kept=5, n_removed=0, n_rows=0)
    # An impression of the first day can change purchases up to a week later, not nine days later.
    append(url, spool, event("s1", "impression", recommendation_id=list_id(1), at=NOON - HOUR))
    export(url, out)
    assert changed(out, before) == {f"events/day=2023-11-{day}/events.parquet" for day in (15, 16, 22)}
    assert (
        pl.read_parquet(out / "events/day=2023-11-15/events.parquet").sort("event_id")["attribution"][0]
        == "window"
    )
    before = files(out)
    export(url, out, windows=AttributionWindows(click_s=HOUR))
    assert len(changed(out, before)) == 4


def test_a_list_that_arrives_a_year_late_reaches_the_events_that_name_it(
    url: str, spool: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    append(url, spool, event("e1", recommendation_id=list_id(1)))
    export(url, out)
    append(url, spool, served(1, at=NOON - 365 * DAY))
    export(url, out)
    table = pl.read_parquet(out / "events/day=2023-11-15/events.parquet")
    assert table["attribution"].to_list() == ["named"]


def test_the_days_can_be_chosen(url: str, spool: Path, tmp_path: Path) -> None:
    append(url, spool, *(event(f"e{i}", at=NOON + i * DAY) for i in range(4)))
    export(url, tmp_path / "out", since=date(2023, 11, 16), until=date(2023, 11, 18))
    assert set(files(tmp_path / "out")) == {f"events/day=2023-11-{day}/events.parquet" for day in (16, 17)}


def test_a_deleted_user_leaves_the_files_at_the_next_export(url: str, spool: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    append(url, spool, event("e1"), event("e2", user_id="u2"), event("e3", at=NOON + DAY), served(1))
    export(url, out)
    using(url, spool, lambda log: log.delete_user("u1", by="k", reason="r"))
    assert export(url, out).n_removed == 2
    assert set(files(out)) == {"events/day=2023-11-15/events.parquet"}
    assert pl.read_parquet(out / "events/day=2023-11-15/events.parquet")["event_id"].to_list() == ["e2"]


def test_what_a_retention_deletes_stays_in_the_files(url: str, spool: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    named = [event(f"e{i}", recommendation_id=list_id(1), at=NOON + i * DAY, received_at=NOON + i * DAY)
             for i in range(12)]  # fmt: skip
    append(url, spool, served(1), *named)
    export(url, out)
    before = files(out)
    using(url, spool, lambda log: log.retain(6, by="cron"), clock=lambda: NOON + 11 * DAY)
    assert len(stored(url)) == 7
    export(url, out)
    assert changed(out, before) == set()
    assert len(files(out)) == 13
    # But what is new in a day that the log still has whole is written.
    append(url, spool, event("new", at=NOON + 7 * DAY + 1, received_at=NOON + 7 * DAY))
    export(url, out)
    assert changed(out, before) >= {"events/day=2023-11-22/events.parquet"}


def test_an_export_through_the_log_is_the_same(url: str, spool: Path, tmp_path: Path) -> None:
    append(url, spool, event("e1"))
    assert using(url, spool, lambda log: log.export(tmp_path / "a")).n_written == 1
    export(url, tmp_path / "b")
    one, other = (pl.read_parquet(tmp_path / name / "events/day=2023-11-15/events.parquet") for name in "ab")
    assert one.equals(other)


def test_pieces_join_to_one_file(
    url: str, spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailwise.events._frames_out.EVENTS_AT_ONCE", 3)
    monkeypatch.setattr("tailwise.events._frames_out.LISTS_AT_ONCE", 2)
    append(url, spool, *(event(f"e{i}", at=NOON + i) for i in range(10)), *(served(i) for i in range(5)))
    assert export(url, tmp_path).n_rows == 20
    table = pl.read_parquet(tmp_path / "events/day=2023-11-15/events.parquet")
    assert table["event_id"].to_list() == [f"e{i}" for i in range(10)]


def test_a_stopped_export_leaves_no_half_file_and_goes_on(
    url: str, spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(url, spool, event("e1"), event("e2", at=NOON + DAY))
    out = tmp_path / "out"
    partial = out / "events/day=2023-11-15/.abc.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"half")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            export(url, out)
    assert [path for path in out.rglob("*") if path.is_file() and path.name != ".lock"] == []
    assert export(url, out).n_written == 2


def test_two_exports_into_one_folder_do_not_meet(url: str, spool: Path, tmp_path: Path) -> None:
    append(url, spool, event("e1"))
    with _alone(tmp_path), pytest.raises(ConfigError, match="another writes into"):
        export(url, tmp_path)


def test_a_log_that_is_away_cannot_be_read_and_says_so(tmp_path: Path) -> None:
    reader = LogReader(f"postgresql://nobody@/nothing?host={tmp_path}")
    with pytest.raises(LogUnavailableError, match="cannot be read now: OperationalError"):
        next(iter(reader.events()))
