import asyncio
import re

import httpx
import pytest

from tailwise.dashboard import session_secret
from tailwise.dashboard._access import COOKIE
from tailwise.errors import DataError
from tailwise.experiments import Rollout
from tailwise.serving._http_keys import KeyStore
from tests.dashboard.making import DAY, START, FakeSource, app, experiment, running

NOW = START + 12.2 * DAY


def ask(made, calls):
    """Run requests one after the other with one browser's cookies."""

    async def run():
        transport = httpx.ASGITransport(made)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [await call(client) for call in calls]

    return asyncio.run(run())


def get(path="", **kwargs):
    return lambda client: client.get(f"/dashboard{path}", **kwargs)


def sign_in(token, **kwargs):
    return lambda client: client.post(
        "/dashboard/login", data={"key": token, "next": "/dashboard/live"}, **kwargs
    )


@pytest.fixture
def keys(tmp_path):
    return KeyStore(tmp_path / "keys.json", clock=lambda: NOW)


@pytest.fixture
def admin(keys):
    return keys.create("dashboard", ["admin"])


def test_without_keys_everybody_on_the_loopback_may_look(tmp_path):
    (found,) = ask(app(FakeSource(running()), tmp_path), [get()])
    assert found.status_code == 200
    assert "Sign out" not in found.text


def test_without_keys_nobody_may_look_by_way_of_a_proxy(tmp_path):
    source = FakeSource(running())
    (found,) = ask(app(source, tmp_path), [get(headers={"x-forwarded-for": "10.0.0.1"})])
    assert found.status_code == 401
    assert source.asked == []


def test_with_keys_pages_send_to_the_form_and_read_nothing(tmp_path, keys, admin):
    source = FakeSource(running())
    made = app(source, tmp_path, keys=keys)
    paths = ["", "/live", *(f"/experiments/discovery-eisam{p}" for p in ("", "/lists", "/value"))]
    for path, found in zip(paths, ask(made, [get(path) for path in paths]), strict=True):
        assert found.status_code == 303
        assert found.headers["location"] == f"/dashboard/login?next=/dashboard{path}"
    assert source.asked == []


def test_a_key_of_role_admin_opens_a_session_that_a_cookie_carries(tmp_path, keys, admin):
    made = app(FakeSource(running()), tmp_path, keys=keys)
    begun, page = ask(made, [sign_in(admin[1]), get()])
    assert (begun.status_code, begun.headers["location"]) == (303, "/dashboard/live")
    cookie = begun.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert "Path=/dashboard" in cookie
    assert admin[1] not in cookie
    assert page.status_code == 200
    assert "Sign out" in page.text


def test_a_session_behind_https_never_travels_without(tmp_path, keys, admin):
    made = app(FakeSource(), tmp_path, keys=keys)
    (begun,) = ask(made, [sign_in(admin[1], headers={"x-forwarded-proto": "https"})])
    assert "; Secure" in begun.headers["set-cookie"]


@pytest.mark.parametrize("role", ["recommend", "write-events", "monitor"])
def test_other_roles_see_nothing(tmp_path, keys, admin, role):
    _, token = keys.create("shop", [role])
    made = app(FakeSource(), tmp_path, keys=keys)
    begun, bearer = ask(made, [sign_in(token), get(headers={"authorization": f"Bearer {token}"})])
    assert begun.status_code == 401
    assert "set-cookie" not in begun.headers
    assert "no good key of role admin" in begun.text
    assert token not in begun.text
    assert bearer.status_code == 303


def test_an_admin_key_in_the_header_needs_no_form(tmp_path, keys, admin):
    made = app(FakeSource(), tmp_path, keys=keys)
    (found,) = ask(made, [get(headers={"authorization": f"Bearer {admin[1]}"})])
    assert found.status_code == 200


def test_revoking_the_key_ends_its_sessions_at_once(tmp_path, keys, admin):
    made = app(FakeSource(), tmp_path, keys=keys)

    async def revoke(client):
        keys.revoke(admin[0].id)

    _, before, _, after = ask(made, [sign_in(admin[1]), get(), revoke, get()])
    assert (before.status_code, after.status_code) == (200, 303)


def test_a_session_ends_by_itself_and_when_somebody_signs_out(tmp_path, keys, admin):
    made, later = (app(FakeSource(), tmp_path, keys=keys, now=NOW + h * 3600) for h in (0, 12.1))
    begun, out, after = ask(made, [sign_in(admin[1]), lambda client: client.post("/dashboard/logout"), get()])
    assert (out.status_code, after.status_code) == (303, 303)
    value = re.match(rf"{COOKIE}=([^;]+)", begun.headers["set-cookie"]).group(1)
    headers = {"cookie": f"{COOKIE}={value}"}
    assert [r.status_code for r in ask(made, [get(headers=headers)])] == [200]
    assert [r.status_code for r in ask(later, [get(headers=headers)])] == [303]


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v[:-1] + ("0" if v[-1] != "0" else "1"),
        lambda v: re.sub(r"\.(\d+)\.", lambda m: f".{int(m.group(1)) + 9}.", v),
        lambda v: "0" * 12 + v[12:],
        lambda v: v.rpartition(".")[0],
        lambda v: "",
        lambda v: "a.²³.b",
        lambda v: "..",
    ],
)
def test_a_cookie_that_was_changed_is_none(tmp_path, keys, admin, change):
    made = app(FakeSource(), tmp_path, keys=keys)
    (begun,) = ask(made, [sign_in(admin[1])])
    value = re.match(rf"{COOKIE}=([^;]+)", begun.headers["set-cookie"]).group(1)
    header = [(b"cookie", f"{COOKIE}={change(value)}".encode())]
    assert [r.status_code for r in ask(made, [get(headers=header)])] == [303]


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://evil.example"}],
)
def test_forms_of_other_sites_are_refused(tmp_path, keys, admin, headers):
    made = app(FakeSource(), tmp_path, keys=keys)
    (found,) = ask(made, [sign_in(admin[1], headers=headers)])
    assert found.status_code == 403
    assert "set-cookie" not in found.headers


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example",
        "//evil.example",
        "/dashboard//evil.example",
        "/dashboard\\evil",
        "/v1",
        "/dashboardx",
    ],
)
def test_nobody_is_sent_elsewhere_after_signing_in(tmp_path, keys, admin, target):
    made = app(FakeSource(), tmp_path, keys=keys)
    form = {"key": admin[1], "next": target}
    (begun,) = ask(made, [lambda client: client.post("/dashboard/login", data=form)])
    assert begun.headers["location"] == "/dashboard"


def test_damaged_keys_let_nobody_in(tmp_path, keys, admin):
    made = app(FakeSource(Rollout(experiment())), tmp_path, keys=keys)
    keys.file.write_text("{")
    page, form, begun = ask(made, [get(), get("/login"), sign_in(admin[1])])
    assert (page.status_code, form.status_code, begun.status_code) == (500, 200, 503)
    assert "discovery-eisam" not in page.text


def test_workers_share_one_secret_that_only_its_owner_may_read(tmp_path):
    file = tmp_path / "state" / "dashboard.secret"
    first = session_secret(file)
    assert len(first) == 32
    assert session_secret(file) == first
    assert file.stat().st_mode & 0o077 == 0
    assert [path.name for path in file.parent.iterdir()] == ["dashboard.secret"]
    file.write_bytes(b"short")
    with pytest.raises(DataError, match=r"must hold 32 bytes that the dashboard wrote; got 5"):
        session_secret(file)
