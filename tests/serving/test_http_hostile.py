"""What is sent to do harm is refused or does nothing; never a 5xx, never a word of it in the log."""

import io
import json
import logging

import pytest

from tailwise.serving._http_guard import GuardSettings
from tailwise.serving._http_log import JsonLines, log

from .http_client import Client, ids

SQL = "x'; DROP TABLE events; --"
HTML = "<script>alert(1)</script>"
NEUTRAL = [
    SQL,
    HTML,
    "../../etc/passwd",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "%00",
    "a" * 256,
    "😀",
    "\u202e",
    "null",
]
REFUSED = ["", "a" * 257, "a\x00b", "a\nb", "\x1b[31m", "\x7f", "\x85"]
EVENT = {
    "event_id": "e1",
    "type": "purchase",
    "user_id": "ann",
    "item_id": "a05",
    "occurred_at": 1_764_000_000.0,
    "revenue": 1,
    "currency": "EUR",
}


@pytest.fixture(scope="module")
def client(tmp_path_factory, shared_log):
    client = Client(tmp_path_factory.mktemp("keys"), log=shared_log)
    yield client
    client.close()


def ask(client, body):
    return client.ask("POST", "/v1/recommendations", {"surface": "home", **body})


def text_bodies(text):
    """A text in every field of a list's request that takes one."""
    return [
        {"user_id": text},
        {"history": [text]},
        {"exclude": [text]},
        {"filters": {"category": [text]}},
        {"filters": {"brand": [text]}},
        {"surface": "similar", "item_id": text},
        {"variant": text},
    ]


@pytest.mark.parametrize("text", NEUTRAL)
def test_strange_texts_are_only_texts(client, text):
    for body in text_bodies(text):
        answer = ask(client, body)
        assert answer.status_code in (200, 404), (body, answer.text)  # nothing is called so
    for name in ("event_id", "user_id", "item_id", "session_id"):
        answer = client.ask("POST", "/v1/events", {"events": [EVENT | {name: text}]})
        assert answer.status_code == 200, (name, answer.text)
    assert ask(client, {"history": [text, "a03"]}).json()["user"]["unknown_items"] == [text]


@pytest.mark.parametrize("text", REFUSED)
def test_texts_that_are_empty_long_or_hold_control_characters_are_refused_in_every_field(client, text):
    for body in text_bodies(text):
        assert ask(client, body).status_code == 422, body
    for name in ("event_id", "user_id", "item_id", "session_id", "recommendation_id", "currency", "type"):
        answer = client.ask("POST", "/v1/events", {"events": [EVENT | {name: text}]})
        assert answer.status_code == 422, name
    assert client.ask("PUT", "/v1/models/control", {"source": text}).status_code == 422
    for name in ("item_id", "category", "brand"):
        change = {"item_id": "a01", name: text}
        assert client.ask("PUT", "/v1/catalogue", {"items": [change]}).status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        b'{"surface":"home","user_id":"\\ud800"}',
        b'{"surface":"home","\\ud800":1}',
        b'{"surface":"home","user_id":"\xff"}',
        b'{"surface":"home","k":1e999}',
        b'{"surface":"home","k":NaN}',
        b'{"surface":"home","k":Infinity}',
        b'{"surface":"home","filters":{"min_price":NaN}}',
        b'{"surface":"home","filters":{"max_price":-1}}',
        b'{"surface":"home","filters":{"max_price":1e13}}',
        b'{"surface":"home","k":' + b"9" * 5000 + b"}",
        b'{"surface":"home","k":10.5}',
        b'{"surface":"home","k":"10"}',
        b'{"surface":"home","k":true}',
        b'{"surface":"home","k":0}',
        b'{"surface":"home","k":501}',
        b'{"surface":"home","exclude_seen":"yes"}',
        b'{"surface":"admin"}',
        b'{"surface":"similar"}',
        b"[" * 100_000,
        b'{"surface":"home","filters":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"",
        b"\x00",
        b'{"surface":"home","surface":"home","x":1}',
        b'{"surface":"home","__proto__":{}}',
        json.dumps({"surface": "home", "history": ["a"] * 501}).encode(),
        json.dumps({"surface": "home", "exclude": ["a"] * 5001}).encode(),
        json.dumps({"surface": "home", "filters": {"category": ["a"] * 101}}).encode(),
    ],
    ids=lambda body: repr(body[:40]),
)
def test_bodies_that_break_a_rule_are_refused_and_not_repeated(client, body):
    answer = client.ask("POST", "/v1/recommendations", body)
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 3000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("occurred_at", 0),
        ("occurred_at", 1_764_000_000_000),
        ("occurred_at", "2026-01-01"),
        ("occurred_at", True),
        ("revenue", -1),
        ("revenue", 1e12),
        ("revenue", "1e5"),
        ("revenue", "1.23456"),
        ("revenue", "-1"),
        ("revenue", "٣"),
        ("revenue", None),
        ("currency", "EURO"),
        ("quantity", 0),
        ("quantity", 10**7),
        ("quantity", 1.5),
        ("position", 0),
        ("recommendation_id", "A" * 32),
        ("recommendation_id", "0" * 33),
        ("type", "refund"),
        ("received_at", 1_764_000_000.0),
        ("extra", 1),
    ],
)
def test_fields_of_events_that_break_a_rule_are_named(client, name, value):
    before = dict(client.log.events)
    answer = client.ask("POST", "/v1/events", {"events": [EVENT | {"event_id": "bad", name: value}]})
    assert answer.status_code == 422
    assert f"body/events/0/{name}" in answer.text or name == "type"
    assert client.log.events == before


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_body_that_is_not_said_to_be_json_is_refused(client, kind):
    """A page of another origin can send these without asking; so they must do nothing."""

    async def post():
        headers = {} if kind is None else {"content-type": kind}
        return await client.http.post("/v1/recommendations", content=b'{"surface":"home"}', headers=headers)

    assert client.run(post()).status_code == 422


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_is_too_long_is_refused_while_it_is_read(tmp_path, is_chunked):
    client = Client(tmp_path, guard=GuardSettings(max_body_bytes=2000))
    n_read = 0

    async def endless():
        nonlocal n_read
        while n_read < 10_000_000:
            n_read += 1000
            yield b" " * 1000

    async def post():
        body = endless() if is_chunked else b" " * 2001
        return await client.http.post(
            "/v1/recommendations", content=body, headers={"content-type": "application/json"}
        )

    answer = client.run(post())
    assert answer.status_code == 413
    assert n_read <= 4000
    client.close()


