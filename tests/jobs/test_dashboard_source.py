"""From a service's database to the dashboard's tables."""

import asyncio

import httpx
import polars as pl
import pytest
from fastapi import FastAPI
from polars.testing import assert_frame_equal

from tailwise.dashboard import (
    Access,
    AlarmFile,
    Finding,
    PageCache,
    dashboard_routes,
    experiment_page,
)
from tailwise.events._database import Database
from tailwise.experiments import METRICS, Experiment, ExperimentStore, Policy
from tailwise.jobs._dashboard_source import MeasuredOnce, ServiceSource
from tailwise.jobs._experiments_reading import ExperimentReader
from tailwise.serving._http_keys import KeyStore

from .rollouts import DAY, ITEMS, NOW, Shop

POLICY = Policy(window_days=1.0)


@pytest.fixture
def shop(tmp_path):
    made = Shop(tmp_path)
    store = ExperimentStore(made.database, clock=lambda: NOW - 60)
    store.create(Experiment("x", "home", "control", "treatment", policy=POLICY), by="person:anna")
    store.act("x", "start", by="person:anna", reason="go")
    store.create(Experiment("y", "discovery", "control", "treatment"), by="person:anna")
    store.close()
    for i in range(8):
        variant = "treatment" if i % 2 else "control"
        user = f"u{i}"
        made.shown(user, variant, at=NOW + i)
        made.event("click", user, "t1" if i % 2 else "h1", at=NOW + 100 + i)
        made.event("purchase", user, "t1" if i % 2 else "h1", at=NOW + 200 + i)
    yield made
    made.close()


@pytest.fixture
def source(shop, tmp_path):
    alarms = AlarmFile(tmp_path / "alarms.jsonl")
    made = ServiceSource(shop.database, lambda _: ITEMS, alarms, clock=lambda: NOW + 2 * DAY)
    yield made
    made.close()


def test_tables_hold_who_was_exposed_and_what_they_did(source):
    tables = source.tables("x")
    assert tables.exposures.height == 8
    assert dict(tables.outcomes.group_by("variant").agg(pl.sum("tail_purchases")).rows()) == {
        "control": 0,
        "treatment": 4,
    }
    assert tables.evidence.n_users == 4
    assert {share.metric.name for share in tables.catalogue} == {"coverage", "tail_sell_through"}
    page = experiment_page(source.rollouts()[-1], tables, source.decisions("x", 5))
    assert page.n_users == 8
    assert page.currency == "EUR"
    assert len(page.guardrails) == 7


def test_open_windows_are_not_counted_yet(shop, tmp_path):
    early = ServiceSource(
        shop.database, lambda _: ITEMS, AlarmFile(tmp_path / "a"), clock=lambda: NOW + DAY / 2
    )
    tables = early.tables("x")
    assert (tables.outcomes.height, tables.exposures.height, tables.catalogue) == (0, 8, ())
    assert experiment_page(early.rollouts()[-1], tables, []).goals == ()
    early.close()


def test_users_measured_once_are_those_measured_for_the_moment_whatever_comes_or_goes(shop):
    database, experiment = (
        Database(shop.database),
        Experiment("x", "home", "control", "treatment", policy=POLICY),
    )
    users = tuple(metric for metric in METRICS.values() if metric.level == "user")
    once = MeasuredOnce(database, experiment, ITEMS, users)

    def check(n_users):
        once.refresh()
        plain = ExperimentReader(database, experiment, ITEMS, users)
        plain.refresh()
        for now in (NOW, NOW + DAY + 4, NOW + 2 * DAY, float("inf")):
            assert_frame_equal(once.outcomes(now), plain.outcomes(now))
        assert once.outcomes(float("inf")).height == n_users

    check(8)
    shop.event("click", "u3", "t1", at=NOW + 300)
    shop.shown("new", "control", at=NOW + DAY)
    check(9)
    shop.forget("u3")
    check(8)
    database.close()


def test_a_draft_has_no_tables(source):
    assert source.tables("y").outcomes.height == 0


def test_the_version_moves_with_events_lists_decisions_and_time(shop, source, tmp_path):
    seen = [source.version()]
    shop.event("click", "u1", "h1", at=NOW)
    seen.append(source.version())
    shop.list("u1")
    seen.append(source.version())
    store = ExperimentStore(shop.database)
    store.act("x", "hold", by="person:anna")
    seen.append(source.version())
    store.close()
    assert source.version() == seen[-1]
    source._clock = lambda: NOW + 3 * DAY
    seen.append(source.version())
    assert len(set(seen)) == 5


def test_time_may_be_that_of_the_last_list(shop, tmp_path):
    told = ServiceSource(shop.database, lambda _: ITEMS, AlarmFile(tmp_path / "a"), clock=None)
    assert told.now() == NOW + 7
    told.close()


def test_live_tables_reach_back_so_far_and_no_further(shop, tmp_path):
    shop.list("old", at=NOW - 9 * DAY)
    shop.event("click", "old", "h1", at=NOW - 9 * DAY)
    alarms = AlarmFile(tmp_path / "a")
    for days, n_lists, n_choices in ((20.0, 9, 17), (9.9, 9, 17), (9.0, 8, 16)):
        made = ServiceSource(shop.database, lambda _: ITEMS, alarms, clock=lambda: NOW + DAY, live_days=days)
        live = made.live()
        assert live.shown["n"].sum() == 2 * n_lists
        assert live.choices.height == n_choices
        made.close()


def test_users_are_dealt_from_both_models(source):
    assert source.users("x", 4) == ["u7", "u6", "u5", "u4"]
    assert source.users("y", 4) == []


def test_the_whole_dashboard_runs_on_a_log(source, tmp_path):
    source._alarms.take([Finding("retrain", "", "warning", "Train again.")], NOW)
    made = FastAPI()
    access = Access(KeyStore(tmp_path / "keys.json"), b"s" * 32)
    made.include_router(dashboard_routes(source, access, cache=PageCache(patience_s=60)))

    async def ask():
        transport = httpx.ASGITransport(made)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            paths = (
                "",
                "/experiments/x",
                "/experiments/x/value",
                "/experiments/x/lists",
                "/experiments/y",
                "/live",
            )
            return [await client.get(f"/dashboard{path}") for path in paths]

    overview, page, value, lists, draft, live = asyncio.run(ask())
    assert {r.status_code for r in (overview, page, value, lists, draft, live)} == {200}
    assert "Train again." in overview.text
    assert "<b>start</b> by person:anna" in overview.text
    assert "Head against tail" in page.text
    assert "by person:anna" in page.text
    assert "It has not started." in draft.text
    assert "Share of slots of" not in live.text or "control" in live.text
