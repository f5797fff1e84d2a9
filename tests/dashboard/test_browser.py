"""The pages in a real Chromium: nothing leaves the machine or breaks, fingers and keys reach all of it."""

import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
import uvicorn

from tailwise.dashboard import Alarm
from tailwise.experiments import Rollout
from tailwise.serving._http_keys import KeyStore
from tests.chromium import launch, playwright_api
from tests.dashboard.making import START, FakeSource, app, experiment, running

pytestmark = pytest.mark.slow
playwright = playwright_api()

BASE = "/dashboard/experiments/discovery-eisam"
PAGES = ("/dashboard", BASE, f"{BASE}/lists", f"{BASE}/value", "/dashboard/live")
SIZES = {"phone": (360, 740), "desk": (1200, 800)}


class Served:
    """An application on a free port of the loopback."""

    def __init__(self, made) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        config = uvicorn.Config(made, log_level="warning", lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})

    def __enter__(self):
        self._thread.start()
        until = time.monotonic() + 20
        while not self._server.started and time.monotonic() < until:
            time.sleep(0.02)
        assert self._server.started
        return self

    def __exit__(self, *_) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._listener.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Served]:
    source = FakeSource(running(), Rollout(experiment("next-one")))
    source.told = [Alarm(START, "raised", "exposure", "tail", "alarm", "The tail share of slots fell.")]
    with Served(app(source, tmp_path_factory.mktemp("dashboard"))) as served:
        yield served


@pytest.fixture(scope="module")
def locked(tmp_path_factory) -> Iterator[tuple[Served, str]]:
    folder = tmp_path_factory.mktemp("locked")
    keys = KeyStore(folder / "keys.json")
    _, token = keys.create("dashboard", ["admin"])
    now = time.time()
    with Served(app(FakeSource(running()), folder, keys=keys, now=now)) as served:
        yield served, token


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = launch(driver)
        yield browser
        browser.close()