@pytest.mark.parametrize("length", ["9" * 30, "-1", "1_000_000_000", "²"])
def test_a_content_length_that_lies_changes_nothing(client, length):
    async def post():
        headers = {"content-type": "application/json", "content-length": length.encode("utf-8")}
        return await client.http.post("/v1/recommendations", content=b'{"surface":"home"}', headers=headers)

    assert client.run(post()).status_code in (200, 413)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/items/%00/similar",
        "/v1/items/" + "a" * 300 + "/similar",
        "/v1/items/a01/similar?k=0",
        "/v1/items/a01/similar?k=" + "9" * 5000,
        "/v1/items/a01/similar?k=1%00",
        "/v1/items/%FF%FE/similar",
        "/v1/items//similar",
        "/v1/../keys.json",
        "/v1/items/..%2f..%2fkeys.json/similar",
    ],
)
def test_strange_paths_are_refused(client, path):
    assert client.ask("GET", path).status_code in (404, 422)


def test_titles_are_sent_as_they_are_in_json_that_no_browser_runs(client):
    answer = ask(client, {"history": ["a03"]})
    assert answer.json()["items"][0]["title"] == "<b>Thing</b> 4"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.fixture
def lines():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(worker=3))
    logger = logging.getLogger("tailwise")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel("INFO")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_the_log_tells_of_every_request_and_of_no_user(tmp_path, lines):
    client = Client(tmp_path)
    client.token = client.new_key("admin")
    for user in ("secret-user", "secret\nuser"):
        client.ask("POST", "/v1/recommendations", {"surface": "home", "user_id": user})
    client.ask("GET", "/v1/items/secret-item/similar")
    client.ask("DELETE", "/v1/users/secret-user")
    client.ask("GET", "/v1/models", headers={"authorization": "Bearer secret-key"})
    text = json.dumps(lines())
    assert "secret" not in text
    assert client.token not in text
    requests = [line for line in lines() if line["event"] == "request"]
    assert [(line["route"], line["status"]) for line in requests] == [
        ("/v1/recommendations", 200),
        ("/v1/recommendations", 422),
        ("/v1/items/{item_id}/similar", 404),
        ("/v1/users/{user_id}", 200),
        ("other", 401),
    ]
    first = requests[0]
    assert first["key"] == client.token.split("_")[1]
    assert first["variant"] == "control"
    assert first["worker"] == 3
    assert first["ms"] > 0
    client.close()


def test_a_failing_model_is_told_in_the_log_by_place_and_not_by_message(tmp_path, lines):
    client = Client(tmp_path)
    client.lineup["control"].engine.model.recommender.fails = True
    answer = client.lists(history=["a03"])
    assert (answer["method"], answer["reason"]) == ("most-popular", "model-error")
    assert ids(answer)
    assert any(line.get("error") == "RuntimeError" for line in lines())
    assert "secret" not in json.dumps(lines())
    client.close()


def test_a_line_of_the_log_holds_no_message_of_an_exception(lines):
    try:
        raise ValueError("secret-value")
    except ValueError as error:
        log(logging.ERROR, "broken", error=error, request_id="r1")
    (line,) = lines()
    assert line["error"] == "ValueError"
    assert "test_http_hostile.py" in line["at"][-1]
    assert "secret" not in json.dumps(line)


def test_a_line_of_the_log_is_one_line(lines):
    log(logging.INFO, "two\nlines", field="a\nb\u2028c")
    (line,) = lines()
    assert line["event"] == "two"  # what follows a first line in other libraries' messages quotes values
    assert line["field"] == "a\nb\u2028c"
