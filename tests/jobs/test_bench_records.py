import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from tailwise import jobs
from tailwise.errors import ConfigError
from tailwise.evaluation import Rankings
from tailwise.jobs import (
    BenchComparison,
    BenchConfig,
    _bench,
    _bench_cell,
    config_from_dict,
    load_bench_config,
)
from tailwise.jobs._bench_cell import Cell, finished_record, run_cell, run_trial
from tailwise.jobs._bench_folder import BenchFolder, SettingFolder, sole_process_at
from tailwise.jobs._bench_settings import check_settings_of_record, settings_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BASELINE: dict[str, Any] = {"name": "adamw", "role": "baseline"}
TAU: dict[str, Any] = {
    "name": "tau",
    "role": "rival",
    "variant": {"logit_adjustment": 0.3},
    "curve": {"logit_adjustment": [0.3, 0.6]},
}
RERANK: dict[str, Any] = {"name": "rerank", "role": "rival", "curve": {"rerank": [0.1, 0.2]}}


def declared(*methods: dict[str, Any]) -> BenchConfig:
    content = {
        "question": "Does it help?",
        "settings": [{"name": "shop", "data": {"name": "ml-100k"}}],
        "methods": [BASELINE, *methods],
        "seeds": [0, 1],
        "n_trials": 1,
    }
    return config_from_dict(BenchConfig, content)


