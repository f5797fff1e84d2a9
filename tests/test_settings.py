"""Settings: dataclasses from plain values and back, and what is said of wrong ones."""

import json
import tomllib
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise._settings import from_plain, plain_of, read_toml_file, toml_of
from tailwise.errors import ConfigError


@dataclass(frozen=True)
class Step:
    percent: float
    days: int = 1

    def __post_init__(self) -> None:
        if self.percent < 0:
            raise ValueError(f"percent must be >= 0; got {self.percent}.")


@dataclass(frozen=True)
class Plan:
    name: str
    first: Step = field(default_factory=lambda: Step(1.0))
    steps: tuple[Step, ...] = ()
    is_on: bool = False
    note: str | None = None
    kind: Literal["ramp", "switch"] = "ramp"
    limits: dict[str, float] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)
    late: int | None = field(default=None, metadata={"written_when_set": True})


FULL = Plan(
    'say "x"\n', Step(2.5, 3), (Step(1.0), Step(4.0)), True, "n", "switch", {"a": 1.0}, {"b": [1, "c"]}, 7
)


@pytest.mark.parametrize("plan", [Plan("x"), FULL])
def test_plain_values_read_back_equal_through_json_and_toml(plan):
    assert from_plain(Plan, json.loads(json.dumps(plain_of(plan, with_none=True)))) == plan
    assert from_plain(Plan, tomllib.loads(toml_of(plain_of(plan)))) == plan


def test_none_is_written_only_where_asked_for_and_never_where_a_field_is_written_when_set():
    assert "note" not in plain_of(Plan("x"))
    written = plain_of(Plan("x"), with_none=True)
    assert written["note"] is None
    assert "late" not in written
    assert plain_of(Plan("x", late=0))["late"] == 0


@given(st.text(), st.booleans(), st.floats(allow_nan=False, min_value=0))
def test_any_text_truth_value_and_number_come_back_from_toml(text, is_on, percent):
    plan = Plan(text, Step(percent), is_on=is_on)
    assert from_plain(Plan, tomllib.loads(toml_of(plain_of(plan)))) == plan


def test_the_word_for_none_counts_only_where_it_was_named_and_the_field_may_be_none():
    values = {"name": "none", "note": "none"}
    assert from_plain(Plan, values) == Plan("none", note="none")
    assert from_plain(Plan, values, none="none") == Plan("none", note=None)
    assert from_plain(Plan, {"name": "x", "note": None}).note is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, r"{}name must be given; got nothing\."),
        ({"name": "x", "stpes": []}, r"{}stpes must exist; got an unknown name\. Did you mean 'steps'\?"),
        ({"name": "x", "qqq": 1}, r"{}qqq must exist; got an unknown name\. Known: name, first, steps"),
        ({"name": 3}, r"{}name must be of kind str; got 3\."),
        ({"name": True}, r"{}name must be of kind str; got True\."),
        ({"name": "x", "is_on": 1}, r"{}is_on must be of kind bool; got 1\."),
        ({"name": "x", "kind": "jump"}, r"{}kind must be one of ramp, switch; got 'jump'\."),
        ({"name": "x", "first": 3}, r"{}first must be a table; got 3\."),
        (
            {"name": "x", "first": {"percent": 1, "days": 1.5}},
            r"{}first\.days must be of kind int; got 1\.5\.",
        ),
        (
            {"name": "x", "first": {"percent": 1, "days": True}},
            r"{}first\.days must be of kind int; got True",
        ),
        ({"name": "x", "first": {"percent": True}}, r"{}first\.percent must be of kind float; got True\."),
        ({"name": "x", "first": {}}, r"{}first\.percent must be given; got nothing\."),
        ({"name": "x", "steps": 3}, r"{}steps must be a list; got 3\."),
        ({"name": "x", "steps": [{"percent": 1}, 2]}, r"{}steps\[1\] must be a table; got 2\."),
        ({"name": "x", "steps": [{"percent": 1, "day": 2}]}, r"{}steps\[0\]\.day must exist.*'days'"),
        ({"name": "x", "limits": [1]}, r"{}limits must be a table; got \[1\]\."),
        ({"name": "x", "limits": {"a": "b"}}, r"{}limits\.a must be of kind float; got 'b'\."),
        ({"name": "x", "late": "b"}, r"{}late must be of kind int; got 'b'\."),
        ({"name": "x", "first": {"percent": -1}}, r"{}first: percent must be >= 0; got -1\.0\."),
    ],
)
@pytest.mark.parametrize(("where", "begin"), [("", "setting "), ("plan", r"plan\.")])
def test_an_error_names_the_place_the_rule_and_the_value(values, said, where, begin):
    with pytest.raises(ConfigError, match=f"^{said.replace('{}', begin)}"):
        from_plain(Plan, values, where)


def test_what_a_whole_config_refuses_is_called_settings():
    with pytest.raises(ConfigError, match=r"^settings: percent must be >= 0; got -1\.0"):
        from_plain(Step, {"percent": -1})


def test_a_file_that_is_not_there_or_not_toml_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"plan must be an existing TOML file; got '.*no\.toml' \(No such"):
        read_toml_file(tmp_path / "no.toml", "plan")
    (tmp_path / "bad.toml").write_text("a = \n")
    with pytest.raises(ConfigError, match=r"(?s)plan '.*bad\.toml' must be valid TOML; got: .*line 1"):
        read_toml_file(tmp_path / "bad.toml", "plan")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"plan '.*bytes\.toml' must be valid TOML; got: "):
        read_toml_file(tmp_path / "bytes.toml", "plan")
