"""What the HTTP interface answers, route by route, over each database."""

import asyncio
from dataclasses import replace

import pytest

from tailwise.serving._http_guard import GuardSettings
from tailwise.serving._service import ServiceSettings

from .http_client import FAST, Client, MemoryLog, ids, member

NOW = 1_764_000_000.0
CLICK = {"event_id": "e1", "type": "click", "user_id": "ann", "item_id": "a05", "occurred_at": NOW}
PURCHASE = {**CLICK, "event_id": "e2", "type": "purchase", "revenue": 19.9, "currency": "EUR"}


@pytest.fixture
def client(tmp_path, log):
    client = Client(tmp_path, log=log)
    yield client
    client.close()


def test_a_list_says_who_made_it_for_whom_and_that_it_is_kept(client):
    answer = client.lists(user_id="ann", history=["a03", "zz"], k=2)
    assert answer | {"recommendation_id": "x", "items": "y"} == {
        "recommendation_id": "x",
        "surface": "home",
        "variant": "control",
        "experiment": None,
        "stage": None,
        "model": "digest-1",
        "method": "model",
        "reason": None,
        "is_explored": False,
        "logged": True,
        "user": {"is_known": True, "history_length": 1, "unknown_items": ["zz"]},
        "items": "y",
        "propensities": None,
    }
    assert answer["items"] == [
        {"item_id": "a04", "title": "<b>Thing</b> 4", "position": 1, "score": 0.0, "segment": "head"},
        {"item_id": "a05", "title": "<b>Thing</b> 5", "position": 2, "score": -1.0, "segment": "head"},
    ]
    assert client.log.lists[-1].recommendation_id == answer["recommendation_id"]


def test_a_cold_item_is_listed_and_said_to_be_cold(client):
    answer = client.lists(history=["a28"], k=1)
    assert [(item["item_id"], item["segment"]) for item in answer["items"]] == [("a29", "cold")]


def test_an_anonymous_visitor_gets_the_most_popular_items_and_the_reason(client):
    answer = client.lists(k=2)
    assert ids(answer) == ["a00", "a01"]
    assert (answer["method"], answer["reason"], answer["user"]["is_known"]) == (
        "most-popular",
        "no-history",
        None,
    )


def test_similar_items_come_from_either_route_and_leave_the_item_out(client):
    posted = client.lists(surface="similar", item_id="a05", k=3)
    got = client.ask("GET", "/v1/items/a05/similar?k=3").json()
    assert ids(posted) == ids(got) == ["a06", "a07", "a08"]
    assert posted["surface"] == got["surface"] == "similar"


def test_an_item_id_with_slashes_and_spaces_reaches_its_route(client):
    answer = client.ask("GET", "/v1/items/shoes%2Fred%20ones/similar")
    assert answer.status_code == 404
    assert "'shoes/red ones'" in answer.json()["detail"]


def test_filters_and_exclusions_hold(client):
    filters = {"category": ["odd"], "min_price": 7.0, "max_price": 12.0}
    answer = client.lists(user_id="ann", filters=filters, exclude=["a07"])
    assert ids(answer) == ["a09", "a11"]


def test_a_drawn_list_gives_the_probability_of_every_item(tmp_path):
    client = Client(tmp_path, service={"settings": ServiceSettings(explore_share=1.0)})
    answer = client.lists(user_id="ann", k=4)
    assert answer["is_explored"] is True
    assert len(answer["propensities"]) == 4
    assert all(0 < p <= 1 for p in answer["propensities"])
    client.close()


def test_a_list_that_could_not_be_kept_says_so_and_is_counted(tmp_path):
    client = Client(tmp_path, log=MemoryLog(is_away=True))
    answer = client.lists(user_id="ann")
    assert answer["logged"] is False
    text = client.ask("GET", "/metrics").text
    assert 'tailwise_warnings_total{kind="log-unavailable"} 1.0' in text
    client.close()


def test_a_full_queue_is_answered_with_429_and_when_to_come_back(tmp_path):
    slow = member(1, settings=replace(FAST, max_batch=1, queue_limit=1), seconds=0.1)
    client = Client(tmp_path, {"control": slow})

    async def flood():
        body = {"surface": "home", "history": ["a01"]}
        return await asyncio.gather(*(client.asking("POST", "/v1/recommendations", body) for _ in range(8)))

    answers = client.run(flood())
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert {answer.status_code for answer in answers} == {200, 429}
    assert refused[0].json()["type"] == "urn:tailwise:problem:overload"
    assert int(refused[0].headers["retry-after"]) >= 1
    client.close()


