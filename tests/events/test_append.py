"""Events go in once, whoever sends them and however often."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from tailwise.errors import ConfigError, LogUnavailableError
from tailwise.events import Appended, EventLog
from tailwise.serving import ListSink, LiveHistory, LoggedItem
from tests.events.making import HOUR, NOON, event, list_id, opened, served, stored, using
from tests.events.processes import append_shared, start


def test_an_event_comes_back_as_it_went_in(url: str, spool: Path) -> None:
    bought = event(
        "e1", "purchase", user_id="ü\u202e1", item_id="<b>'; DROP TABLE events", received_at=NOON + 1.25,
        position=3, session_id="s1", quantity=2, revenue=Decimal("19.9900"), currency="EUR",
        recommendation_id=list_id(1),
    )  # fmt: skip
    using(url, spool, lambda log: log.append([bought]))
    row = stored(url).row(0, named=True)
    assert row["client_position"] == 3
    assert row["revenue"] == Decimal("19.99")
    for name in ("event_id", "type", "user_id", "item_id", "occurred_at", "received_at", "session_id",
                 "quantity", "currency", "recommendation_id"):  # fmt: skip
        assert row[name] == getattr(bought, name)


def test_an_event_without_a_moment_of_receipt_gets_the_clock_s(url: str, spool: Path) -> None:
    using(url, spool, lambda log: log.append([event("e1")]), clock=lambda: NOON + 5)
    assert stored(url)["received_at"].to_list() == [NOON + 5]


def test_what_is_sent_again_is_counted_and_not_stored(url: str, spool: Path) -> None:
    async def work(log: EventLog) -> None:
        assert await log.append([event("e1"), event("e2"), event("e1")]) == Appended(2, 1, 0, 0)
        assert await log.append([event("e2"), event("e3")]) == Appended(1, 1, 0, 0)
        assert await log.append([]) == Appended()

    using(url, spool, work)
    assert stored(url)["event_id"].to_list() == ["e1", "e2", "e3"]


def test_the_same_id_with_other_content_is_reported_and_the_first_is_kept(url: str, spool: Path) -> None:
    async def work(log: EventLog) -> None:
        both = [event("e1", item_id="first"), event("e1", item_id="second")]
        assert await log.append(both) == Appended(1, 1, 1, 0)
        assert await log.append([event("e1", item_id="third")]) == Appended(0, 1, 1, 0)
        # When it arrived is not content.
        assert await log.append([event("e1", item_id="first", received_at=NOON + HOUR)]) == Appended(
            0, 1, 0, 0
        )

    using(url, spool, work)
    assert stored(url)["item_id"].to_list() == ["first"]


def test_two_callers_of_one_transaction_count_an_event_once(url: str, spool: Path) -> None:
    async def work(log: EventLog) -> list[Appended]:
        return await asyncio.gather(*(log.append([event("e1"), event(f"own-{i}")]) for i in range(50)))

    answers = using(url, spool, work)
    assert sum(answer.n_new for answer in answers) == 51
    assert sum(answer.n_duplicates for answer in answers) == 49
    assert len(stored(url)) == 51


def test_two_logs_in_one_database_store_an_event_once(url: str, spool: Path) -> None:
    async def work(one: EventLog) -> list[Appended]:
        async with opened(url, spool) as other:
            logs = (one, other)
            return await asyncio.gather(
                *(logs[i % 2].append([event(f"e{j}") for j in range(i, i + 20)]) for i in range(40))
            )

    answers = using(url, spool, work)
    assert sum(answer.n_new for answer in answers) == 59
    assert sorted(stored(url)["event_id"]) == sorted(f"e{j}" for j in range(59))


def test_many_callers_share_a_transaction(url: str, spool: Path) -> None:
    commits = 0

    async def work(log: EventLog) -> None:
        original = log._writer._commit

        def counted(group):
            nonlocal commits
            commits += 1
            return original(group)

        log._writer._commit = counted
        await asyncio.gather(*(log.append([event(f"e{i}")]) for i in range(300)))

    using(url, spool, work)
    assert len(stored(url)) == 300
    assert commits < 100


def test_processes_that_open_and_write_at_once_do_not_disturb_each_other(url: str, spool: Path) -> None:
    writers = [start(append_shared, url, spool, who) for who in ("a", "b", "c")]
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    expected = [f"{who}-{i}" for who in ("a", "b", "c", "shared") for i in range(40)]
    assert sorted(stored(url)["event_id"]) == sorted(expected)
    assert list(spool.iterdir()) == []


def test_a_full_queue_refuses_and_says_so(url: str, spool: Path) -> None:
    async def work(log: EventLog) -> Appended:
        with log._writer._gate:  # the writer waits
            first = asyncio.create_task(log.append([event("e0")]))
            await asyncio.sleep(0.2)  # it has taken the first
            second = asyncio.create_task(log.append([event(f"e{i}") for i in range(1, 8)]))
            await asyncio.sleep(0)
            with pytest.raises(LogUnavailableError, match=r"queue is full \(7 of 10 rows wait\)"):
                await log.append([event(f"x{i}") for i in range(4)])
            assert log.state().queued == 7
        await first
        return await second

    assert using(url, spool, work, queue_limit=10).n_new == 7
    assert not any(stored(url)["event_id"].str.starts_with("x"))


def test_a_closed_log_refuses_and_what_was_queued_is_kept(url: str, spool: Path) -> None:
    async def run() -> None:
        log = EventLog.open(url, spool=spool)
        waiting = [asyncio.create_task(log.append([event(f"e{i}")])) for i in range(20)]
        await asyncio.sleep(0)
        await log.close(timeout_s=10)
        assert [(await each).n_new for each in waiting] == [1] * 20
        with pytest.raises(LogUnavailableError, match="closed"):
            await log.append([event("late")])
        await log.close(timeout_s=1)

    asyncio.run(run())
    assert len(stored(url)) == 20


def test_the_history_is_what_the_user_bought_oldest_first(url: str, spool: Path) -> None:
    async def work(log: EventLog) -> None:
        sink: ListSink = log
        history: LiveHistory = log
        await sink.record(served(1))
        await log.append(
            [
                event("e3", "purchase", item_id="c", at=NOON + 2),
                event("e1", "purchase", item_id="a", at=NOON),
                event("e2", "purchase", item_id="b", at=NOON),
                event("e4", "click", item_id="d"),
                event("e5", "impression", item_id="e"),
                event("e6", "purchase", item_id="f", user_id="u2"),
            ]
        )
        found = [LoggedItem("a", NOON), LoggedItem("b", NOON), LoggedItem("c", NOON + 2)]
        assert await history.items("u1") == found
        assert await history.items("nobody") == []

    using(url, spool, work)
    both = using(url, spool, lambda log: log.items("u1"), history=("purchase", "click"))
    assert [each.item_id for each in both] == ["a", "b", "d", "c"]


def test_a_long_history_is_cut_to_its_latest_300(url: str, spool: Path) -> None:
    async def work(log: EventLog) -> None:
        await log.append([event(f"e{i:03d}", "purchase", item_id=f"i{i}", at=NOON + i) for i in range(310)])
        found = await log.items("u1")
        assert [each.item_id for each in found] == [f"i{i}" for i in range(10, 310)]

    using(url, spool, work)


def test_a_list_is_kept_once_with_all_that_it_says(url: str, spool: Path) -> None:
    async def work(log: EventLog) -> None:
        await log.record(served(1, "i7 i8"))
        await log.record(served(1, "i9"))

    from tailwise.events import LogReader

    using(url, spool, work)
    reader = LogReader(url)
    slots = next(iter(reader.slots()))
    reader.close()
    assert slots["item_id"].to_list() == ["i7", "i8"]
    assert slots["propensity"].to_list() == [0.5, 0.25]
    row = slots.row(1, named=True)
    said = (
        "treatment",
        "discovery-eisam",
        2,
        True,
        "discovery",
        "tail",
        2,
        '{"page":"start","is_app":true}',
        0.7,
    )
    names = ["variant", "experiment", "stage", "in_experiment", "surface", "segment", "position", "context"]
    names.append("temperature")
    assert tuple(row[name] for name in names) == said


def test_a_list_that_cannot_be_written_down_is_refused_by_itself(url: str, spool: Path) -> None:
    async def work(log: EventLog) -> None:
        with pytest.raises(ValueError, match="user_id must have no control characters"):
            await log.record(served(1, user_id="a\x00"))
        with pytest.raises(ValueError, match="JSON compliant"):
            await log.record(served(1, context={"score": float("nan")}))
        assert log.state().database == "up"

    using(url, spool, work)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "not durable"),
        ("mysql://localhost/x", "must begin with sqlite: or postgresql:; got mysql:"),
        ("nonsense with secret", "cannot be read"),
    ],
)
def test_a_url_that_cannot_keep_a_log_is_refused(bad: str, message: str, spool: Path) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        EventLog.open(bad, spool=spool)
    assert "secret" not in str(raised.value)


def test_arguments_out_of_range_are_refused(tmp_path: Path, spool: Path) -> None:
    url = f"sqlite:///{tmp_path}/events.db"
    with pytest.raises(ValueError, match="queue_limit must be >= 1; got 0"):
        EventLog.open(url, spool=spool, queue_limit=0)
    with pytest.raises(ValueError, match=r"history must be .*got .'impression'"):
        EventLog.open(url, spool=spool, history=("impression",))


def test_a_spool_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogUnavailableError, match="must be a folder that can be written"):
        EventLog.open(f"sqlite:///{tmp_path}/events.db", spool=tmp_path / "file" / "spool")
