"""From a request to a row, and back: the real application over the real log, on each database."""

import asyncio
import uuid
from dataclasses import replace

import polars as pl
import pytest

from .http_client import PATIENT, Client, DatabaseLog, ids

NOW = 1_764_000_000.0


@pytest.fixture
def client(tmp_path, log):
    client = Client(tmp_path, log=log)
    yield client
    client.close()


def event(event_id, kind="click", **fields):
    money = {"revenue": "19.90", "currency": "EUR"} if kind == "purchase" else {}
    given = {"event_id": event_id, "type": kind, "user_id": "ann", "item_id": "a05", "occurred_at": NOW}
    return given | money | fields


def send(client, *events):
    answer = client.ask("POST", "/v1/events", {"events": list(events)})
    assert answer.status_code == 200, answer.text
    return tuple(answer.json().values())  # new, duplicates, conflicting, spooled


def test_a_list_is_in_the_log_with_all_its_slots_when_its_answer_arrives(client):
    for k in (3, 2, 5):
        answer = client.lists(user_id="ann", history=["a10"], k=k)
        kept = client.log.lists[-1]
        assert answer["logged"] is True
        assert kept.recommendation_id == answer["recommendation_id"]
        assert kept.items == ids(answer)
        assert (kept.user_id, kept.variant, kept.model, kept.surface, kept.history_length) == (
            "ann",
            answer["variant"],
            answer["model"],
            "home",
            1,
        )
    assert len(client.log.lists) == 3


def test_the_same_id_counts_once_over_batches_and_what_contradicts_the_first_is_said(client):
    assert send(client, event("e1"), event("e2"), event("e1")) == (2, 1, 0, 0)
    assert send(client, event("e2"), event("e3")) == (1, 1, 0, 0)
    assert send(client, event("e1", item_id="a09"), event("e4"), event("e4", user_id="bob")) == (1, 2, 2, 0)
    assert {name: each.item_id for name, each in client.log.events.items()} == dict.fromkeys(
        ["e1", "e2", "e3", "e4"], "a05"
    )
    assert client.log.events["e4"].user_id == "ann"


def test_batches_that_arrive_at_once_share_the_count_of_what_both_hold(client):
    async def both():
        batches = [
            {"events": [event(f"e{i}") for i in range(first, first + 10)]} for first in range(0, 40, 5)
        ]
        answers = await asyncio.gather(
            *(client.asking("POST", "/v1/events", batch) for batch in batches + batches[::-1])
        )
        return [answer.json() for answer in answers]

    answers = client.run(both())
    assert sum(answer["n_new"] for answer in answers) == 45
    assert sum(answer["n_duplicates"] for answer in answers) == 16 * 10 - 45
    assert len(client.log.events) == 45


def test_a_click_that_comes_before_its_impression_is_owed_to_the_list_in_the_export(client, tmp_path):
    shown = client.lists(user_id="ann", history=["a10"], k=3)
    (first, *_) = ids(shown)
    send(client, event("click", item_id=first, occurred_at=NOW + 60))
    assert client.log.events["click"].attribution == "none"
    seen = {"recommendation_id": shown["recommendation_id"], "position": 1, "item_id": first}
    send(client, event("seen", "impression", **seen))
    client.run(client.log.export(tmp_path / "lake"))
    rows = pl.read_parquet(tmp_path / "lake/events/day=*/events.parquet", hive_partitioning=False)
    (click,) = rows.filter(pl.col("event_id") == "click").rows(named=True)
    assert (click["attribution"], click["attributed_id"]) == ("window", shown["recommendation_id"])
    assert (click["variant"], click["model"], click["position"], click["shown_at"]) == (
        "control",
        "digest-1",
        1,
        NOW,
    )


def test_a_purchase_that_names_its_list_is_owed_to_it_and_a_list_nobody_served_earns_nothing(client):
    shown = client.lists(user_id="ann", history=["a10"], k=3)
    item = ids(shown)[1]
    named = event("e1", "purchase", item_id=item, recommendation_id=shown["recommendation_id"])
    made_up = event("e2", "purchase", item_id=item, recommendation_id=uuid.uuid4().hex)
    send(client, named, made_up)
    events = client.log.events
    assert (events["e1"].attribution, events["e1"].position) == ("named", 2)
    assert (events["e2"].attribution, events["e2"].position) == ("none", None)