def test_a_time_limit_is_marked_as_such(tmp_path):
    client = Client(
        tmp_path,
        {"control": member(1, seconds=0.3)},
        service={"settings": ServiceSettings(time_limit_ms=20)},
    )
    answer = client.lists(user_id="ann")
    assert (answer["method"], answer["reason"]) == ("most-popular", "time-limit")
    client.close()


def test_a_batch_of_events_is_kept_and_sent_again_is_known(client):
    first = client.ask("POST", "/v1/events", {"events": [CLICK, PURCHASE]})
    assert first.json() == {"n_new": 2, "n_duplicates": 0, "n_conflicting": 0, "n_spooled": 0}
    again = client.ask("POST", "/v1/events", {"events": [CLICK, PURCHASE]})
    assert again.json()["n_duplicates"] == 2
    assert str(client.log.events["e2"].revenue) == "19.9000"


def test_revenue_as_text_stays_exact_and_a_number_is_rounded_to_four_places(client):
    events = [
        PURCHASE | {"event_id": "t", "revenue": "123456789012.1234"},
        PURCHASE | {"event_id": "n", "revenue": 0.1 + 0.2},
    ]
    assert client.ask("POST", "/v1/events", {"events": events}).status_code == 200
    assert str(client.log.events["t"].revenue) == "123456789012.1234"
    assert str(client.log.events["n"].revenue) == "0.3000"


def test_one_bad_event_keeps_the_whole_batch_out_and_is_named_by_its_index(client):
    bad = [CLICK, CLICK | {"event_id": ""}, PURCHASE | {"currency": "eur"}]
    answer = client.ask("POST", "/v1/events", {"events": bad})
    assert answer.status_code == 422
    assert [error["location"] for error in answer.json()["errors"]] == [
        "body/events/1/event_id",
        "body/events/2/currency",
    ]
    assert client.log.events == {}


@pytest.mark.parametrize("missing", ["revenue", "currency"])
def test_a_purchase_needs_revenue_and_currency_and_a_click_may_have_neither(client, missing):
    purchase = {name: value for name, value in PURCHASE.items() if name != missing}
    assert client.ask("POST", "/v1/events", {"events": [purchase]}).status_code == 422
    click = CLICK | {missing: PURCHASE[missing]}
    assert client.ask("POST", "/v1/events", {"events": [click]}).status_code == 422


def test_a_batch_that_is_too_long_is_refused_whole(tmp_path, log):
    client = Client(tmp_path, max_batch=2, log=log)
    events = [CLICK | {"event_id": str(i)} for i in range(3)]
    assert client.ask("POST", "/v1/events", {"events": events}).status_code == 413
    assert client.log.events == {}
    client.close()


@pytest.mark.parametrize("broken", [MemoryLog(is_away=True), MemoryLog(seconds=30)])
def test_events_that_are_not_durable_are_not_acknowledged(tmp_path, broken):
    client = Client(tmp_path, log=broken)
    answer = client.ask("POST", "/v1/events", {"events": [CLICK]})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["type"] == "urn:tailwise:problem:log-unavailable"
    client.close()


@pytest.mark.parametrize("user", ["ann", "over-http", "a/b", "local"])
def test_a_users_data_are_deleted_whatever_the_user_is_called(client, user):
    client.ask("POST", "/v1/events", {"events": [CLICK | {"user_id": user}]})
    answer = client.ask("DELETE", f"/v1/users/{user}")
    assert answer.json() == {"n_events": 1, "n_lists": 0}
    assert client.log.events == {}


def test_a_swap_is_served_when_it_is_answered_and_a_broken_one_leaves_the_old(client):
    assert ids(client.lists(history=["a03"], k=1)) == ["a04"]
    assert client.ask("PUT", "/v1/models/control", {"source": "5"}).status_code == 200
    assert ids(client.lists(history=["a03"], k=1)) == ["a08"]
    refused = client.ask("PUT", "/v1/models/control", {"source": "broken"})
    assert refused.status_code == 409
    assert "got 'broken'" in refused.json()["detail"]
    assert ids(client.lists(history=["a03"], k=1)) == ["a08"]
    assert client.ask("PUT", "/v1/models/other", {"source": "5"}).status_code == 404


def test_a_swap_under_load_drops_nothing_and_no_answer_mixes_two_models(client):
    async def load():
        body = {"surface": "home", "history": ["a03"], "k": 1}
        found = []

        async def one_by_one():
            for _ in range(25):
                found.append(await client.asking("POST", "/v1/recommendations", body))

        async def swaps():
            for shift in (2, 3, 4, 5):
                answer = await client.asking("PUT", "/v1/models/control", {"source": str(shift)})
                assert answer.status_code == 200

        await asyncio.gather(*(one_by_one() for _ in range(8)), swaps())
        return found

    answers = client.run(load())
    assert [answer.status_code for answer in answers] == [200] * 200
    seen = set()
    for answer in answers:
        shift = int(answer.json()["model"].removeprefix("digest-"))
        assert ids(answer.json()) == [f"a{3 + shift:02d}"]
        seen.add(shift)
    assert len(seen) > 1  # the load met the swap


