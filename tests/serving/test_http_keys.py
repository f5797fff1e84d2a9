"""Who gets in: keys, roles, rates, hosts."""

import hashlib
import json
import stat

import pytest

from tailwise.errors import ConfigError, DataError
from tailwise.serving._http_access import A_PAGE
from tailwise.serving._http_guard import GuardSettings
from tailwise.serving._http_keys import ROLES, KeyStore
from tailwise.serving._http_limits import RateLimits, parse_rate

from .http_client import Client

EVENT = {
    "event_id": "e1",
    "type": "click",
    "user_id": "ann",
    "item_id": "a05",
    "occurred_at": 1_764_000_000.0,
}
# Method, path, body, roles beside admin that may.
ROUTES = [
    ("POST", "/v1/recommendations", {"surface": "home"}, {"recommend"}),
    ("GET", "/v1/items/a05/similar", None, {"recommend"}),
    ("POST", "/v1/events", {"events": [EVENT]}, {"write-events"}),
    ("GET", "/metrics", None, {"monitor"}),
    ("GET", "/v1/models", None, {"monitor"}),
    ("PUT", "/v1/models/control", {"source": "1"}, set()),
    ("PUT", "/v1/catalogue", {"items": [{"item_id": "a01"}]}, set()),
    ("DELETE", "/v1/users/nobody", None, set()),
    ("POST", "/v1/recommendations", {"surface": "home", "variant": "treatment"}, set()),
]


@pytest.fixture
def client(tmp_path):
    client = Client(tmp_path)
    yield client
    client.close()


@pytest.fixture
def store(tmp_path):
    return KeyStore(tmp_path / "deep" / "keys.json")


@pytest.mark.parametrize("role", ROLES)
def test_a_key_may_do_what_its_role_says_and_nothing_else(client, role):
    client.token = client.new_key(role)
    for method, path, body, roles in ROUTES:
        answer = client.ask(method, path, body)
        assert answer.status_code == (200 if role in roles | {"admin"} else 403), (method, path)
        if answer.status_code == 403:
            assert answer.json()["type"] == "urn:tailwise:problem:role-missing"


def test_a_key_with_two_roles_may_do_both(client):
    client.token = client.new_key("recommend", "write-events")
    statuses = [client.ask(method, path, body).status_code for method, path, body, _ in ROUTES[:4]]
    assert statuses == [200, 200, 200, 403]


def test_without_a_good_key_nothing_is_open_but_health_and_the_schema(client):
    key = client.new_key("admin")
    wrong = [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        f"Basic {key}",
        key,
        f"Bearer {key[:-1]}",
        f"Bearer {key[:-1]}{'0' if key[-1] != '0' else '1'}",  # the secret differs in one digit
        f"Bearer {key.upper()}",
        f"Bearer tw_{'0' * 12}_{'0' * 64}",
    ]
    for header in wrong:
        headers = {} if header is None else {"authorization": header}
        for method, path, body, _ in ROUTES:
            answer = client.ask(method, path, body, headers=headers)
            assert answer.status_code == 401, (header, path)
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert client.ask("GET", "/nowhere", headers=headers).status_code == 401
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert client.ask("GET", path).status_code == 200


def test_a_revoked_key_is_refused_from_the_next_request_on(client):
    client.token = client.new_key("recommend")
    other = client.new_key("recommend")
    client.lists()
    KeyStore(client.keys.file).revoke(client.token.split("_")[1])  # as another process would
    assert client.ask("POST", "/v1/recommendations", {"surface": "home"}).status_code == 401
    client.token = other
    client.lists()


def test_the_first_key_closes_a_running_service_and_revoking_it_does_not_open_it(client):
    client.lists()
    key = client.new_key("recommend")
    assert client.ask("POST", "/v1/recommendations", {"surface": "home"}).status_code == 401
    client.keys.revoke(key.split("_")[1])
    assert client.ask("POST", "/v1/recommendations", {"surface": "home"}).status_code == 401


def test_a_file_of_keys_that_goes_missing_opens_nothing(client):
    client.token = client.new_key("recommend")
    client.lists()
    client.keys.file.unlink()
    assert client.ask("POST", "/v1/recommendations", {"surface": "home"}).status_code == 401


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 2, "keys": []}', '{"format": 1, "keys": [{}]}']
)
def test_a_damaged_file_of_keys_refuses_everybody(client, content):
    client.token = client.new_key("recommend")
    client.keys.file.write_text(content)
    answer = client.ask("POST", "/v1/recommendations", {"surface": "home"})
    assert answer.status_code == 503
    with pytest.raises(DataError, match="keys must be a file that"):
        KeyStore(client.keys.file).all_keys()


