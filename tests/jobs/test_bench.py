import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tailwise import cli, jobs
from tailwise.errors import ConfigError, DataError
from tailwise.evaluation import Rankings, target_values
from tailwise.jobs import BenchConfig, _bench_cell, config_from_dict, load_bench_config
from tailwise.jobs._bench_tuning import judge, listed_trials, read_choice, run_listed_trial, tune

pytestmark = pytest.mark.usefixtures("tailwise_cache")

METHODS: list[dict[str, Any]] = [
    {"name": "adamw", "role": "baseline", "search": {"training.learning_rate": [1e-2, 3e-3]}},
    {"name": "longer", "role": "rival", "training": {"max_epochs": 3}, "recommender": {"dropout": 0.3}},
    {
        "name": "logit-adjustment",
        "role": "rival",
        "search": {"logit_adjustment": {"low": 0.1, "high": 1.0}},
        "curve": {"logit_adjustment": [0.5]},
    },
    {
        "name": "one-tau",
        "role": "rival",
        "variant": {"logit_adjustment": 0.3},
        "curve": {"logit_adjustment": [0.3]},
    },
    {
        "name": "rerank",
        "role": "rival",
        "search": {"rerank": [0.05, 0.3]},
        "curve": {"rerank": [0.05, 0.3]},
    },
    {
        "name": "eisam",
        "role": "eisam",
        "label": "EISAM",
        "variant": {"optimizer": "eisam"},
        "search": {"rho": {"low": 0.01, "high": 0.1, "log": True}},
    },
    {"name": "most-popular", "role": "scale", "reference": "most-popular"},
]


def declared(log: Any, model: Path, **changes: Any) -> dict[str, Any]:
    return {
        "question": "Does it help?",
        "settings": [
            {
                "name": "shop-20",
                "data": {
                    "interactions": str(log.interactions),
                    "items": str(log.items),
                    "split": "leave-last-out",
                    "training_histories": 20,
                },
            }
        ],
        "methods": METHODS,
        "run": {
            "model": {"model": str(model), "depth": 1, "lora_rank": 2, "dtype": "float32"},
            "recommender": {"max_length": 8},
            "training": {"max_epochs": 2, "positions_per_batch": 40, "checkpoint_seconds": 0.0},
            "evaluation": {"validation_users": 20, "n_resamples": 100},
        },
        "seeds": [0, 1],
        "n_trials": 2,
        "tuning_users": 30,
        **changes,
    }


@pytest.fixture(scope="module")
def content(tiny_log, tiny_model):
    return declared(tiny_log, tiny_model)


@pytest.fixture(scope="module")
def config(content) -> BenchConfig:
    return config_from_dict(BenchConfig, content)


