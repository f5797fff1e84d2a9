"""docs/serving.md shows what really passes."""

import json
import re
from pathlib import Path

import pytest

from tailwise.serving._http_keys import ROLES
from tailwise.serving._http_schemas import ListRequest, Recommendations, SimilarRequest

from .http_client import Client, ids

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    client = Client(tmp_path_factory.mktemp("docs"))
    yield client
    client.close()


def blocks(route):
    """The two JSON blocks after a route."""
    found = re.findall(r"```json\n(.*?)```", PAGE.split(f"`POST {route}`\n")[1], flags=re.DOTALL)
    return json.loads(found[0]), json.loads(found[1])


def shape(value):
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__


def test_the_list_that_is_shown_is_what_comes(client):
    asked, shown = blocks("/v1/recommendations")
    found = client.lists(**asked)
    assert shape(found) == shape(shown)
    fixed = ("surface", "variant", "method", "reason", "logged", "user", "propensities")
    assert {name: found[name] for name in fixed} == {name: shown[name] for name in fixed}
    assert ids(found) == ids(shown)


def test_the_events_that_are_shown_are_kept_as_shown(client):
    asked, shown = blocks("/v1/events")
    assert client.ask("POST", "/v1/events", asked).json() == shown


def test_the_problem_that_is_shown_is_what_comes(client):
    shown = json.loads(re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)[-1])
    found = client.ask("POST", "/v1/recommendations", {"surface": "home", "k": 501}).json()
    assert {**found, "request_id": shown["request_id"]} == shown


def test_every_field_of_a_request_and_of_its_answer_is_explained():
    for name in {*ListRequest.model_fields, *SimilarRequest.model_fields, *Recommendations.model_fields}:
        assert f"`{name}`" in PAGE or f'"{name}"' in PAGE, name


def test_every_kind_of_problem_is_in_the_table():
    sources = [*(ROOT / "src/tailwise/serving").glob("_http_*.py"), ROOT / "src/tailwise/events/_routes.py"]
    text = "".join(source.read_text() for source in sources)
    kinds = set(re.findall(r'ProblemError\(\s*\d+,\s*"([a-z-]+)"', text))
    kinds |= {"swap-refused", "catalogue-refused", "no-such-path", "no-such-method", "bad-request"}
    assert len(kinds) > 15
    for kind in kinds:
        assert f"`{kind}`" in PAGE, kind


def test_every_role_and_every_metric_is_explained(client):
    for role in ROLES:
        assert f"| `{role}` |" in OPERATIONS
    families = re.findall(r"^# TYPE (tailwise_\w+)", client.ask("GET", "/metrics").text, flags=re.MULTILINE)
    for family in families:
        if not family.endswith("_created"):
            assert f"`{family}" in OPERATIONS, family
