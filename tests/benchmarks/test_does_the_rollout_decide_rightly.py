"""The benchmark of rollouts: it counts what it says, goes on where it was, and its definition is read."""

import json

import pytest

import does_the_rollout_decide_rightly as benchmark


def run(name: str, state: str, percent: float, **changes):
    return {
        "scenario": name,
        "seed": 0,
        "state": state,
        "days": 5.0,
        "highest_percent": percent,
        "red": [],
        "users": 10,
        "looks": 3,
        **changes,
    }


@pytest.mark.parametrize(
    ("name", "runs", "what", "n"),
    [
        (
            "over-correction",
            [("rolled_back", 5.0), ("rolled_back", 25.0), ("running", 5.0)],
            "rolled back before 25 %",
            1,
        ),
        ("uplift", [("completed", 95.0), ("running", 95.0), ("running", 50.0)], "reached 100 %", 2),
        (
            "at-the-margin",
            [("rolled_back", 5.0), ("paused", 5.0), ("completed", 95.0), ("running", 50.0)],
            "false alarm",
            3,
        ),
    ],
)
def test_runs_are_counted_as_declared(name, runs, what, n):
    counted = benchmark.judged(name, [run(name, state, percent) for state, percent in runs])
    assert {row[0]: row[1] for row in counted}[what] == n


def test_goals_are_met_or_missed_in_the_right_direction():
    runs = [run("over-correction", "rolled_back", 5.0)] * 19 + [run("over-correction", "running", 5.0)]
    first = benchmark.summary("over-correction", runs)["counted"][0]
    assert (first["share"], first["goal"], first["met"]) == (0.95, 0.95, True)
    alarmed = [run("aa", "rolled_back", 5.0, naive={"clicks": True})] * 2
    calm = [run("aa", "running", 50.0, naive={"clicks": False})] * 18
    first = benchmark.summary("aa", alarmed + calm)["counted"][0]
    assert (first["share"], first["goal"], first["met"]) == (0.1, 0.05, False)


def test_a_run_that_was_kept_is_not_run_again(tmp_path, capsys, monkeypatch):
    arguments = ["--scenarios", "broken", "--output", str(tmp_path), "--runs"]
    benchmark.main([*arguments, "1"])
    (folder,) = tmp_path.iterdir()
    kept = (folder / "runs.jsonl").read_text()
    calls = []
    real = benchmark.one_run
    monkeypatch.setattr(benchmark, "one_run", lambda *given: calls.append(given[2]) or real(*given))
    benchmark.main([*arguments, "2", "--date", folder.name[:10]])
    assert calls == [1]
    assert (folder / "runs.jsonl").read_text().startswith(kept)
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["scenarios"][0]["n_runs"] == 2
    assert {path.name for path in folder.iterdir()} == {
        "runs.jsonl",
        "result.json",
        "config.json",
        "table.txt",
    }
