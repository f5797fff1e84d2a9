"""The log only grows; what is deleted is deleted on purpose, and it is written down."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tailwise.errors import LogUnavailableError
from tailwise.events import Deleted, EventLog, LogReader
from tailwise.events._database import Database
from tailwise.events._rows import row_of_event, row_of_list
from tailwise.events._spool import Spool
from tailwise.events._tables import DELETIONS, METADATA
from tests.events.making import DAY, NOON, event, served, stored, until, using
from tests.postgres import PostgresServer


def rows(url: str, statement: Any) -> list[Any]:
    database = Database(url)
    with database.reading() as connection:
        found = list(connection.execute(sa.text(statement) if isinstance(statement, str) else statement))
    database.close()
    return found


def execute(url: str, *statements: str) -> None:
    database = Database(url)
    try:
        with database.writing() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))
    finally:
        database.close()


async def fill(log: EventLog) -> None:
    await log.append(
        [
            event("e1", "impression"),
            event("e2", "click"),
            event("e3", "purchase", user_id="u2"),
            event("e4", "purchase", at=NOON + DAY),
        ]
    )
    await log.record(served(1))
    await log.record(served(2, user_id="u2"))
    await log.record(served(3, user_id=None))


def test_the_migrated_tables_are_those_that_the_code_describes(url: str) -> None:
    database = Database(url)
    with database.writing() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "log_version"})
        assert compare_metadata(context, METADATA) == []
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET item_id = 'x'",
        "UPDATE lists SET user_id = NULL",
        "DELETE FROM events",
        "DELETE FROM lists WHERE user_id = 'u1'",
        "DELETE FROM deletions",
        "UPDATE deletions SET n_events = 0",
    ],
)
def test_the_database_itself_refuses_to_change_the_log(url: str, spool: Path, statement: str) -> None:
    async def work(log: EventLog) -> None:
        await fill(log)
        await log.delete_user("u2", by="key 1", reason="asked")

    using(url, spool, work)
    before = rows(url, "SELECT * FROM events"), rows(url, "SELECT * FROM lists")
    with pytest.raises(sa.exc.DBAPIError, match="is append-only"):
        execute(url, statement)
    assert (rows(url, "SELECT * FROM events"), rows(url, "SELECT * FROM lists")) == before


def test_truncating_and_replacing_are_no_way_around(url: str, spool: Path) -> None:
    using(url, spool, fill)
    if url.startswith("postgresql"):
        with pytest.raises(sa.exc.DBAPIError, match="is append-only"):
            execute(url, "TRUNCATE events")
    else:
        columns = "event_id, type, user_id, item_id, occurred_at, received_at, quantity"
        execute(url, f"INSERT OR REPLACE INTO events ({columns}) VALUES ('e1', 'click', 'u', 'x', 1, 1, 1)")
    assert sorted(stored(url)["item_id"]) == ["i1"] * 4


def test_a_permit_to_delete_cannot_outlive_its_transaction(url: str, spool: Path) -> None:
    using(url, spool, fill)
    values = "('user', 1, 'x', 'y', 0, 0, 1)"
    permit = f'INSERT INTO deletions (kind, at, "by", reason, n_events, n_lists, permit_id) VALUES {values}'
    with pytest.raises(sa.exc.IntegrityError, match=r"(?i)foreign key"):
        execute(url, permit, "DELETE FROM events")
    assert len(stored(url)) == 4


def test_a_deleted_user_is_gone_and_others_are_not(url: str, spool: Path) -> None:
    async def work(log: EventLog) -> Deleted:
        await fill(log)
        return await log.delete_user("u1", by="key 7", reason="request 12")

    assert using(url, spool, work, clock=lambda: NOON + 5) == Deleted(n_events=3, n_lists=1)
    assert stored(url)["event_id"].to_list() == ["e3"]
    reader = LogReader(url)
    assert set(next(iter(reader.slots()))["user_id"]) == {"u2", None}
    reader.close()
    (told,) = rows(url, sa.select(DELETIONS))
    assert (told.kind, told.at, told.by, told.reason) == ("user", NOON + 5, "key 7", "request 12")
    assert (told.n_events, told.n_lists, told.permit_id) == (3, 1, None)
    assert len(told.user_hash) == 64
    everything = [repr(rows(url, sa.select(table))) for table in METADATA.sorted_tables]
    assert "u1" not in "".join(everything)


def test_one_log_hashes_a_user_the_same_each_time_and_another_log_differently(
    tmp_path: Path, spool: Path
) -> None:
    hashes = []
    for name in ("a", "b"):
        url = f"sqlite:///{tmp_path}/{name}.db"
        for _ in range(2):
            using(url, spool, lambda log: log.delete_user("u1", by="k", reason="r"))
        hashes.append({told.user_hash for told in rows(url, sa.select(DELETIONS))})
    assert [len(each) for each in hashes] == [1, 1]
    assert hashes[0] != hashes[1]


def test_deletions_tell_who_was_deleted_only_to_those_who_know_the_user(url: str, spool: Path) -> None:
    async def work(log: EventLog) -> None:
        await fill(log)
        none = await log.user_deletions()
        assert (none.number, none.among(["u1", "u2"])) == (0, [])
        await log.delete_user("u1", by="k", reason="r")
        first = await log.user_deletions()
        assert first.among(["u2", "u1", "u3"]) == ["u1"]
        assert "u1" not in repr(first)
        await log.retain(1, by="cron")
        await log.delete_user("u2", by="k", reason="r")
        later = await log.user_deletions(first.number)
        assert later.among(["u1", "u2"]) == ["u2"]
        assert (await log.user_deletions(later.number)).number == later.number

    using(url, spool, work)


def test_deletions_cannot_be_told_while_the_database_is_away(victim: PostgresServer, spool: Path) -> None:
    url = victim.new_schema()

    async def work(log: EventLog) -> None:
        victim.kill()
        with pytest.raises(LogUnavailableError, match="cannot be read now"):
            await log.user_deletions()

    using(url, spool, work)


def test_the_audit_may_not_name_the_user(url: str, spool: Path) -> None:
    async def work(log: EventLog) -> None:
        with pytest.raises(ValueError, match="reason must not contain the user's id"):
            await log.delete_user("u1", by="k", reason="u1 wrote to us")
        with pytest.raises(ValueError, match=r"by must have 1..256 characters; got 0"):
            await log.delete_user("u1", by="", reason="r")

    using(url, spool, work)
    assert rows(url, sa.select(DELETIONS)) == []


def test_what_a_spool_held_of_a_deleted_user_does_not_come_back(url: str, spool: Path) -> None:
    """Another worker's spool holds events from before the deletion, and one from after."""
    living = Spool(spool)

    def record(name: str, user: str, received_at: float) -> dict:
        return {"event": row_of_event(event(name, user_id=user), received_at)}

    living.append([record("old", "u1", NOON), record("other", "u2", NOON), record("new", "u1", NOON + 20)])
    living.append([{"list": row_of_list(served(1, at=NOON))}, {"list": row_of_list(served(2, at=NOON + 20))}])

    async def work(log: EventLog) -> None:
        assert await log.delete_user("u1", by="k", reason="r") == Deleted(0, 0)
        living.close()
        await until(lambda: log.state().other_spooled_bytes == 0)

    using(url, spool, work, clock=lambda: NOON + 10)
    assert sorted(stored(url)["event_id"]) == ["new", "other"]
    assert len(rows(url, "SELECT * FROM lists")) == 1