def write_json(content: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


@pytest.fixture
def tuned(tmp_path) -> Path:
    """The folder of a benchmark whose baseline was tuned, and had nothing to choose."""
    trial = {"settings": {}, "value": 0.1, "validation": {"overall": 0.1, "head": 0.1, "tail": 0.1}}
    content = {"method": "adamw", "rule": "", "trials": [trial], "chosen": 0}
    write_json(content, tmp_path / "shop" / "tuning" / "adamw.json")
    return tmp_path


@pytest.fixture
def worked(monkeypatch) -> list[str]:
    """The cells that were worked at, in their order; nothing is trained."""
    cells: list[str] = []

    def keep(config: BenchConfig, out: Path, cell: Cell, _: Path | None) -> dict[str, Any]:
        cells.append(cell.text)
        record = {
            "cell": {"curve": cell.curve},
            "settings": settings_of(config.method(cell.method), cell.knobs),
            "test": {"overall": 0.1, "head": 0.1, "tail": 0.1},
            "cost": None,
        }
        kept = BenchFolder(out).setting(cell.setting).cell(cell.method, cell.seed, cell.value)
        write_json(record, kept.path / "record.json")
        return record

    monkeypatch.setattr(_bench, "run_cell", keep)
    monkeypatch.setattr(_bench, "prepare_setting", lambda *_: None)
    return cells


def test_reranking_in_the_curve_alone_changes_scores_at_its_points(tuned):
    config = declared(RERANK)
    method = config.method("rerank")
    assert method.is_rerank
    cells = _bench._cells(config, tuned, "shop", method, 0, curves=True)
    assert [settings_of(method, cell.knobs)["rerank"] for cell in cells] == [0.0, 0.1, 0.2]
    assert not any(cell.is_as_chosen for cell in cells)


def test_knobs_reach_into_the_recommender_and_those_of_the_baseline_are_taken_over():
    own = {"name": "wetter", "role": "rival", "search": {"recommender.dropout": [0.3, 0.5]}}
    config = declared(own, TAU)
    chosen = {"recommender.dropout": 0.2, "training.max_epochs": 3, "logit_adjustment": 0.1}
    for name, knobs, dropout in (("tau", {}, 0.2), ("wetter", {"recommender.dropout": 0.5}, 0.5)):
        method = config.method(name)
        of_training = config.knobs(method, knobs, chosen)
        run = config.run_config(config.settings[0], method, of_training, seed=0)
        assert (run.recommender.dropout, run.training.max_epochs) == (dropout, 3)
        assert settings_of(method, of_training)["recommender.dropout"] == dropout


def test_methods_as_chosen_of_every_seed_come_before_points_of_curves(tuned, worked):
    jobs.bench(declared(RERANK, TAU), tuned, quiet=True)
    assert worked == [
        f"shop, {cell}"
        for stage in (
            ("adamw, seed {}", "tau, seed {}"),
            ("rerank, seed {}",),
            ("tau logit_adjustment=0.3, seed {}",),  # as chosen: a copy
            ("tau logit_adjustment=0.6, seed {}",),
            ("rerank rerank=0.1, seed {}", "rerank rerank=0.2, seed {}"),
        )
        for seed in (0, 1)
        for cell in (name.format(seed) for name in stage)
    ]


def test_a_method_that_was_left_out_for_a_while_may_not_come_back_otherwise(tuned, worked):
    jobs.bench(declared(TAU), tuned, quiet=True)
    jobs.bench(declared(), tuned, quiet=True)
    told = json.loads((tuned / "bench.json").read_text())
    assert [method["name"] for method in told["methods"]] == ["adamw"]  # what tables show
    assert [method["name"] for method in told["declared"]["methods"]] == ["adamw", "tau"]
    with pytest.raises(ConfigError, match=r"where methods\.tau are declared otherwise"):
        jobs.bench(declared({**TAU, "variant": {"logit_adjustment": 0.6}}), tuned, quiet=True)
    n_done = len(worked)
    jobs.bench(declared(TAU), tuned, quiet=True)
    assert len(worked) == n_done


def test_a_method_may_be_called_otherwise_in_tables(tuned, worked):
    jobs.bench(declared(TAU), tuned, quiet=True)
    n_done = len(worked)
    jobs.bench(declared({**TAU, "label": "Logit adjustment"}), tuned, quiet=True)
    assert len(worked) == n_done
    assert json.loads((tuned / "bench.json").read_text())["methods"][1]["label"] == "Logit adjustment"


def test_tables_take_labels_and_comparisons_from_the_declaration(tuned, worked):
    jobs.bench(declared(TAU), tuned, quiet=True)
    wanted = {"method": "tau@0.6", "against": "adamw", "family": "later", "seeds": [1]}
    config = replace(
        declared({**TAU, "label": "τ"}), comparisons=(BenchComparison("tau@0.6", "adamw", "later", (1,)),)
    )
    n_done = len(worked)
    jobs.prepare_tables(config, tuned, quiet=True)
    told = json.loads((tuned / "bench.json").read_text())
    assert told["comparisons"] == [wanted]
    assert told["methods"][1]["label"] == "τ"
    assert len(worked) == n_done
    with pytest.raises(ConfigError, match=r"where methods\.tau are declared otherwise"):
        jobs.prepare_tables(declared({**TAU, "variant": {"logit_adjustment": 0.6}}), tuned, quiet=True)
    jobs.prepare_tables(config, tuned / "elsewhere", quiet=True)  # nothing is there, so nothing is written
    assert not (tuned / "elsewhere").exists()


def test_a_finished_cell_of_other_settings_is_refused(tuned, worked):
    jobs.bench(declared(TAU), tuned, quiet=True)
    (tuned / "bench.json").unlink()
    changed = declared({**TAU, "variant": {"logit_adjustment": 0.6}})
    message = r"shop, tau, seed 0 must have .* logit_adjustment = 0\.6, and 0\.3 in .*cells/tau/seed-0"
    with pytest.raises(ConfigError, match=message):
        jobs.bench(changed, tuned, quiet=True)
    (cell, *_) = _bench._cells(changed, tuned, "shop", changed.method("tau"), 1, curves=True)
    with pytest.raises(ConfigError, match=r"shop, tau, seed 1 must .*\n.* another name, or .* another --out"):
        run_cell(changed, tuned, cell, None)


def test_a_finished_trial_of_other_settings_is_refused(tuned):
    config = declared({**TAU, "search": {"logit_adjustment": [0.1]}})
    record = {"settings": {"logit_adjustment": 0.1}, "validation": {"overall": 0.1}, "seconds": 1.0}
    folder = SettingFolder(tuned / "shop").trial("tau", 0)
    write_json(record, folder.path / "record.json")
    cell = Cell("shop", "tau", config.tuning_seed, {"logit_adjustment": 0.1}, trial=0)
    assert run_trial(config, tuned, cell, 0) == record
    with pytest.raises(ConfigError, match=r"shop, tau, trial 0 must .* logit_adjustment = 0\.2, and 0\.1 in"):
        run_trial(config, tuned, replace(cell, knobs={"logit_adjustment": 0.2}), 0)


def test_a_setting_that_a_record_does_not_know_has_its_default(tmp_path):
    method = config_from_dict(
        jobs.BenchMethod,
        {"name": "m", "role": "eisam", "variant": {"optimizer": "eisam", "estimator": "sampled"}},
    )
    settings = settings_of(method, {"training.max_epochs": 4})
    assert settings["row_weights"] == "unbiased"
    earlier = {name: value for name, value in settings.items() if name != "row_weights"}
    check_settings_of_record("cell", earlier, {**settings, "training.max_epochs": 4.0}, tmp_path)
    with pytest.raises(ConfigError, match=r"got row_weights = 'unit', and 'unbiased' in"):
        check_settings_of_record("cell", earlier, {**settings, "row_weights": "unit"}, tmp_path)
    del earlier["training.max_epochs"]  # the run's own then, which a declaration may not change
    with pytest.raises(ConfigError, match=r"got training\.max_epochs = 4, and None in"):
        check_settings_of_record("cell", earlier, settings, tmp_path)


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("tail", "does_itemwise_sam_help_the_tail"),
        ("last", "does_the_gain_last"),
        ("all", "does_the_gain_last_with_all_histories"),
        ("tenth", "is_a_tenth_of_the_rows_enough"),
        ("longer", "does_flattening_bear_more_epochs_of_few_histories"),
        ("dropout", "does_flattening_add_to_dropout"),
        ("recipe", "does_one_recipe_help_every_log"),
        ("recipe-retail", "does_one_recipe_help_every_log"),
    ],
)
def test_shipped_records_are_of_the_settings_that_are_declared(folder, file, tmp_path):
    config, out = load_bench_config(BENCHMARKS / f"{file}.toml"), BENCHMARKS / "results" / folder
    shutil.copy(out / "bench.json", tmp_path)
    _bench._declare(config, tmp_path)
    n_records = 0
    for setting in (s.name for s in config.settings if (out / s.name / "tuning" / "adamw.json").is_file()):
        tuning = BenchFolder(out).setting(setting).tuning
        for method in config.methods:
            if method.search and not tuning(method.name).is_file():
                continue
            for seed in config.seeds:
                cells = _bench._cells(config, out, setting, method, seed, curves=True)
                n_records += sum(finished_record(config, out, cell) is not None for cell in cells)
    assert n_records == len(list(out.glob("*/cells/*/*/record.json"))) > 0


