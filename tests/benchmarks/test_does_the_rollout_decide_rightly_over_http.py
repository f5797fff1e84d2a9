"""The benchmark of rollouts over HTTP: judged as declared, made once, and a drill that is seen for real."""

import json

import pytest

import does_the_rollout_decide_rightly_over_http as benchmark
from tailwise.jobs._simulate_scenarios import SCENARIOS


def row(name: str, seed: int = 0, **changes):
    return {
        "scenario": name,
        "seed": seed,
        "state": "running",
        "percent": 25.0,
        "days": 14.0,
        "visits": 1200,
        "decisions": [],
        "shown_better": [],
        "effects": {},
        **changes,
    }


def test_every_scenario_of_the_simulation_is_played_and_the_drilled_one_alone_with_a_drill():
    assert set(benchmark.PLAYS) == set(SCENARIOS)
    for name, play in benchmark.PLAYS.items():
        assert bool(play.drill) == SCENARIOS[name].needs_drill
        assert (play.treatment == "adamw") == SCENARIOS[name].needs_equal_models


@pytest.mark.parametrize(
    ("name", "changes", "verdict"),
    [
        ("over-correction", {"state": "rolled_back"}, True),
        ("over-correction", {"state": "completed"}, False),
        ("lost", {"state": "paused"}, False),
        ("broken", {"state": "rolled_back"}, True),
        ("real-uplift", {"percent": 95.0}, True),
        ("real-uplift", {"percent": 50.0}, False),
        ("a-a", {"state": "completed", "percent": 95.0}, True),
        ("a-a", {"state": "rolled_back"}, False),
        ("a-a", {"shown_better": ["tail_clicks"]}, False),
        ("bots", {"state": "rolled_back"}, None),
    ],
)
def test_a_row_is_judged_as_was_declared(name, changes, verdict):
    assert benchmark.is_as_expected(row(name, **changes)) is verdict


def test_an_interval_that_says_nothing_covers_nothing():
    effects = {
        "clicks": {"truth": 0.1, "estimate": 0.2, "low": 0.0, "high": 0.3},
        "gmv": {"truth": 0.1, "estimate": 0.2, "low": 0.15, "high": 0.3},
        "tail_clicks": {"truth": 0.1},
    }
    assert benchmark.covered(row("drift", effects=effects)) == (1, 2)


def test_the_table_counts_what_ended_as_expected_and_names_what_did_not():
    rows = [row("broken", 0, state="rolled_back"), row("broken", 1, state="completed"), row("drift")]
    text = benchmark.table(rows)
    assert "broken: 1 of 2 as expected (rolled back)" in text
    assert [line.split()[-1] for line in text.splitlines()[2:5]] == ["yes", "NO", "-"]


def test_a_row_that_was_kept_is_not_made_again(tmp_path, capsys, monkeypatch):
    made = []

    def one_row(name, seed, *_):
        made.append((name, seed))
        if len(made) == 3:
            raise SystemExit("stopped")
        return row(name, seed, state="rolled_back")

    monkeypatch.setattr(benchmark, "one_row", one_row)
    monkeypatch.setattr(benchmark, "train", lambda setting, folder: folder)
    arguments = ["--setting", "tiny", "--only", "broken", "lost", "--repeats", "2", "--output", str(tmp_path)]
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    (folder,) = tmp_path.iterdir()
    assert len(list((folder / "rows").iterdir())) == 2
    benchmark.main([*arguments, "--date", folder.name[:10]])
    assert made == [("broken", 0), ("broken", 1), ("lost", 0), ("lost", 0), ("lost", 1)]
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {each["scenario"]: each["n_as_expected"] for each in record["scenarios"]} == {
        "broken": 2,
        "lost": 2,
    }
    assert {path.name for path in folder.iterdir()} == {"rows", "table.txt", "result.json", "config.json"}


@pytest.mark.slow
def test_a_drilled_treatment_is_rolled_back_over_http_for_what_is_wrong_with_it(
    tmp_path, tailwise_cache, capsys
):
    benchmark.main(["--setting", "tiny", "--only", "broken", "--repeats", "1", "--output", str(tmp_path)])
    (file,) = tmp_path.glob("*/rows/broken-0.json")
    found = json.loads(file.read_text())
    assert found["state"] == "rolled_back"
    assert set(found["decisions"][-1]["red"]) & {"errors", "fallbacks", "latency_p95"}
    assert "broken: 1 of 1 as expected" in capsys.readouterr().out