@pytest.fixture(scope="module")
def finished(config, session_cache, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("bench") / "records"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILWISE_CACHE", str(session_cache))
        jobs.bench(config, out, quiet=True)
    return out


def records(out: Path) -> dict[str, dict[str, Any]]:
    files = sorted(out.glob("*/cells/*/seed-*/record.json"))
    return {str(file.parent.relative_to(out)): json.loads(file.read_text()) for file in files}


def tuning(out: Path, method: str) -> dict[str, Any]:
    return json.loads((out / "shop-20" / "tuning" / f"{method}.json").read_text())


def test_every_method_seed_and_point_of_a_curve_has_a_record(finished):
    points = ["logit-adjustment@0.5", "one-tau@0.3", "rerank@0.05", "rerank@0.3"]
    names = [method["name"] for method in METHODS] + points
    assert set(records(finished)) == {f"shop-20/cells/{n}/seed-{s}" for n in names for s in (0, 1)}
    point = records(finished)["shop-20/cells/logit-adjustment@0.5/seed-0"]
    assert point["cell"]["curve"] == {"knob": "logit_adjustment", "value": 0.5}
    assert point["settings"]["logit_adjustment"] == 0.5


def test_the_point_of_a_curve_that_tuning_chose_is_the_chosen_cell(finished):
    found = tuning(finished, "rerank")
    chosen = found["trials"][found["chosen"]]["settings"]["rerank"]
    cells = finished / "shop-20" / "cells"
    whole = json.loads((cells / "rerank" / "seed-1" / "record.json").read_text())
    for value in (0.05, 0.3):
        folder = cells / f"rerank@{value}" / "seed-1"
        point = json.loads((folder / "record.json").read_text())
        assert point["cell"].pop("curve") == {"knob": "rerank", "value": value}
        is_same = point | {"cell": whole["cell"]} == whole
        assert is_same == (value == chosen)
        ranks = (folder / "ranks.parquet").read_bytes()
        assert (ranks == (cells / "rerank" / "seed-1" / "ranks.parquet").read_bytes()) == is_same


def test_the_point_of_a_curve_where_the_method_is_declared_is_not_trained_again(finished):
    cells = finished / "shop-20" / "cells"
    of_method, of_point = (
        json.loads((cells / name / "seed-0" / "record.json").read_text())
        for name in ("one-tau", "one-tau@0.3")
    )
    assert of_point["cell"]["curve"] == {"knob": "logit_adjustment", "value": 0.3}
    assert of_point["cost"] == of_method["cost"]  # measured seconds: of one training


def test_ranks_lie_in_the_order_of_the_targets_and_give_the_recorded_accuracy(finished):
    targets = pl.read_parquet(finished / "shop-20" / "targets.parquet")
    assert targets.columns == ["user_index", "item_index", "segment", "revenue"]
    items = pl.read_parquet(finished / "shop-20" / "items.parquet")
    labels = items["segment"].to_numpy()[targets["item_index"].to_numpy()]
    assert targets["segment"].to_list() == labels.tolist()
    for name, record in records(finished).items():
        ranks = pl.read_parquet(finished / name / "ranks.parquet")
        lists = targets.select("user_index").unique().with_columns(items=pl.lit([], pl.List(pl.Int32)))
        rankings = Rankings(pl.concat([targets, ranks], how="horizontal"), lists, items.height, 50)
        values = target_values(rankings, "ndcg", 10)
        assert record["test"]["overall"] == pytest.approx(values.mean())
        assert record["test"]["tail"] == pytest.approx(values[labels == "tail"].mean())


def test_the_baselines_training_is_taken_over_unless_a_method_has_its_own(finished):
    chosen = tuning(finished, "adamw")
    rate = chosen["trials"][chosen["chosen"]]["settings"]["training.learning_rate"]
    found = records(finished)
    assert found["shop-20/cells/eisam/seed-0"]["settings"]["training.learning_rate"] == rate
    longer = found["shop-20/cells/longer/seed-0"]
    assert longer["settings"]["training.learning_rate"] == rate
    assert longer["cost"]["n_epochs"] == 3
    assert longer["settings"]["recommender.dropout"] == 0.3
    assert found["shop-20/cells/adamw/seed-0"]["cost"]["n_epochs"] == 2


def test_every_method_with_a_search_has_as_many_trials_and_the_best_by_the_rule_is_chosen(finished, config):
    best = max(trial["validation"]["overall"] for trial in tuning(finished, "adamw")["trials"])
    for method in ("adamw", "logit-adjustment", "rerank", "eisam"):
        content = tuning(finished, method)
        values = [judge(trial["validation"], best, margin=0.02) for trial in content["trials"]]
        assert [trial["value"] for trial in content["trials"]] == values
        assert values[content["chosen"]] == max(values)
        assert len(values) == config.n_trials
        assert len({json.dumps(trial["settings"]) for trial in content["trials"]}) == config.n_trials
        assert content["rule"] == config.rule
    assert not (finished / "shop-20" / "tuning" / "longer.json").exists()  # nothing to search


def test_trials_of_listed_values_need_not_wait_for_each_other(finished, config, tmp_path, monkeypatch):
    out = tmp_path / "part"
    shutil.copytree(finished, out)
    adamw, rerank, eisam = (config.method(name) for name in ("adamw", "rerank", "eisam"))
    of_adamw = read_choice(finished, "shop-20", "adamw")
    assert listed_trials(config, "shop-20", eisam, of_adamw) == []  # proposed one after another
    for method, of_baseline in ((adamw, None), (rerank, of_adamw)):
        shutil.rmtree(out / "shop-20" / "work" / "tuning" / method.name)
        (out / "shop-20" / "tuning" / f"{method.name}.json").unlink()
        for cell in reversed(listed_trials(config, "shop-20", method, of_baseline)):
            assert run_listed_trial(config, out, cell, of_baseline).startswith(cell.text)
        with monkeypatch.context() as patch:
            patch.setattr("tailwise.jobs._bench_cell._recommender", None)  # anything made anew would fail
            tune(config, out, "shop-20", method, of_baseline)
        again, before = (tuning(where, method.name) for where in (out, finished))
        for trial in [*again["trials"], *before["trials"]]:
            del trial["seconds"]
        assert again == before


def test_a_trial_of_several_seeds_is_judged_by_the_means(finished, config, tmp_path, monkeypatch):
    out = tmp_path / "part"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "shop-20" / "tuning")
    several = replace(config, more_tuning_seeds=(101, 102))
    assert "the means over seeds 100, 101, 102: " in several.rule
    adamw, rerank = (several.method(name) for name in ("adamw", "rerank"))
    tune(several, out, "shop-20", adamw, None)
    of_adamw = read_choice(out, "shop-20", "adamw")
    loaded, load = [], _bench_cell.load_recommender
    monkeypatch.setattr(
        _bench_cell, "load_recommender", lambda path, **how: (loaded.append(path), load(path, **how))[1]
    )
    tune(several, out, "shop-20", rerank, of_adamw)
    trial = f"trial-{of_adamw['trial']}"
    assert {path.parent.name for path in loaded} == {f"{trial}-seed-101", f"{trial}-seed-102"}
    for name in ("adamw", "rerank"):
        found, of_one = tuning(out, name)["trials"], tuning(finished, name)["trials"]
        for one, of_first_seed in zip(found, of_one, strict=True):
            assert one["by_seed"][0] == of_first_seed["validation"]  # kept: seed 100 is not trained again
            assert len({by_seed["overall"] for by_seed in one["by_seed"]}) == 3
            for segment, mean in one["validation"].items():
                assert mean == pytest.approx(np.mean([by_seed[segment] for by_seed in one["by_seed"]]))