def test_the_file_holds_hashes_and_is_for_its_owner_alone(store):
    key, text = store.create("shop", ["recommend", "recommend"], rate_limit="5/second")
    content = store.file.read_text()
    secret = text.split("_")[2]
    assert secret not in content
    (entry,) = json.loads(content)["keys"]
    assert entry["sha256"] == hashlib.sha256(secret.encode()).hexdigest()
    assert entry["roles"] == ["recommend"]
    assert stat.S_IMODE(store.file.stat().st_mode) == 0o600
    assert len(bytes.fromhex(secret)) == 32
    assert store.find(text) == key


def test_what_can_be_no_key_is_refused_by_name(store):
    with pytest.raises(ConfigError, match=r"--role must be one of .*; got 'reader'"):
        store.create("shop", ["reader"])
    with pytest.raises(ConfigError, match=r"--role must be .*; got 'none'"):
        store.create("shop", [])
    with pytest.raises(ConfigError, match=r"--name must be .*; got 'a\\nb'"):
        store.create("a\nb", ["admin"])
    with pytest.raises(ConfigError, match=r"--rate-limit must be a rate .*; got 'fast'"):
        store.create("shop", ["admin"], rate_limit="fast")
    with pytest.raises(ConfigError, match=r"key must be the id of one .*; got 'nope'"):
        store.revoke("nope")
    assert not store.file.exists() or store.all_keys() == []


def test_keys_made_at_once_by_two_stores_are_both_kept(store):
    other = KeyStore(store.file)
    store.create("a", ["admin"])
    other.create("b", ["admin"])
    assert [key.name for key in store.all_keys()] == ["a", "b"]


def test_a_key_that_asks_too_often_is_told_when_to_come_back_and_others_go_on(tmp_path):
    client = Client(tmp_path, rate_limit="3/minute")
    client.token = client.new_key("recommend")
    statuses = [client.ask("POST", "/v1/recommendations", {"surface": "home"}).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    answer = client.ask("POST", "/v1/recommendations", {"surface": "home"})
    assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert answer.json()["type"] == "urn:tailwise:problem:rate-limit"
    client.token = client.new_key("recommend", rate_limit="10/minute")  # of its own
    assert [client.ask("GET", "/v1/items/a01/similar").status_code for _ in range(11)] == [200] * 10 + [429]
    client.close()


def test_health_is_answered_however_often_it_is_asked(tmp_path):
    client = Client(tmp_path, rate_limit="1/minute")
    assert [client.ask("GET", "/healthz").status_code for _ in range(5)] == [200] * 5
    client.close()


@pytest.mark.parametrize("text", ["", "100", "0/second", "-1/second", "x/second", "1/fortnight", "1/second;"])
def test_what_is_no_rate_is_refused_by_name(text):
    with pytest.raises(ConfigError, match="rate_limit must be a rate such as"):
        parse_rate("rate_limit", text)


def test_a_rate_is_counted_over_a_window_that_slides():
    limits = RateLimits("2/hour")
    assert limits.wait_s("a", None) is None
    assert limits.wait_s("a", None) is None
    assert 1 <= limits.wait_s("a", None) <= 7200
    assert limits.wait_s("b", None) is None


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("[::1]:8000", 200),
        ("[::1]", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
        ("", 421),
    ],
)
def test_without_keys_only_names_of_the_loopback_are_answered(client, host, status):
    assert client.ask("GET", "/v1/models", headers={"host": host}).status_code == status


def test_without_keys_nobody_comes_in_by_way_of_a_proxy(client):
    for header in ("x-forwarded-for", "forwarded"):
        assert client.ask("GET", "/v1/models", headers={header: "for=203.0.113.7"}).status_code == 401


def test_with_keys_hosts_are_those_that_are_allowed(tmp_path):
    client = Client(tmp_path, guard=GuardSettings(allowed_hosts=["Shop.example"]))
    client.token = client.new_key("admin")
    assert client.ask("GET", "/v1/models", headers={"host": "shop.example:443"}).status_code == 200
    assert client.ask("GET", "/v1/models", headers={"host": "evil.example"}).status_code == 421
    assert client.ask("GET", "/v1/models").status_code == 421  # 127.0.0.1 is not on the list
    assert client.ask("GET", "/openapi.json").status_code == 421
    assert client.ask("GET", "/healthz").status_code == 200
    client.close()


def test_pages_that_check_a_cookie_themselves_are_let_through_and_nothing_beside_them(tmp_path):
    client = Client(tmp_path, guard=GuardSettings(pages="/dashboard"))
    client.new_key("admin")
    for path in ("/dashboard", "/dashboard/login"):
        assert client.ask("GET", path).status_code == 404  # no page is there, and none was refused
    for path in ("/dashboards", "/v1/models", "/metrics"):
        assert client.ask("GET", path).status_code == 401
    refused = client.ask("GET", "/dashboard", headers={"authorization": "Bearer tw_none"})
    assert refused.status_code == 401
    client.close()


def test_a_page_may_do_nothing_without_a_key():
    assert not any(A_PAGE.may(role) for role in ROLES)