class Watched:
    """A tab whose requests and complaints are written down."""

    def __init__(self, chromium, **settings) -> None:
        self.context = chromium.new_context(**settings)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message) or dialog.dismiss())
        self.page.on("requestfailed", self._failed)

    def _failed(self, request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the next page was asked for before the icon was there
            self.complaints.append(f"{request.url}: {request.failure}")

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.context.close()


def size(name):
    width, height = SIZES[name]
    return {"viewport": {"width": width, "height": height}}


@pytest.mark.parametrize("kind", SIZES)
def test_no_request_leaves_the_machine_and_nothing_complains(site, chromium, kind):
    with Watched(chromium, **size(kind)) as tab:
        for path in PAGES:
            answer = tab.page.goto(site.url + path)
            assert answer.status == 200
        assert {urlsplit(url).hostname for url in tab.requests} == {"127.0.0.1"}
        assert tab.complaints == []
        paths = {urlsplit(url).path for url in tab.requests}
        assert {"/dashboard/static/dashboard.css"} <= paths


def test_a_foreign_request_would_be_seen(site, chromium):
    with Watched(chromium, **size("desk")) as tab:
        tab.page.goto(site.url + "/dashboard")
        tab.page.evaluate("() => { const i = new Image(); i.src = 'http://127.0.0.2:9/x.png'; }")
        tab.page.wait_for_timeout(200)
        assert any("Content Security Policy" in complaint for complaint in tab.complaints)


@pytest.mark.parametrize("path", [*PAGES, "/dashboard/experiments/next-one", f"{BASE}/value?gross_margin=30"])
def test_a_phone_never_scrolls_sideways(site, chromium, path):
    with Watched(chromium, **size("phone")) as tab:
        tab.page.goto(site.url + path)
        for summary in tab.page.locator("details:not([open]) > summary").all():
            if summary.is_visible():
                summary.click()
        width = tab.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360


_REACHABLE = """() => {
  const all = 'a[href], button, input:not([type=hidden]), summary, [tabindex="0"]';
  return [...document.querySelectorAll(all)].filter(e => e.checkVisibility()).length }"""
_FOCUSED = """() => {
  const e = document.activeElement, place = e.getBoundingClientRect();
  const isSeen = getComputedStyle(e).outlineStyle !== 'none' || e.className === 'skip';
  return [e.tagName, isSeen, place.top + scrollY, place.left] }"""


@pytest.mark.parametrize("path", PAGES)
def test_the_keyboard_reaches_everything_in_order_and_sees_where_it_is(site, chromium, path):
    with Watched(chromium, **size("desk")) as tab:
        tab.page.goto(site.url + path)
        reachable = tab.page.evaluate(_REACHABLE)
        places = []
        for _ in range(reachable):
            tab.page.keyboard.press("Tab")
            places.append(tab.page.evaluate(_FOCUSED))
        assert "BODY" not in {tag for tag, *_ in places}
        assert all(is_seen for _, is_seen, *_ in places)
        # downwards, up to what stands on one line, or on to the next column
        for (*_, top, left), (*_, next_top, next_left) in pairwise(places[1:]):
            assert next_top >= top - 40 or next_left > left


def test_the_first_tab_stop_skips_to_the_content(site, chromium):
    with Watched(chromium, **size("desk")) as tab:
        tab.page.goto(site.url + "/dashboard")
        tab.page.keyboard.press("Tab")
        assert tab.page.evaluate("document.activeElement.textContent") == "Skip to the content"
        tab.page.keyboard.press("Enter")
        assert tab.page.evaluate("document.activeElement.id") == "main"


_CONTRAST = """() => {
  const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1] };
  const part = v => v <= 10 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = c => { const f = part;
    return .2126 * f(c[0]) + .7152 * f(c[1]) + .0722 * f(c[2]) };
  const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c[3] === 1) return c } return [255, 255, 255, 1] };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    if (!e.checkVisibility()) continue;
    const isSvg = e.tagName === 'text';
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own) continue;
    const style = getComputedStyle(e), back = light(ground(e));
    const ink = light(parse(isSvg ? style.fill : style.color));
    const ratio = (Math.max(ink, back) + .05) / (Math.min(ink, back) + .05);
    if (ratio < 4.5) bad.push([e.tagName, e.textContent.slice(0, 30), ratio]);
  }
  return bad }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground_by_four_and_a_half_to_one(site, chromium, scheme):
    with Watched(chromium, color_scheme=scheme, **size("desk")) as tab:
        grounds = set()
        for path in (*PAGES, f"{BASE}/value?gross_margin=30"):
            tab.page.goto(site.url + path)
            assert tab.page.evaluate(_CONTRAST) == []
            grounds.add(tab.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert grounds == {{"light": "rgb(246, 247, 249)", "dark": "rgb(15, 19, 24)"}[scheme]}


_SMALL = """() => {
  const all = 'nav a, button, input:not([type=hidden]), summary';
  const isSmall = b => b.height < 24 || b.width < 24;  // WCAG 2.2, 2.5.8
  return [...document.querySelectorAll(all)].filter(e => e.checkVisibility())
    .filter(e => isSmall(e.getBoundingClientRect())).map(e => e.textContent.trim()) }"""


def test_targets_are_large_enough_for_a_finger(site, chromium):
    with Watched(chromium, **size("phone")) as tab:
        for path in PAGES:
            tab.page.goto(site.url + path)
            assert tab.page.evaluate(_SMALL) == []


def test_hostile_titles_run_nothing_and_are_read_as_text(site, chromium):
    with Watched(chromium, **size("desk")) as tab:
        tab.page.goto(f"{site.url}{BASE}/lists")
        tab.page.wait_for_timeout(100)
        assert tab.page.locator("td bdi", has_text='<script>alert("x")</script>').count() == 2
        assert tab.page.locator("td img").count() == 0
        assert tab.complaints == []


def test_a_form_is_filled_and_sent_by_keyboard_alone(site, chromium):
    with Watched(chromium, **size("desk")) as tab:
        tab.page.goto(f"{site.url}{BASE}/value")
        tab.page.get_by_label("GMV of a month").focus()
        tab.page.keyboard.press("Control+A")
        tab.page.keyboard.type("5000000")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_url("**monthly_gmv=5000000**")
        assert tab.page.get_by_text("an example’s numbers").count() == 0
        assert tab.page.get_by_label("GMV of a month").input_value() == "5000000"


def test_a_key_opens_the_dashboard_and_signing_out_closes_it(locked, chromium):
    served, token = locked
    with Watched(chromium, **size("phone")) as tab:
        tab.page.goto(served.url + BASE)
        assert tab.page.title() == "Sign in · Tailwise"
        tab.page.get_by_label("Key").fill("tw_wrong")
        tab.page.keyboard.press("Enter")
        tab.page.get_by_text("This is no good key of role admin.").wait_for()
        tab.complaints.clear()  # the browser remarks on the 401
        tab.page.get_by_label("Key").fill(token)
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_url(served.url + BASE)
        assert tab.page.get_by_role("heading", level=1).inner_text().startswith("discovery-eisam")
        assert tab.page.evaluate("document.cookie") == ""  # no script could read it
        tab.page.get_by_role("button", name="Sign out").click()
        tab.page.wait_for_url("**/dashboard/login")
        tab.page.goto(served.url + "/dashboard")
        assert tab.page.title() == "Sign in · Tailwise"
        assert tab.complaints == []
