"""From the log to who was exposed and what they did."""

import dataclasses

import pytest

from tailwise.events._database import Database
from tailwise.experiments import METRICS, Experiment, Policy
from tailwise.jobs._experiments_reading import ExperimentReader, metrics_to_decide

from .rollouts import DAY, ITEMS, NOW, Shop

EXPERIMENT = Experiment("x", "home", "control", "treatment", policy=Policy(window_days=1.0))


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request, tmp_path):
    is_sqlite = request.param == "sqlite"
    shop = Shop(tmp_path, None if is_sqlite else request.getfixturevalue("postgres").new_schema())
    yield shop
    shop.close()


@pytest.fixture
def reader(shop):
    database = Database(shop.database)
    yield ExperimentReader(database, EXPERIMENT, ITEMS)
    database.close()


def exposed(reader):
    reader.refresh()
    return reader.exposures().rows()


def test_a_list_that_was_never_seen_exposes_nobody(shop, reader):
    shop.list("unseen")
    shop.shown("seen", "treatment", at=NOW + 5, stage=1)
    assert exposed(reader) == [("seen", "treatment", 1, NOW + 5)]


def test_exposure_begins_when_the_first_list_that_was_seen_was_served(shop, reader):
    shop.list("u", at=NOW)
    second = shop.list("u", at=NOW + 10)
    shop.shown("u", at=NOW + 20, stage=1)
    shop.event("impression", "u", "h1", at=NOW + 99, list_id=second)
    assert exposed(reader) == [("u", "control", 0, NOW + 10)]


@pytest.mark.parametrize(
    "named", [{"counted": False}, {"experiment": "other"}, {"experiment": None, "stage": None}]
)
def test_lists_that_the_experiment_does_not_count_expose_nobody(shop, reader, named):
    shop.shown("u", **named)
    assert exposed(reader) == []


def test_an_impression_of_somebody_elses_list_exposes_nobody(shop, reader):
    theirs = shop.list("u")
    shop.event("impression", "other", "h1", at=NOW, list_id=theirs)
    assert exposed(reader) == []


def test_outcomes_count_what_was_done_within_the_window_by_segments_of_the_catalogue(shop, reader):
    shop.shown("u", "treatment")
    shop.event("click", "u", "t1", at=NOW + 10)
    shop.event("click", "u", "h2", at=NOW + DAY - 1)
    shop.event("click", "u", "t2", at=NOW + DAY)  # the window is over
    shop.event("purchase", "u", "h2", at=NOW + 20)
    shop.event("click", "u", "not-of-the-catalogue", at=NOW + 30)
    reader.refresh()
    (row,) = reader.outcomes(NOW + DAY).rows(named=True)
    assert (row["clicks"], row["tail_clicks"], row["head_purchases"], row["gmv"]) == (3, 1, 1, 10.0)


def test_requests_soon_after_the_exposure_are_counted_with_what_went_wrong(shop, reader):
    shop.shown("u")
    for seconds, reason, latency in (
        (60, "model-error", 5.0),
        (61, "time-limit", 5.0),
        (62, "no-history", 5.0),  # not a fault
        (63, None, 501.0),
        (3600, "model-error", 900.0),  # later than service.window_hours
    ):
        shop.list("u", at=NOW + seconds, reason=reason, latency_ms=latency)
    reader.refresh()
    columns = reader.enrolled().columns
    found = [columns[name][0] for name in ("requests", "errors", "fallbacks", "slow_requests")]
    assert found == [5.0, 1.0, 2.0, 1.0]


def test_reading_bit_by_bit_finds_what_reading_at_once_does(shop, reader):
    for number in range(6):
        shop.shown(f"u{number}", ("control", "treatment")[number % 2], at=NOW + number)
        shop.event("click", f"u{number}", "t1", at=NOW + 50)
        reader.refresh()
    database = Database(shop.database)
    at_once = ExperimentReader(database, EXPERIMENT, ITEMS)
    at_once.refresh()
    assert at_once.outcomes(NOW + 2 * DAY).equals(reader.outcomes(NOW + 2 * DAY))
    assert at_once.outcomes(NOW + 2 * DAY).height == 6
    database.close()


def test_a_deleted_user_is_forgotten_at_the_next_look(shop, reader):
    shop.shown("u")
    shop.shown("v", at=NOW + 1)
    assert len(exposed(reader)) == 2
    shop.forget("u")
    assert [row[0] for row in exposed(reader)] == ["v"]


def test_decisions_hold_no_impressions_in_memory_unless_a_metric_needs_them(shop, reader):
    shop.shown("u")
    reader.refresh()
    assert reader.events().height == 0
    with_sessions = dataclasses.replace(EXPERIMENT, metrics=("session_gmv",))
    assert METRICS["session_gmv"] in metrics_to_decide(with_sessions)
    database = Database(shop.database)
    keeping = ExperimentReader(database, with_sessions, ITEMS)
    keeping.refresh()
    assert keeping.events()["type"].to_list() == ["impression"]
    database.close()


def test_cuped_looks_back_only_where_the_log_does(shop, reader):
    shop.event("click", "u", "t1", at=NOW - DAY / 2)
    shop.shown("u")
    reader.refresh()
    assert "pre_clicks" not in reader.enrolled().columns
    shop.event("click", "u", "t1", at=NOW - 2 * DAY)
    reader.refresh()
    assert reader.enrolled().columns["pre_clicks"].tolist() == [1.0]
