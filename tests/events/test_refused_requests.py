"""Requests without a list are rows of the log, and are taken for a list by none of its readers."""

import json
from pathlib import Path

import polars as pl
import sqlalchemy as sa

from tailwise.events import LogReader
from tailwise.events._database import Database
from tailwise.events._tables import LISTS
from tailwise.serving import REFUSED, Answer
from tests.events.making import DAY, NOON, event, list_id, served, stored, using

OVERLOAD = Answer((), REFUSED, "overload")


def rows(url: str) -> list[dict[str, object]]:
    database = Database(url)
    with database.reading() as connection:
        found = [dict(row) for row in connection.execute(sa.select(LISTS)).mappings()]
    database.close()
    return found


def keep(url: str, spool: Path, *lists: object, events: tuple[object, ...] = ()) -> None:
    async def work(log) -> None:
        for each in lists:
            await log.record(each)
        if events:
            await log.append(events)

    using(url, spool, work)


def test_a_refusal_is_stored_with_user_surface_variant_experiment_stage_and_reason(url, spool):
    keep(url, spool, served(1, answer=OVERLOAD))
    (row,) = rows(url)
    told = ("user_id", "surface", "variant", "experiment", "stage", "in_experiment", "method", "reason")
    assert [row[name] for name in told] == [
        "u1", "discovery", "treatment", "discovery-eisam", 2, True, "refused", "overload",
    ]  # fmt: skip
    assert json.loads(row["slots"]) == []


def test_nothing_is_owed_to_a_refusal_even_where_an_event_names_it(url, spool):
    click = event("e1", recommendation_id=list_id(1), at=NOON + 1)
    keep(url, spool, served(1, answer=OVERLOAD), events=(click,))
    (row,) = stored(url).rows(named=True)
    assert (row["attribution"], row["variant"]) == ("none", None)


def test_audits_coverage_and_off_policy_estimates_read_slots_and_a_refusal_has_none(url, spool, tmp_path):
    keep(url, spool, served(1), served(2, answer=OVERLOAD), served(3, answer=OVERLOAD, at=NOON + DAY))
    reader = LogReader(url)
    slots = pl.concat(reader.slots())
    done = reader.export(tmp_path / "out")
    reader.close()
    assert slots["recommendation_id"].unique().to_list() == [list_id(1)]
    assert done.n_rows == 2
    exported = pl.read_parquet(tmp_path / "out" / "slots" / "*" / "*.parquet")
    assert exported.height == 2


def test_refusals_of_a_deleted_user_go_with_the_lists(url, spool):
    keep(url, spool, served(1), served(2, answer=OVERLOAD), served(3, answer=OVERLOAD, user_id="u2"))
    deleted = using(url, spool, lambda log: log.delete_user("u1", by="key 7", reason="request 12"))
    assert deleted.n_lists == 2
    assert [row["user_id"] for row in rows(url)] == ["u2"]