def test_a_purchase_is_in_the_users_next_list_and_in_nobody_elses(client):
    before = client.lists(user_id="new", k=3)
    assert (before["reason"], before["user"]["is_known"]) == ("no-history", False)
    send(
        client,
        event("e1", "purchase", user_id="new", item_id="a20"),
        event("e2", user_id="new", item_id="a03"),
    )
    after = client.lists(user_id="new", k=3)
    assert (ids(after), after["user"]["history_length"]) == (["a21", "a22", "a23"], 1)
    assert client.lists(user_id="other", k=3)["reason"] == "no-history"


def test_what_came_late_stands_in_the_history_by_when_it_happened(client):
    send(client, event("e2", "purchase", user_id="new", item_id="a20", occurred_at=NOW + 60))
    send(client, event("e1", "purchase", user_id="new", item_id="a03", occurred_at=NOW))
    assert ids(client.lists(user_id="new", k=1)) == ["a21"]  # the last is still a20


def test_a_deleted_user_is_gone_from_events_lists_and_histories_and_the_others_are_not(client):
    for user in ("new", "bob"):
        client.lists(user_id=user)
        send(client, event(f"of-{user}", "purchase", user_id=user, item_id="a20"))
    answer = client.ask("DELETE", "/v1/users/new")
    assert answer.json() == {"n_events": 1, "n_lists": 1}
    assert list(client.log.events) == ["of-bob"]
    assert {each.user_id for each in client.log.lists} == {"bob"}
    assert client.lists(user_id="new")["reason"] == "no-history"
    assert client.ask("DELETE", "/v1/users/nobody").json() == {"n_events": 0, "n_lists": 0}
    assert client.forgotten == ["new", "nobody"]  # what this process keeps beside the log


def test_a_list_that_is_not_kept_in_time_goes_out_and_says_so(client):
    client.service.settings = replace(PATIENT, log_time_limit_ms=500)
    with client.log._writer._gate:  # the writer hangs
        answer = client.lists(user_id="ann", history=["a10"])
        assert answer["logged"] is False
        assert ids(answer)[0] == "a11"
    client.service.settings = PATIENT
    assert client.lists(user_id="ann")["logged"] is True


def test_a_clock_that_goes_back_changes_no_count_no_order_and_no_debt(tmp_path, url):
    """An hour back, then a year, then on again, while lists are served and events come."""
    moments = [NOW, NOW - 3600, NOW - 365 * 86_400, NOW + 5, NOW - 3600, NOW + 10]
    now = [NOW]
    log = DatabaseLog.open(url, tmp_path / "spool", lambda: now[0])
    client = Client(tmp_path, log=log, service={"clock": lambda: now[0]})
    shown = []
    for number, moment in enumerate(moments):
        now[0] = moment
        shown.append(client.lists(user_id="new", k=2))
        assert shown[-1]["logged"] is True
        assert shown[-1]["user"]["history_length"] == number
        # Clients' clocks are right: what they say orders histories.
        bought = event(
            f"e{number}", "purchase", user_id="new", item_id=f"a{10 + number}", occurred_at=NOW + number
        )
        assert send(client, bought, event("same", user_id="new")) == (2 - (number > 0), int(number > 0), 0, 0)
        seen = {"item_id": ids(shown[-1])[0], "recommendation_id": shown[-1]["recommendation_id"]}
        send(client, event(f"seen{number}", "impression", user_id="new", **seen))
        assert ids(client.lists(user_id="new", k=1)) == [f"a{11 + number}"]
    events = client.log.events
    assert len(events) == 2 * len(moments) + 1
    for number, answer in enumerate(shown):
        assert (events[f"seen{number}"].attribution, events[f"seen{number}"].attributed_id) == (
            "named",
            answer["recommendation_id"],
        )
    assert {each.recommendation_id for each in client.log.lists} >= {a["recommendation_id"] for a in shown}
    assert client.ask("DELETE", "/v1/users/new").json() == {"n_events": 13, "n_lists": 12}
    client.close()