def test_a_copy_of_the_method_as_chosen_that_was_stopped_is_made_again(tuned, worked):
    config = declared(TAU)
    jobs.bench(config, tuned, quiet=True)
    folder = BenchFolder(tuned).setting("shop")
    chosen, kept = folder.cell("tau", 0), folder.cell("tau", 0, 0.3)
    (chosen.path / "ranks.parquet").write_bytes(b"all ranks")
    (kept.path / "record.json").unlink()
    (kept.path / "ranks.parquet").write_bytes(b"all r")
    cell = next(
        c
        for c in _bench._cells(config, tuned, "shop", config.method("tau"), 0, curves=True)
        if c.is_as_chosen
    )
    record = run_cell(config, tuned, cell, None)
    assert record["cell"]["curve"] == {"knob": "logit_adjustment", "value": 0.3}
    assert kept.read_record() == record
    assert (kept.path / "ranks.parquet").read_bytes() == b"all ranks"


def test_a_cell_at_which_another_process_is_at_work_is_refused(tuned, monkeypatch):
    config = declared(TAU)
    cell = Cell("shop", "tau", 0, {})
    work = BenchFolder(tuned).setting("shop").cell_work("tau", 0).path
    message = rf"cell must be free; got shop, tau, seed 0, at which process {os.getpid()} is at work"
    monkeypatch.setattr(_bench_cell, "_measure_cell", lambda *_: {"cost": None})
    with sole_process_at(work, "another"), pytest.raises(ConfigError, match=message):
        run_cell(config, tuned, cell, None)
    with sole_process_at(work.with_name("seed-1"), "another seed"):
        assert run_cell(config, tuned, cell, None) == {"cost": None}  # it was let go


@pytest.mark.parametrize("is_trial", [False, True])
def test_reranking_a_model_that_is_gone_says_how_to_get_it_back(is_trial, tuned, monkeypatch):
    config = declared(RERANK)
    monkeypatch.setattr(_bench_cell, "_scene", lambda *_: SimpleNamespace(data=None))
    shop = BenchFolder(tuned).setting("shop")
    cell = Cell("shop", "rerank", 0, {"rerank": 0.1})
    trial = Cell("shop", "rerank", config.tuning_seed, {"rerank": 0.1}, trial=0)
    with pytest.raises(ConfigError, match="model of the baseline must be there to be re-ranked") as refused:
        _ = (
            run_trial(config, tuned, trial, 0)
            if is_trial
            else run_cell(config, tuned, cell, shop.cell_work("adamw", 0).model)
        )
    needed = shop.tuning("adamw") if is_trial else shop.cell("adamw", 0).path
    assert f"or delete '{needed}'" in str(refused.value)


def test_each_of_repeated_targets_has_the_revenue_of_its_own_row(tmp_path):
    held_out = pl.DataFrame(
        {
            "user_index": [0, 0, 0, 1],
            "item_index": [2, 1, 2, 2],
            "revenue": [10.0, 5.0, 90.0, 7.0],
        }
    )
    targets = held_out.filter(pl.col("user_index") == 0).with_columns(n_better=0, n_tied=0)
    lists = pl.DataFrame({"user_index": [0], "items": [[1]]})
    rankings = Rankings(targets, lists, n_items=3, list_length=1)  # user 1 is not measured
    SettingFolder(tmp_path).write_targets(rankings, np.array(["head", "head", "tail"]), held_out)
    found = pl.read_parquet(tmp_path / "targets.parquet")
    assert found.columns == ["user_index", "item_index", "segment", "revenue"]
    assert found["item_index"].to_list() == [1, 2, 2]
    assert found["revenue"].to_list() == [5.0, 10.0, 90.0]
    assert found["segment"].to_list() == ["head", "tail", "tail"]
