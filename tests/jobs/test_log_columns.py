"""The narrow readings of the log say what the full ones say, and follow what comes late or goes."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tailwise.events import LogReader
from tailwise.events._database import Database
from tailwise.jobs import _log_columns
from tailwise.jobs._live_days import LiveDays
from tailwise.jobs._log_columns import LogColumns

from .rollouts import DAY, NOW, Shop


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request, tmp_path):
    is_sqlite = request.param == "sqlite"
    made = Shop(tmp_path, None if is_sqlite else request.getfixturevalue("postgres").new_schema())
    for i in range(7):
        variant = "treatment" if i % 3 else "control"
        user = None if i == 2 else f"u{i}"
        made.list(user, variant, at=NOW + i * DAY / 2, items=("h1", "t1", "t2")[: i % 4])
        for kind in ("impression", "click", "purchase"):
            made.event(kind, f"u{i}", "t1", at=NOW + i * DAY / 2 + 9)
    yield made
    made.close()


@pytest.mark.parametrize("stretch", [(None, None), (NOW + DAY, NOW + 2 * DAY)])
def test_slots_and_choices_are_those_of_the_full_reading(shop, stretch, monkeypatch):
    monkeypatch.setattr(_log_columns, "_LISTS_AT_ONCE", 2)
    monkeypatch.setattr(_log_columns, "_EVENTS_AT_ONCE", 3)
    narrow, full = LogColumns(shop.database), LogReader(shop.database)
    slots = pl.concat(full.slots(*stretch)).select(LogColumns.columns)
    assert_frame_equal(
        pl.concat(narrow.slots(*stretch)), slots.with_columns(pl.col("position").cast(pl.Int64))
    )
    chosen = pl.concat(full.events(*stretch)).filter(pl.col("type") != "impression")
    assert_frame_equal(pl.concat(narrow.events(*stretch)), chosen.select("type", "item_id", "occurred_at"))
    assert list(narrow.slots(NOW + 9 * DAY)) == list(narrow.events(NOW + 9 * DAY)) == []
    narrow.close()
    full.close()


def counted(tables):
    """Slots by variant and segment."""
    return {
        (row["variant"], row["segment"]): row["n"]
        for row in tables.shown.group_by("variant", "segment").agg(pl.sum("n")).rows(named=True)
    }


def test_days_are_counted_as_if_they_were_read_anew_whatever_comes_late_or_goes(shop):
    database, now = Database(shop.database), NOW + 3 * DAY + 100
    kept = LiveDays(database, 14.0)

    def check():
        found, anew = kept.tables(now), LiveDays(database, 14.0).tables(now)
        assert_frame_equal(found.shown, anew.shown)
        assert_frame_equal(found.choices, anew.choices)
        return found

    first = check()
    # lists of 0, 1, 2, 3, 0, 1 and 2 places; those of numbers 0, 3 and 6 are control's
    assert counted(first) == {("control", "head"): 5, ("treatment", "head"): 4}
    assert first.choices.height == 14
    shop.list("late", "control", at=NOW)
    shop.event("click", "late", "t1", at=NOW + DAY)
    late = check()
    assert (late.shown["n"].sum(), late.choices.height) == (11, 15)
    shop.forget("u3")
    gone = check()
    assert (gone.shown["n"].sum(), gone.choices.height) == (8, 13)
    database.close()


def test_a_day_in_which_nothing_changed_is_not_read_again(shop, monkeypatch):
    database, read = Database(shop.database), []
    for name in ("slot_tables", "choice_tables"):
        plain = getattr(_log_columns, name)

        def noted(*arguments, name=name, plain=plain):
            read.append(name)
            return plain(*arguments)

        monkeypatch.setattr(f"tailwise.jobs._live_days.{name}", noted)
    days = LiveDays(database, 14.0)
    days.tables(NOW + 4 * DAY)
    read.clear()
    days.tables(NOW + 4 * DAY + 60)
    assert read == []
    shop.event("click", "u1", "t1", at=NOW + DAY)
    days.tables(NOW + 4 * DAY + 120)
    assert read == ["choice_tables"]
    database.close()
