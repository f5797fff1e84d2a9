import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwise.errors import DataError
from tailwise.reports import check_metrics, read_metrics, write_metrics

Metrics = dict[str, Any]
SCHEMA_DOC = Path(__file__).parents[2] / "docs" / "metrics-schema.md"


def test_what_is_written_is_read_back_unchanged(metrics: Metrics, tmp_path: Path) -> None:
    path = write_metrics(metrics, tmp_path / "deep" / "metrics.json")
    assert read_metrics(path) == metrics
    assert [p.name for p in path.parent.iterdir()] == ["metrics.json"], "a temporary file was left"


def test_numpy_scalars_are_written_as_numbers(metrics: Metrics, tmp_path: Path) -> None:
    metrics["variants"][0]["accuracy"][0]["value"] = np.float32(0.5)
    metrics["data"]["n_users"] = np.int64(943)
    metrics["data"]["concentration"]["curve"] = [(0.0, 0.0), (1.0, 1.0)]
    found = read_metrics(write_metrics(metrics, tmp_path / "metrics.json"))
    assert found["variants"][0]["accuracy"][0]["value"] == 0.5
    assert found["data"]["n_users"] == 943
    assert found["data"]["concentration"]["curve"] == [[0.0, 0.0], [1.0, 1.0]]


def test_bad_results_leave_the_old_file_in_place(metrics: Metrics, tmp_path: Path) -> None:
    path = write_metrics(metrics, tmp_path / "metrics.json")
    before = path.read_bytes()
    metrics["variants"][1]["cost"] = {"train_seconds": float("nan")}
    with pytest.raises(
        DataError, match=r"variants\[1\]\.cost\.train_seconds must be finite or null; got nan"
    ):
        write_metrics(metrics, path)
    assert path.read_bytes() == before


def test_missing_file_is_named_with_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)none\.json does not exist.*tailwise evaluate"):
        read_metrics(tmp_path / "none.json")


def test_text_that_is_not_json_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{\n"a": oops}')
    with pytest.raises(DataError, match=r"must be JSON; line 2, column 6"):
        read_metrics(path)


def test_json_that_is_not_an_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text("[1]")
    with pytest.raises(DataError, match="must hold an object; got list"):
        read_metrics(path)


@pytest.mark.parametrize("version", [0, 2, "1"])
def test_unknown_schema_version_is_refused_and_named(
    metrics: Metrics, tmp_path: Path, version: object
) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(metrics | {"schema_version": version}))
    with pytest.raises(DataError, match=rf"schema_version must be 1; got {re.escape(repr(version))}"):
        read_metrics(path)


def test_schema_version_is_refused_before_fields_that_the_version_may_have_renamed() -> None:
    with pytest.raises(DataError, match="schema_version must be 1; got 9"):
        check_metrics({"schema_version": 9})


def _set(path: str, value: object) -> Callable[[Metrics], None]:
    def change(metrics: Metrics) -> None:
        *parents, last = [int(p) if p.isdigit() else p for p in re.findall(r"\w+", path)]
        place: Any = metrics
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[last]
        else:
            place[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema_version", ..., "field schema_version is missing"),
        ("data.split.method", ..., "field data.split.method is missing"),
        ("variants[1].accuracy[3].low", ..., "field variants[1].accuracy[3].low is missing"),
        ("comparisons[0].n_seeds", ..., "field comparisons[0].n_seeds is missing"),
        ("data.n_users", "many", "data.n_users must be a whole number; got 'many'"),
        ("data.n_users", True, "data.n_users must be a whole number; got True"),
        ("created_at", "yesterday", "created_at must be an ISO 8601 time such as"),
        (
            "segments.segments[0].item_share",
            20,
            "segments.segments[0].item_share must be a fraction in 0–1; got 20",
        ),
        (
            "variants[0].role",
            "winner",
            "variants[0].role must be one of baseline, treatment, reference; got 'winner'",
        ),
        ("variants[1].name", "most-popular", "names in variants must be unique; got 'most-popular'"),
        ("variants", [], "variants must hold at least one variant"),
        ("variants[2].cost.n_steps", "x", "variants[2].cost.n_steps must be a number; got 'x'"),
        ("comparisons[0].baseline", "sgd", "comparisons[0].baseline must be one of the variants"),
        ("data.concentration.curve", [[0.1]], "data.concentration.curve[0] must be a pair"),
        (
            "data.split.parameters",
            {"cut": object},
            "data.split.parameters.cut must be a plain JSON value; got type",
        ),
    ],
)
def test_a_broken_field_is_named_by_its_path(
    metrics: Metrics, path: str, value: object, message: str
) -> None:
    broken = copy.deepcopy(metrics)
    _set(path, value)(broken)
    with pytest.raises(DataError, match=re.escape(message)):
        check_metrics(broken)


def test_unknown_fields_pass_because_the_schema_may_gain_some(metrics: Metrics) -> None:
    metrics["data"]["mood"] = "sunny"
    assert check_metrics(metrics)["data"]["mood"] == "sunny"


def test_every_documented_top_level_field_is_required(metrics: Metrics) -> None:
    documented = set(re.findall(r"^\| `(\w+)", SCHEMA_DOC.read_text(encoding="utf-8"), re.MULTILINE))
    assert documented == set(metrics)
    for field in documented:
        with pytest.raises(DataError, match=f"field {field} is missing"):
            check_metrics({key: value for key, value in metrics.items() if key != field})
