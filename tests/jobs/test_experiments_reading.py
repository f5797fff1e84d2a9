"""From the log to who was exposed and what they did."""

import dataclasses

import pytest

from tailwise.events._database import Database
from tailwise.experiments import (
    METRICS,
    Experiment,
    Policy,
    Rollout,
    check_guardrails,
    evidence_at,
    transition,
)
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


SERVICE = ("requests", "errors", "fallbacks", "slow_requests")


def test_requests_soon_after_the_first_are_counted_with_what_went_wrong(shop, reader):
    shop.shown("u")
    for seconds, reason, latency in (
        (60, "model-error", 5.0),
        (61, "time-limit", 5.0),
        (62, "no-history", 5.0),  # not a fault
        (63, None, 501.0),
        (3600, "model-error", 900.0),  # later than service.window_hours
    ):
        shop.list("u", at=NOW + seconds, reason=reason, latency_ms=latency)
    for seconds, reason in ((64, "overload"), (65, "failed"), (3600, "overload")):
        shop.list("u", at=NOW + seconds, reason=reason, is_refused=True)
    reader.refresh()
    columns = reader.enrolled().asked.columns
    assert [columns[name].tolist() for name in SERVICE] == [[7.0], [3.0], [2.0], [1.0]]


def test_a_user_who_is_only_refused_is_counted_among_those_who_asked_and_exposed_by_nothing(shop, reader):
    refused = shop.list("hidden", "treatment", at=NOW, stage=1, is_refused=True)
    shop.event("impression", "hidden", "h1", at=NOW + 1, list_id=refused)  # nobody was told this id
    shop.shown("seen", at=NOW + 2)
    reader.refresh()
    enrolled = reader.enrolled()
    assert [row[0] for row in reader.exposures().rows()] == ["seen"]
    assert enrolled.treated.tolist() == [False]
    asked = enrolled.asked
    assert (asked.treated.tolist(), asked.stage.tolist()) == ([True, False], [1, 0])
    assert asked.exposed_at.tolist() == [NOW, NOW + 2]
    assert (asked.columns["requests"].tolist(), asked.columns["errors"].tolist()) == ([1, 1], [1, 0])


def test_who_was_refused_before_a_list_came_is_counted_from_the_refusal_on(shop, reader):
    shop.list("u", "treatment", at=NOW, is_refused=True)
    shop.shown("u", "treatment", at=NOW + 3)
    reader.refresh()
    enrolled = reader.enrolled()
    assert enrolled.exposed_at.tolist() == [NOW + 3]
    assert [enrolled.asked.columns[name].tolist() for name in SERVICE[:2]] == [[2.0], [1.0]]


def lights(shop, reader, answers):
    """Lights by guardrail, of 400 users who come once, by turns; ``answers`` says who gets a list."""
    names = ("control", "treatment")
    people = [(f"u{n:03}", names[n % 2], NOW + n) for n in range(400)]
    has_list = [answers(n, variant) for n, (_, variant, _) in enumerate(people)]
    shop.visits([(*person, 1) for person, has in zip(people, has_list, strict=True) if has])
    shop.lists(
        [
            {"user": user, "variant": variant, "at": at, "is_refused": True}
            for (user, variant, at), has in zip(people, has_list, strict=True)
            if not has
        ]
    )
    reader.refresh()
    rollout = transition(Rollout(EXPERIMENT), "start", NOW - 1)
    evidence = evidence_at(reader.enrolled(), rollout, NOW + 2 * DAY)
    return {each.name: each.light for each in check_guardrails(evidence, EXPERIMENT.policy)}


def test_a_treatment_that_refuses_everybody_is_seen_by_errors_and_by_the_sample_ratio(shop, reader):
    found = lights(shop, reader, lambda n, variant: variant == "control")
    assert (found["errors"], found["sample_ratio"]) == ("red", "red")


def test_a_treatment_that_refuses_every_fourth_user_is_seen_by_errors_alone(shop, reader):
    found = lights(shop, reader, lambda n, variant: variant == "control" or n % 8 != 1)
    assert (found["errors"], found["sample_ratio"]) == ("red", "green")


def test_a_service_that_refuses_both_alike_is_no_harm_of_the_treatment(shop, reader):
    found = lights(shop, reader, lambda n, variant: n % 8 > 1)
    assert (found["errors"], found["sample_ratio"]) == ("green", "green")


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
