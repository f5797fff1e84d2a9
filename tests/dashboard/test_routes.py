import asyncio
import re
import threading
from html.parser import HTMLParser
from itertools import pairwise

import httpx
import pytest

from tailwise.dashboard import (
    Access,
    Alarm,
    Deliveries,
    GivenUp,
    Owed,
    PageCache,
    ServedLists,
    dashboard_routes,
)
from tailwise.errors import DataError
from tailwise.experiments import Rollout
from tests.dashboard.making import HOSTILE, START, FakeSource, app, experiment, running
from tests.serving.http_client import Client, member

PAGES = (
    "",
    "/live",
    "/experiments/discovery-eisam",
    "/experiments/discovery-eisam/lists",
    "/experiments/discovery-eisam/value",
)


def ask(made, *paths):
    async def run():
        transport = httpx.ASGITransport(made)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [await client.get(f"/dashboard{path}") for path in paths]

    return asyncio.run(run())


class Outline(HTMLParser):
    """Tags, headings, labels and ids of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.headings = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("dashboard")


@pytest.fixture(scope="module")
def texts(folder):
    found = ask(app(FakeSource(running(), Rollout(experiment("next-one"))), folder), *PAGES)
    assert [page.status_code for page in found] == [200] * len(PAGES)
    return {path: page.text for path, page in zip(PAGES, found, strict=True)}


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_locked_to_its_own_style_and_runs_nothing(folder, path):
    (found,) = ask(app(FakeSource(running()), folder), path)
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src" not in policy
    outline = Outline(found.text)
    assert "script" not in outline.tags
    assert not [
        a for _, attributes in outline.attributes for a in attributes if a == "style" or a.startswith("on")
    ]
    assert found.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", PAGES)
def test_no_page_names_another_host(texts, path):
    assert re.findall(r"https?://[^\s\"<]+", texts[path]) == []


@pytest.mark.parametrize("path", PAGES)
def test_hostile_titles_users_and_authors_stay_text(texts, path):
    assert "<script" not in texts[path]
    assert "<img" not in texts[path]


def test_hostile_titles_are_shown_as_they_are(texts):
    assert texts["/experiments/discovery-eisam/lists"].count("&lt;script&gt;alert(") >= 2
    assert "person:&lt;script&gt;" in texts["/experiments/discovery-eisam"]


@pytest.mark.parametrize("path", PAGES)
def test_headings_begin_with_one_and_skip_no_level(texts, path):
    levels = Outline(texts[path]).headings
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


@pytest.mark.parametrize("path", PAGES)
def test_every_field_has_a_label_and_every_id_is_there_once(texts, path):
    outline = Outline(texts[path])
    labels = {a["for"] for tag, a in outline.attributes if tag == "label"}
    fields = {a["id"] for tag, a in outline.attributes if tag == "input" and a.get("type") != "hidden"}
    ids = [a["id"] for _, a in outline.attributes if "id" in a]
    assert fields == labels
    assert len(ids) == len(set(ids))
    described = {i for _, a in outline.attributes for i in a.get("aria-describedby", "").split()}
    assert described <= set(ids)


def test_the_experiment_page_shows_every_part(texts):
    text = texts["/experiments/discovery-eisam"]
    for word in ("Ramp", "Guardrails", "Effects", "Over time", "Head against tail", "Decisions", "Evidence"):
        assert word in text
    assert text.count("<figure>") == 5
    assert "Looks like too many, but that is not shown" in text
    assert 'aria-current="step"' in text


def test_lights_say_with_a_word_and_a_shape_what_their_colour_says(texts):
    lights = re.findall(
        r'<span class="light (\w+)"><svg[^>]*>(.*?)</svg>(\w+)', texts["/experiments/discovery-eisam"]
    )
    shapes = {
        (colour, re.search(r"<(circle|rect|path)", shape).group(1), word) for colour, shape, word in lights
    }
    assert shapes == {("green", "circle", "Fine"), ("amber", "path", "Watch")}


def test_the_list_says_who_decided_what_last(texts):
    assert "<b>ramp</b> by machine, 4 days ago: No harm seen. On to 25 %." in texts[""]
    assert "Nothing was decided yet." in texts[""]


def test_empty_pages_say_what_to_do(folder):
    overview, live = ask(app(FakeSource(), folder), "", "/live")
    assert "tailwise experiment create" in overview.text
    assert "POST /v1/recommendations" in live.text
    assert "no monitor runs" in live.text
    draft = FakeSource(Rollout(experiment("next-one")))
    base = "/experiments/next-one"
    page, value = ask(app(draft, folder), base, f"{base}/value")
    assert "tailwise experiment start next-one" in page.text
    assert "GMV per user was not measured yet" in value.text
    (lists,) = ask(app(draft, folder, lists=None), f"{base}/lists")
    assert "runs without the service’s models" in " ".join(lists.text.split())


def test_an_unknown_experiment_is_a_page_that_leads_back(folder):
    (found,) = ask(app(FakeSource(), folder), f"/experiments/{HOSTILE.replace('/', '')}")
    assert found.status_code == 404
    assert 'href="/dashboard"' in found.text
    assert "<script" not in found.text


def test_models_that_cannot_answer_are_said(folder):
    (found,) = ask(app(FakeSource(running()), folder), "/experiments/discovery-eisam/lists?user=unknown")
    assert found.status_code == 200
    assert "The models are busy; ask again." in found.text


def test_both_lists_say_where_else_an_item_stands(texts):
    text = " ".join(re.sub(r"<[^>]+>", " ", texts["/experiments/discovery-eisam/lists"]).split())
    assert "In both lists 2 of 4" in text
    assert "treatment’s place 3" in text
    assert "Gießkanne tail only here" in text


def test_assumptions_of_the_address_are_in_the_sum(folder):
    base = "/experiments/discovery-eisam/value"
    query = "?monthly_gmv=1000000&gross_margin=0&tail_stock=0&training_hours=100&training_overhead=2"
    plain, given, wrong = ask(
        app(FakeSource(running()), folder), base, base + query, base + "?gross_margin=30"
    )
    assert "an example’s numbers" in plain.text
    assert "an example’s numbers" not in given.text
    assert "−1,000" in given.text  # 100 h x 4 trainings x 2.50
    assert "never at worst" in given.text
    assert "gross_margin must be a share in [0, 1]; got 30" in wrong.text
    assert 'aria-invalid="true"' in wrong.text


def test_a_page_is_computed_again_only_when_the_log_moved(folder):
    source = FakeSource(running())
    made = app(source, folder)
    page = "/experiments/discovery-eisam"
    ask(made, page, page, page + "/value")
    assert source.asked.count("tables") == 1
    source.number = 2
    ask(made, page)
    assert source.asked.count("tables") == 2


def test_a_long_computation_answers_first_with_a_page_that_asks_again_then_with_old_numbers(folder):
    gate = threading.Event()

    class Slow(FakeSource):
        def tables(self, name):
            gate.wait(20)
            return super().tables(name)

    source = Slow(running())
    cache = PageCache(patience_s=0.05)
    made = app(source, folder, cache=cache)
    page = "/experiments/discovery-eisam"
    (waiting,) = ask(made, page)
    assert 'http-equiv="refresh"' in waiting.text
    gate.set()
    cache._patience_s = 30
    (full,) = ask(made, page)
    assert "Newer numbers" not in full.text
    gate.clear()
    cache._patience_s = 0.05
    source.number = 2
    (stale,) = ask(made, page)
    gate.set()
    assert "Newer numbers are being computed" in stale.text
    assert "Head against tail" in stale.text
    assert 'http-equiv="refresh"' not in stale.text


def test_a_log_that_is_away_is_a_page_and_not_a_traceback(folder):
    source = FakeSource(running())
    source.is_away = True
    for found in ask(app(source, folder), *PAGES):
        assert found.status_code == 503
        assert "cannot be read now" in found.text
        assert "Traceback" not in found.text


def test_what_fails_inside_is_named_without_its_inside(folder):
    class Broken(FakeSource):
        error: Exception = RuntimeError("secret-of-a-user")

        def tables(self, name):
            raise self.error

    source = Broken(running())
    (found,) = ask(app(source, folder), "/experiments/discovery-eisam")
    assert found.status_code == 500
    assert "secret-of-a-user" not in found.text
    source.error, source.number = DataError("variant must stay the same for a user."), 2
    (found,) = ask(app(source, folder), "/experiments/discovery-eisam")
    assert "variant must stay the same for a user." in found.text


def test_alarms_are_on_the_first_page_until_they_are_cleared(folder):
    source = FakeSource(running())
    raised = Alarm(START, "raised", "retrain", "", "warning", "Train again: counts have moved.")
    source.told = [raised]
    (found,) = ask(app(source, folder), "")
    assert "1 alarm raised." in found.text
    assert "Train again: counts have moved." in found.text
    source.told = [Alarm(START + 1, "cleared", "retrain", "", "warning", "x"), raised]
    first, live = ask(app(source, folder), "", "/live")
    assert "alarm raised" not in first.text
    assert "Nothing is raised." in live.text
    assert "Train again: counts have moved." in live.text


def test_styles_may_be_kept_and_change_their_address_when_they_change(folder):
    page, style, icon = ask(app(FakeSource(), folder), "", "/static/dashboard.css", "/static/icon.svg")
    assert re.search(r'href="/dashboard/static/dashboard.css\?[0-9a-f]{12}"', page.text)
    assert "immutable" in style.headers["cache-control"]
    assert style.headers["content-type"].startswith("text/css")
    assert "http" not in style.text
    assert icon.headers["content-type"] == "image/svg+xml"


def test_the_service_carries_the_dashboard_and_leaves_its_headers(tmp_path):
    client = Client(tmp_path)
    try:
        lists = ServedLists(client.lineup, client.log)
        access = Access(client.keys, b"s" * 32)
        client.app.include_router(dashboard_routes(FakeSource(running()), access, lists=lists))
        page = client.ask("GET", "/dashboard")
        assert page.status_code == 200
        assert "style-src 'self'" in page.headers["content-security-policy"]
        assert page.headers["referrer-policy"] == "same-origin"
        assert page.headers["x-request-id"]
        assert "/dashboard" not in client.ask("GET", "/openapi.json").text
        side = client.ask("GET", "/dashboard/experiments/discovery-eisam/lists?user=ann")
        assert side.status_code == 200
        assert "&lt;b&gt;Thing&lt;/b&gt;" in side.text
        assert "<b>Thing" not in side.text
        assert client.log.lists == []
    finally:
        client.close()


def test_behind_the_services_guard_a_key_in_the_header_is_enough_and_only_an_admins(tmp_path):
    client = Client(tmp_path)
    try:
        client.app.include_router(dashboard_routes(FakeSource(running()), Access(client.keys, b"s" * 32)))
        client.token = client.new_key("admin")
        assert client.ask("GET", "/dashboard").status_code == 200
        client.token = client.new_key("monitor")
        assert client.ask("GET", "/dashboard").status_code == 303
    finally:
        client.close()


def test_a_model_that_is_not_served_is_said_with_its_remedy(tmp_path):
    client = Client(tmp_path, {"control": member(1)})
    try:
        access = Access(client.keys, b"s" * 32)
        lists = ServedLists(client.lineup)
        client.app.include_router(dashboard_routes(FakeSource(running()), access, lists=lists))
        side = client.ask("GET", "/dashboard/experiments/discovery-eisam/lists?user=ann")
        assert "tailwise serve --model treatment=RUN/VARIANT" in side.text
    finally:
        client.close()


def test_alarms_that_nobody_took_are_said_on_both_pages_with_receiver_number_and_moment(folder):
    source = FakeSource(running())
    made = app(source, folder)
    before = ask(made, "", "/live")
    assert all("owed to" not in page.text and "given up" not in page.text for page in before)
    source.owed = Deliveries(
        (Owed("hook-1234", 2, START),), (GivenUp("<b>old", "age", 1, START - 9e5, START),)
    )
    for page in ask(made, "", "/live"):
        assert page.status_code == 200
        assert "2 deliveries of alarms owed to <bdi>hook-1234</bdi></b> since 21 Sep 2026" in page.text
        assert "1 delivery of alarms to <bdi>&lt;b&gt;old</bdi> given up" in page.text
        assert "owed for too long" in page.text