def test_reranking_trains_nothing_and_changes_the_baselines_scores(finished):
    found = records(finished)
    assert found["shop-20/cells/rerank/seed-0"]["cost"] is None
    assert found["shop-20/cells/rerank/seed-0"]["settings"]["rerank"] > 0
    shares = {
        m: found[f"shop-20/cells/{m}/seed-0"]["exposure"]["tail_slot_share"] for m in ("adamw", "rerank")
    }
    assert shares["rerank"] >= shares["adamw"]


def test_a_finished_benchmark_is_not_repeated_and_an_unfinished_one_goes_on(
    finished, config, tmp_path, monkeypatch
):
    part = tmp_path / "part"
    shutil.copytree(finished, part)
    before = records(part)
    lost = part / "shop-20" / "cells" / "eisam" / "seed-1"
    shutil.rmtree(lost)
    (part / "shop-20" / "tuning" / "eisam.json").unlink()  # trials are still there
    jobs.bench(config, part, quiet=True)
    after = records(part)
    assert set(after) == set(before)
    assert after["shop-20/cells/eisam/seed-1"]["test"] == before["shop-20/cells/eisam/seed-1"]["test"]
    monkeypatch.setattr("tailwise.jobs._bench_cell.fit_variant", None)  # anything trained would fail
    jobs.bench(config, part, quiet=True)


