import polars as pl
import pytest

from tailwise.dashboard import Alarm, LiveTables, live_page
from tests.dashboard.making import DAY, START, choices, shown, slots


def test_days_hold_the_shares_of_their_own_slots():
    page = live_page(LiveTables(shown(slots(last_tail=0.0)), choices()), [])
    days = page.by_variant["control"]
    # the first list is served at START, 13 minutes past 14 h: nine days touch ten dates
    assert len(days) == 10
    assert sum(day.n_slots for each in page.by_variant.values() for day in each) == 9 * 60 * 5
    assert days[-1].shares == {"head": 1.0, "tail": 0.0}
    assert all(sum(day.shares.values()) == pytest.approx(1.0) for day in days)
    assert page.segments == ("head", "tail")


def test_a_change_of_fashion_shows_in_the_middle_and_not_elsewhere():
    page = live_page(LiveTables(shown(slots()), choices(shift=8)), [])
    gaps = [c.previous_head_share_without_drift - c.previous_head_share for c in page.drift.changes]
    assert gaps[1] > 0.2
    assert max(gaps[0], gaps[2]) < 0.1


def test_few_choices_have_no_drift():
    assert live_page(LiveTables(shown(slots()), choices(days=1)), []).drift is None


def test_an_empty_log_is_an_empty_page():
    page = live_page(LiveTables(shown(slots().clear()), choices().clear()), [])
    assert (page.by_variant, page.drift, page.n_choices, page.open_alarms) == ({}, None, 0, ())


def test_an_alarm_is_open_until_its_latest_line_says_cleared():
    def line(at, state, kind):
        return Alarm(START + at * DAY, state, kind, "", "warning", "x")

    told = [line(3, "raised", "retrain"), line(2, "cleared", "coverage"), line(1, "raised", "coverage")]
    page = live_page(LiveTables(pl.DataFrame(), choices()), told)
    assert [alarm.kind for alarm in page.open_alarms] == ["retrain"]
    assert len(page.past_alarms) == 3