def test_changes_of_the_catalogue_keep_apart_what_is_absent_and_what_is_taken_away(client):
    items = [{"item_id": "a01", "price": None}, {"item_id": "a02", "in_stock": False}]
    assert client.ask("PUT", "/v1/catalogue", {"items": items}).json()["n_changed"] == 2
    assert [change.model_dump(exclude_unset=True) for change in client.control.changes] == items


def test_liveness_readiness_and_metrics_say_what_machines_ask(client):
    assert client.ask("GET", "/healthz").json() == {"status": "alive"}
    ready = client.ask("GET", "/readyz")
    assert ready.json() == {
        "status": "ready",
        "worker": 0,
        "generation": 0,
        "models": [
            {"name": "control", "digest": "digest-1", "generation": 0, "drill": None},
            {"name": "treatment", "digest": "digest-2", "generation": 0, "drill": None},
        ],
        "log": "available",
    }
    client.control.is_ready = False
    assert client.ask("GET", "/readyz").status_code == 503
    client.lists(user_id="ann")
    text = client.ask("GET", "/metrics").text
    assert 'tailwise_lists_total{method="model",reason="",surface="home",variant="control"} 1.0' in text
    assert 'route="/readyz",status="503"} 1.0' in text


def test_routes_in_metrics_are_templates_so_that_no_id_is_in_them(client):
    client.ask("GET", "/v1/items/secret-item/similar")
    client.ask("DELETE", "/v1/users/secret-user")
    client.ask("GET", "/secret-path")
    text = client.ask("GET", "/metrics").text
    assert "secret" not in text
    assert 'route="/v1/items/{item_id}/similar"' in text
    assert 'route="other",status="404"' in text


def test_every_answer_has_its_security_headers_and_an_id(client):
    for path in ("/healthz", "/nowhere", "/openapi.json"):
        headers = client.ask("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert len(headers["x-request-id"]) == 16
        assert "server" not in headers


@pytest.mark.parametrize(("given", "is_kept"), [("order-12345", True), ("x" * 65, False), ("a b\n", False)])
def test_a_request_id_of_the_client_is_kept_if_it_is_harmless(client, given, is_kept):
    answer = client.ask("GET", "/healthz", headers={"x-request-id": given.strip()})
    assert (answer.headers["x-request-id"] == given) is is_kept


def test_pages_of_other_origins_are_not_allowed_unless_they_are_listed(client, tmp_path):
    asked = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in client.ask("OPTIONS", "/v1/events", headers=asked).headers
    (tmp_path / "other").mkdir()
    listed = Client(tmp_path / "other", cors_origins=["https://shop.example"])
    answer = listed.ask("OPTIONS", "/v1/events", headers=asked)
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    evil = listed.ask("OPTIONS", "/v1/events", headers=asked | {"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in evil.headers
    listed.close()


def test_no_page_of_the_frameworks_own_is_served(client):
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert client.ask("GET", path).status_code == 404


def test_errors_have_one_shape(client):
    for method, path, status, kind in (
        ("GET", "/nowhere", 404, "no-such-path"),
        ("PATCH", "/v1/events", 405, "no-such-method"),
        ("POST", "/v1/recommendations", 422, "invalid-request"),
    ):
        answer = client.ask(method, path, {} if method == "POST" else None)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["type"] == f"urn:tailwise:problem:{kind}"
        assert problem["status"] == status
        assert problem["request_id"] == answer.headers["x-request-id"]
    assert client.ask("PATCH", "/v1/events").headers["allow"] == "POST"


def test_a_failure_inside_is_answered_without_its_message(tmp_path, monkeypatch):
    client = Client(tmp_path)

    async def broken(ask):
        raise RuntimeError("secret")

    monkeypatch.setattr(client.service, "recommend", broken)
    answer = client.ask("POST", "/v1/recommendations", {"surface": "home"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["type"] == "urn:tailwise:problem:internal"
    client.close()


def test_a_body_that_arrives_too_slowly_is_given_up(tmp_path):
    client = Client(tmp_path, guard=GuardSettings(body_timeout_s=0.1))

    async def slowly():
        async def dribble():
            yield b'{"surface":'
            await asyncio.sleep(5)
            yield b'"home"}'

        return await client.http.post(
            "/v1/recommendations", content=dribble(), headers={"content-type": "application/json"}
        )

    answer = client.run(slowly())
    assert answer.status_code == 408
    assert answer.headers["connection"] == "close"
    client.close()
