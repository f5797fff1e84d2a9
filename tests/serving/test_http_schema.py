"""The OpenAPI schema is a promise: what it allows is taken, what it forbids refused, what it says is sent."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from .http_client import Client

OPERATIONS = [
    "POST /v1/recommendations",
    "GET /v1/items/{item_id}/similar",
    "POST /v1/events",
    "DELETE /v1/users/{user_id}",
    "GET /v1/models",
    "PUT /v1/models/{name}",
    "PUT /v1/catalogue",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
]
NO_INPUT = {"GET /v1/models", "GET /healthz", "GET /readyz", "GET /metrics"}  # nothing to get wrong
MODES = list(schemathesis.GenerationMode)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    client = Client(tmp_path_factory.mktemp("schema"), rate_limit="1000000/second")
    client.token = client.new_key("admin")
    yield client
    client.close()


def without_discriminators(content):
    if isinstance(content, dict):
        return {k: without_discriminators(v) for k, v in content.items() if k != "discriminator"}
    return [without_discriminators(entry) for entry in content] if isinstance(content, list) else content


@pytest.fixture(scope="module")
def api(client):
    """The schema, less its discriminators: negated alone, one value of them is another's valid one."""
    raw = client.ask("GET", "/openapi.json").json()
    loaded = schemathesis.openapi.from_dict(without_discriminators(raw))
    loaded.app = client.app
    return loaded


def test_every_operation_is_tried(api):
    assert sorted(found.ok().label for found in api.get_all_operations()) == sorted(OPERATIONS)


@pytest.mark.parametrize(
    ("label", "mode"),
    [(label, mode) for label in OPERATIONS for mode in MODES if mode.is_positive or label not in NO_INPUT],
    ids=str,
)
def test_what_the_schema_says_is_what_happens(api, client, label, mode):
    method, path = label.split()
    headers = {"Authorization": f"Bearer {client.token}"}

    @given(case=api[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=20,
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    def holds(case):
        case.call_and_validate(headers=headers)

    holds()