def test_what_waits_in_memory_when_a_user_is_deleted_goes_too(url: str, spool: Path) -> None:
    async def work(log: EventLog) -> Deleted:
        waiting = [asyncio.create_task(log.append([event(f"e{i}")])) for i in range(50)]
        await asyncio.sleep(0)
        deleted = await log.delete_user("u1", by="k", reason="r")
        await asyncio.gather(*waiting)
        return deleted

    assert using(url, spool, work).n_events == 50
    assert len(stored(url)) == 0


def test_a_deletion_during_an_outage_is_refused(victim: PostgresServer, spool: Path) -> None:
    url = victim.new_schema()

    async def work(log: EventLog) -> None:
        await log.append([event("e1")])
        victim.kill()
        with pytest.raises(LogUnavailableError, match="database is away"):
            await log.delete_user("u1", by="k", reason="r")

    using(url, spool, work)
    victim.start()
    assert len(stored(url)) == 1


def test_retention_deletes_what_was_received_before_and_says_so(
    url: str, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailwise.events._deletion.ROWS_AT_ONCE", 7)

    async def work(log: EventLog) -> None:
        await log.append([event(f"e{i}", received_at=NOON + i * DAY) for i in range(20)])
        for i in range(20):
            await log.record(served(i, at=NOON + i * DAY))
        assert await log.retain(5, by="cron") == Deleted(n_events=15, n_lists=15)
        assert await log.retain(5, by="cron") == Deleted(0, 0)
        with pytest.raises(ValueError, match="days must be > 0; got 0"):
            await log.retain(0, by="cron")

    using(url, spool, work, clock=lambda: NOON + 20 * DAY)
    assert sorted(stored(url)["event_id"]) == [f"e{i}" for i in range(15, 20)]
    told = rows(url, sa.select(DELETIONS))
    assert {each.kind for each in told} == {"retention"}
    assert sum(each.n_events for each in told) == sum(each.n_lists for each in told) == 15
    assert {each.before for each in told} == {NOON + 15 * DAY}


def test_an_event_of_a_deleted_user_that_is_sent_again_is_new(url: str, spool: Path) -> None:
    async def work(log: EventLog) -> None:
        await log.append([event("e1")])
        await log.delete_user("u1", by="k", reason="r")
        assert (await log.append([event("e1")])).n_new == 1

    using(url, spool, work)