def test_points_of_curves_can_be_left_for_another_call(finished, config, tmp_path, monkeypatch):
    part = tmp_path / "part"
    shutil.copytree(finished, part)
    point = part / "shop-20" / "cells" / "logit-adjustment@0.5"
    shutil.rmtree(point)
    with monkeypatch.context() as patch:
        patch.setattr("tailwise.jobs._bench_cell.fit_variant", None)  # anything trained would fail
        jobs.bench(config, part, curves=False, quiet=True)
    assert not point.exists()
    jobs.bench(config, part, quiet=True)
    assert records(part).keys() == records(finished).keys()


def test_two_processes_find_what_one_finds(finished, config, tmp_path):
    out = tmp_path / "two"
    jobs.bench(config, out, processes=2, methods=["eisam"], seeds=[0], quiet=True)
    for name in ("shop-20/cells/adamw/seed-0", "shop-20/cells/eisam/seed-0"):
        assert records(out)[name]["settings"] == records(finished)[name]["settings"]
        # Sums of floats depend on the number of threads, so ranks may, but hardly.
        found, expected = (records(where)[name]["test"]["overall"] for where in (out, finished))
        assert found == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_benchmark(content, tmp_path, session_cache):
    file, out = tmp_path / "bench.toml", tmp_path / "out"
    endless = {**content["run"], "training": {**content["run"]["training"], "max_epochs": 10_000}}
    file.write_text(_toml({**content, "run": endless}))
    program = (
        "import tailwise.jobs._bench as b; b._GRACE_SECONDS = 0.1\n"
        "from pathlib import Path; from tailwise import jobs\n"
        f"if __name__ == '__main__': jobs.bench(jobs.load_bench_config(Path({str(file)!r})),"
        f" Path({str(out)!r}), processes=2, quiet=True)"
    )
    script = tmp_path / "script.py"
    script.write_text(program)
    environment = {**os.environ, "TAILWISE_CACHE": str(session_cache), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, str(script)], env=environment) as process:
        checkpoints = out / "shop-20" / "work" / "tuning" / "adamw" / "trial-0" / "training"
        _wait(lambda: any(checkpoints.glob("step-*")), seconds=120)
        workers = _children(process.pid)
        assert workers
        process.kill()
    _wait(lambda: not any(_is_running(pid) for pid in workers), seconds=30)


