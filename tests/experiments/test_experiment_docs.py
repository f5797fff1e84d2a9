"""docs/experiments.md is a promise: its code runs, and every setting stands there with its default."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tailwise.experiments import (
    Experiment,
    Policy,
    ServiceLimits,
    StageRule,
    legal_actions,
    read_policy,
    transition,
)
from tailwise.experiments._rollout import STATES
from tests.experiments.test_rollout import rollout_in

PAGE_FILE = Path(__file__).resolve().parents[2] / "docs" / "experiments.md"
PAGE = PAGE_FILE.read_text()


def rows(heading: str) -> dict[str, str]:
    """First column -> second column of every table below a heading."""
    body = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = {}
    for names, value in re.findall(r"^\| (`[^|]+`) \|([^|]*)\|", body, flags=re.MULTILINE):
        for name in re.findall(r"`([\w.]+)`", names):
            found[name] = value.strip()
    return found


def written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(written(entry) for entry in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def defaults(cls: type, prefix: str = "") -> dict[str, str]:
    return {
        prefix + field.name: written(field.default)
        for field in dataclasses.fields(cls)
        if field.default is not dataclasses.MISSING and not dataclasses.is_dataclass(field.default)
    }


def test_every_setting_of_the_policy_is_documented_with_its_default():
    expected = {n: v for n, v in defaults(Policy).items() if n not in ("stages", "effects")}
    expected |= defaults(StageRule, "every_stage.") | defaults(ServiceLimits, "service.")
    found = rows("The policy")
    assert {name: found.get(name) for name in expected} == expected


def test_every_field_of_an_experiment_is_documented_with_its_default():
    found = rows("The definition")
    assert found.keys() == {field.name for field in dataclasses.fields(Experiment)}
    for name, value in defaults(Experiment).items():
        assert found[name] == value, name


def test_every_proof_and_every_state_is_explained():
    assert {"no-harm-shown", "no-harm-seen", "non-inferior", "effect-shown"} <= set(
        re.findall(r"^\| `([\w-]+)` \|", PAGE, flags=re.MULTILINE)
    )
    for state in STATES:
        assert re.search(rf"^\| (`\w+`, )?`{state}`", PAGE, flags=re.MULTILINE), state


def test_what_a_state_may_become_is_what_the_table_says():
    says = {
        name: line for line in PAGE.splitlines() if line.startswith("| `") for name in line.split("`")[1:2]
    }
    for state, words in {
        "running": ("paused", "rolled back", "stopped", "completed", "next stage"),
        "paused": ("running", "rolled back", "stopped"),
        "completed": ("rolled back", "stopped"),
        "draft": ("running", "stopped"),
    }.items():
        reached = {
            transition(rollout_in(state, stage), action, 1.0).state
            for stage in (0, 4)
            for action in legal_actions(rollout_in(state, stage))
        } - {state}
        assert {name.replace("_", " ") for name in reached} <= {*words, "next stage"}
        assert all(word in says[state] for word in words)


def test_the_tables_shown_are_a_policy_file(tmp_path):
    shown = re.findall(r"^```toml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    file = tmp_path / "policy.toml"
    file.write_text(shown[0])
    policy = read_policy(file)
    assert policy.rule_for(1).proof == "no-harm-shown"
    assert [limit.margin for limit in policy.effects] == [0.15]


def test_every_result_shown_stands_in_the_record_of_the_benchmark():
    folder = PAGE_FILE.parents[1] / "benchmarks/results/2026-11-28-does-the-rollout-decide-rightly"
    counted = [
        (
            str(scenario["n_runs"]),
            row["what"],
            f"{row['share']:.1%}",
            f"{row['low']:.1%} to {row['high']:.1%}",
        )
        for scenario in json.loads((folder / "result.json").read_text())["scenarios"]
        for row in scenario["counted"]
    ]
    shown = re.findall(r"^\| .+ \| (\d+) \| (.+?) \| (.+?) \| (.+? to .+?) \|", PAGE, flags=re.MULTILINE)
    assert len(shown) == 11
    assert set(shown) <= set(counted)


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))
def test_python_blocks_of_the_page_run_without_a_warning(block):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "rolled_back" in done.stdout