def _wait(is_so: Callable[[], bool], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_cell_run_again_is_equal_to_its_record(finished, config):
    finished.with_name("records.again").mkdir()  # somebody's own
    beside = set(finished.parent.iterdir())
    for method in ("eisam", "rerank"):
        found = jobs.bench_cell(config, finished, setting="shop-20", method=method, seed=1)
        assert found["is_equal"]
        assert found["found"] == records(finished)[f"shop-20/cells/{method}/seed-1"]["test"]
    assert set(finished.parent.iterdir()) == beside
    with pytest.raises(ConfigError, match="setting must be among shop-20; got elsewhere"):
        jobs.bench_cell(config, finished, setting="elsewhere", method="eisam", seed=0)
    with pytest.raises(ConfigError, match="cell must be in the records; got shop-20, eisam, seed 7"):
        jobs.bench_cell(config, finished, setting="shop-20", method="eisam", seed=7)


def test_another_benchmark_in_the_folder_is_refused_and_a_larger_one_is_not(finished, content, tmp_path):
    part = tmp_path / "part"
    shutil.copytree(finished, part)
    other = config_from_dict(BenchConfig, {**content, "margin": 0.05})
    with pytest.raises(ConfigError, match="where margin are declared otherwise"):
        jobs.bench(other, part, quiet=True)
    changed = [{**METHODS[0], "search": {}}, *METHODS[1:]]
    with pytest.raises(ConfigError, match=r"methods\.adamw"):
        jobs.bench(config_from_dict(BenchConfig, {**content, "methods": changed}), part, quiet=True)
    shorter = [{**m, "curve": {}} if m.get("curve") else m for m in METHODS]
    with pytest.raises(
        ConfigError, match=r"methods\.logit-adjustment, methods\.one-tau, methods\.rerank are declared"
    ):
        jobs.bench(config_from_dict(BenchConfig, {**content, "methods": shorter}), part, quiet=True)
    longer = [{**m, "curve": {k: [*v, 0.2] for k, v in m.get("curve", {}).items()}} for m in METHODS]
    more = [*longer, {"name": "item-knn", "role": "scale", "reference": "item-knn"}]
    jobs.bench(config_from_dict(BenchConfig, {**content, "methods": more}), part, quiet=True)
    assert "shop-20/cells/rerank@0.2/seed-1" in records(part)
    assert "shop-20/cells/item-knn/seed-1" in records(part)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": METHODS[1:]}, "methods must hold one of role baseline; got 0"),
        ({"methods": [*METHODS, METHODS[1]]}, "methods must be one or more of different names"),
        ({"seeds": [0, 100]}, "tuning_seed must not be among the seeds that are tested; got 100"),
        ({"more_tuning_seeds": [101, 0]}, r"more_tuning_seeds must differ from .* got \[101, 0\]"),
        ({"more_tuning_seeds": [100]}, r"more_tuning_seeds must differ from .* got \[100\]"),
        ({"more_tuning_seeds": [101, 101]}, r"more_tuning_seeds must differ from .* got \[101, 101\]"),
        ({"seeds": []}, "seeds must be one or more different numbers"),
        ({"tuning_k": 0}, "tuning_k must be >= 1; got 0"),
        ({"n_trials": 0}, "n_trials must be >= 1; got 0"),
        ({"tuning_users": 0}, "tuning_users must be >= 1; got 0"),
        (
            {"comparisons": [{"method": "eisam", "against": "adam"}]},
            "comparisons.against must be a method, or method@value of its curve; got 'adam'",
        ),
        (
            {"comparisons": [{"method": "logit-adjustment@7", "against": "adamw"}]},
            "comparisons.method must be a method, .* got 'logit-adjustment@7'",
        ),
        (
            {"comparisons": [{"method": "eisam", "against": "eisam"}]},
            "comparisons must be of two methods; got 'eisam' against 'eisam'",
        ),
        (
            {"comparisons": [{"method": "eisam", "against": "adamw", "seeds": [0, 9]}]},
            r"seeds of the comparison of 'eisam' against 'adamw' must be among \[0, 1\]; got \[9\]",
        ),
        ({"comparisons": [{"method": "eisam", "against": "adamw"}] * 2}, "must differ .* got one twice"),
        ({"margin": 1.0}, r"margin must be a fraction in \(0, 1\), .* got 1\.0"),
        ({"margin": 0}, r"margin must be a fraction in \(0, 1\), .* got 0.*\n  For two percent, write 0\.02"),
        ({"run": {"training": {"max_epochs": 0}}}, "max_epochs must be >= 1; got 0"),
        (
            {"methods": [{**METHODS[0], "search": {"training.learning_rate": [1e-3, -1.0]}}]},
            "learning_rate must be > 0; got -1.0",
        ),
        ({"methods": [{**METHODS[0], "search": {"training.rate": [1e-3]}}]}, "training.rate must exist"),
        (
            {"methods": [METHODS[0], {**METHODS[1], "curve": {"recommender.dropuot": [0.5]}}]},
            "recommender.dropuot must exist",
        ),
        (
            {"methods": [METHODS[0], {**METHODS[1], "search": {"recommender.dropout": [0.2, 1.5]}}]},
            r"dropout must be in \[0, 1\); got 1\.5",
        ),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(content, changes, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(BenchConfig, {**content, **changes})


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"role": "hero"}, "methods.role must be one of"),
        ({"role": "scale"}, "must have a reference if, and only if, its role is scale"),
        ({"reference": "als", "role": "scale"}, "reference of 'm' must be one of"),
        ({"search": {"rho": {"low": 0.1}}}, "search of 'm' must map rho to a list"),
        ({"search": {"rho": {"low": 0, "high": 1, "log": True}}}, "search of 'm' must map rho"),
        ({"curve": {"a": [1], "b": [2]}}, "curve of 'm' must have one knob"),
        ({"variant": {"optimizer": "none-such"}}, "variant optimizer must be one of"),
        ({"search": {"radius": [0.1]}}, "radius must exist"),
        ({"search": {"model.depth": [2, 4]}}, r"a knob of 'm' must be .* got 'model\.depth'\.\n  What"),
        ({"search": {"logit_adjustment": [0.1, -0.1]}}, "logit_adjustment must be a finite number >= 0"),
        ({"curve": {"logit_adjustment": [-0.1]}}, "logit_adjustment must be a finite number >= 0"),
        (
            {"curve": {"estimator": ["exact"]}},
            "curve of 'm' must map estimator to finite numbers; got 'exact'",
        ),
        ({"curve": {"rho": [0.1, 0.1]}}, r"must map rho to numbers that differ .* got \[0\.1, 0\.1\]"),
        (
            {"search": {"rerank": [0.1]}, "variant": {"optimizer": "sam"}},
            r"'m' with rerank must have no other setting, .* got variant\.optimizer = 'sam'\.\n  Take it out",
        ),
        ({"search": {"rerank": [0.1]}, "training": {"max_epochs": 3}}, r"got training\.max_epochs = 3"),
        ({"search": {"rerank": [0.1]}, "recommender": {"dropout": 0.3}}, r"got recommender\.dropout = 0\.3"),
        ({"variant": {"rerank": 0.1}, "search": {"rho": [0.1]}}, r"got search\.rho = \[0\.1\]"),
        ({"search": {"rerank": [0.1]}, "curve": {"rho": [0.1]}}, r"got curve\.rho = \(0\.1,\)"),
        ({"curve": {"rerank": [-0.1]}}, r"rerank of 'm' must be a finite number >= 0; got -0\.1"),
        ({"search": {"rerank": ["much"]}}, "rerank of 'm' must be a finite number >= 0; got 'much'"),
        ({"role": "baseline", "curve": {"rerank": [0.1]}}, "of role baseline must be trained; got rerank"),
        (
            {"role": "scale", "reference": "sasrec", "search": {"training.learning_rate": [0.1]}},
            "search of 'm' must be left out, for a reference .* got training.learning_rate",
        ),
        (
            {"role": "scale", "reference": "item-knn", "curve": {"rerank": [0.1]}},
            "curve of 'm' must be left out, for a reference .* got rerank",
        ),
        (
            {"role": "scale", "reference": "item-knn", "recommender": {"dropout": 0.3}},
            "recommender of 'm' must be left out, for a reference .* got dropout",
        ),
    ],
)
def test_a_method_that_cannot_be_is_refused(method, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(jobs.BenchMethod, {"name": "m", "role": "rival", **method})


@pytest.mark.parametrize(
    "of_items", [{"search": {"recommender.dropout": [0.1, 0.2]}}, {"recommender": {"dropout": 0.1}}]
)
def test_a_setting_of_items_as_tokens_is_refused_where_titles_are_written(content, of_items):
    item_tokens = config_from_dict(BenchConfig, content)
    method = replace(item_tokens.methods[0], **of_items)
    assert replace(item_tokens, methods=(method,))
    run = {**content["run"], "title": {}, "training": {}}
    with pytest.raises(
        ConfigError, match=r"setting of 'adamw' must change something in 'shop-20'.*recommender\.dropout"
    ):
        replace(item_tokens, methods=(method,), run=run)


@pytest.mark.parametrize("name", ["pooled", "Pooled", "../x", "a/b", ""])
def test_a_setting_whose_name_cannot_be_a_folders_or_means_all_settings_is_refused(name):
    with pytest.raises(ConfigError, match=rf"settings\.name must be usable as a folder's.* got '{name}'"):
        config_from_dict(jobs.BenchSetting, {"name": name, "data": {}})


def test_a_trial_that_costs_too_much_overall_never_beats_one_that_does_not():
    best = 0.1
    kept = judge({"overall": 0.0981, "tail": 0.0}, best, margin=0.02)
    lost = judge({"overall": 0.0979, "tail": 1.0}, best, margin=0.02)
    assert kept > lost
    assert judge({"overall": 0.05, "tail": 0.0}, best, margin=0.02) < lost


def test_the_command_line_runs_one_prints_a_cell_and_writes_tables(content, finished, tmp_path, capsys):
    file = tmp_path / "bench.toml"
    file.write_text(_toml(content))
    assert load_bench_config(file) == config_from_dict(BenchConfig, content)
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["bench", str(file), "--out", str(finished), "--quiet"])
    assert "tables.md" in capsys.readouterr().out
    assert (finished / "figure.svg").is_file()
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["bench", str(file), "--out", str(finished), "--cell", "shop-20/adamw/0"])
    assert capsys.readouterr().out.splitlines()[-1] == "equal to the record"
    kept = tmp_path / "kept"
    shutil.copytree(finished, kept)
    file_of_cell = kept / "shop-20" / "cells" / "adamw" / "seed-0" / "record.json"
    record = json.loads(file_of_cell.read_text())
    record["test"]["tail"] += 0.1
    record["surroundings"]["machine"]["instructions"] = ["abacus"]
    file_of_cell.write_text(json.dumps(record))
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["bench", str(file), "--out", str(kept), "--cell", "shop-20/adamw/0"])
    *_, verdict, why = capsys.readouterr().out.splitlines()
    assert verdict == "NOT equal to the record"
    assert why.startswith("sums may be rounded otherwise; instructions: recorded ['abacus'], here ")
    with pytest.raises(SystemExit, match=r"^[12]$"):
        cli.main(["bench", str(file), "--out", str(finished), "--cell", "shop-20"])
    assert "--cell must be SETTING/METHOD/SEED" in capsys.readouterr().err


def test_tables_come_from_records_alone_the_data_are_made_again_and_must_be_the_same(
    content, finished, tmp_path, monkeypatch
):
    file, out = tmp_path / "bench.toml", tmp_path / "cloned"
    file.write_text(_toml(content))
    shutil.copytree(finished, out)
    for name in ("data", "work"):
        shutil.rmtree(out / "shop-20" / name)
    for name in ("targets", "items"):
        (out / "shop-20" / f"{name}.parquet").unlink()
    monkeypatch.setattr("tailwise.jobs._bench_cell.read_titles", None)  # no language model is needed
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["bench", str(file), "--out", str(out), "--tables", "--quiet"])
    assert (out / "tables.md").is_file()
    shop = out / "shop-20"
    assert (shop / "setting.json").read_text() == (finished / "shop-20" / "setting.json").read_text()

    (shop / "items.parquet").unlink()
    about = json.loads((shop / "setting.json").read_text())
    (shop / "setting.json").write_text(json.dumps(about | {"checksum": "of other files"}))
    with pytest.raises(DataError, match="checksum must be of other files, as of the data that the records"):
        jobs.prepare_tables(config_from_dict(BenchConfig, content), out, quiet=True)


def _toml(value: Any) -> str:
    """A nested value as one inline TOML document."""

    def inline(entry: Any) -> str:
        if isinstance(entry, dict):
            return "{" + ", ".join(f'"{k}" = {inline(v)}' for k, v in entry.items()) + "}"
        if isinstance(entry, list):
            return "[" + ", ".join(map(inline, entry)) + "]"
        return json.dumps(entry)

    return "\n".join(f"{key} = {inline(entry)}" for key, entry in value.items())


def test_a_smaller_number_of_histories_is_among_a_larger_one_and_each_has_a_target(finished):
    from tailwise.jobs._run_data import load_run_data

    data = load_run_data(finished / "shop-20" / "data")
    whole = [history.tolist() for history in data.training_histories()]
    few, more = ([h.tolist() for h in data.training_histories(n, seed=3)] for n in (5, 20))
    assert (len(few), len(more)) == (5, 20)
    assert all(history in more for history in few)
    assert all(len(history) > 1 for history in more)
    assert more == [history for history in whole if history in more]
    other = [h.tolist() for h in data.training_histories(5, seed=4)]
    assert other != few
    assert np.array_equal(data.counts, load_run_data(finished / "shop-20" / "data").counts)
