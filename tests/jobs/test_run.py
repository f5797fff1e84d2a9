import json
import math
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from tailwise import jobs
from tailwise.errors import ConfigError, DataError
from tailwise.jobs import SegmentConfig
from tailwise.recommenders import load_recommender, recommend
from tailwise.reports import check_metrics, read_metrics

from .builders import all_rankings, final_weights, tiny_config

pytestmark = pytest.mark.usefixtures("tailwise_cache")


@pytest.fixture(scope="module")
def config(tiny_log, tiny_model):
    return tiny_config(tiny_log.interactions, tiny_log.items, tiny_model)


@pytest.fixture(scope="module")
def finished(config, session_cache, tmp_path_factory) -> Path:
    """A finished run of two variants and two references."""
    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILWISE_CACHE", str(session_cache))
        jobs.run(config, out, quiet=True)
    return out


def test_a_run_leaves_results_that_keep_the_schema_and_a_page(finished):
    metrics = read_metrics(finished / "metrics.json")
    check_metrics(metrics)
    assert [v["name"] for v in metrics["variants"]] == ["most-popular", "item-knn", "adamw", "eisam"]
    assert [v["role"] for v in metrics["variants"]] == ["reference", "reference", "baseline", "treatment"]
    page = (finished / "report.html").read_text()
    assert "<html" in page
    assert "EISAM" in page


def test_results_state_segment_rule_split_and_tied_rows(finished):
    metrics = read_metrics(finished / "metrics.json")
    assert metrics["segments"]["rule"] == "head-share"
    assert metrics["segments"]["parameters"] == {"head_share": 0.2}
    split = metrics["data"]["split"]
    assert split["method"] == "global-time"
    assert split["n_test_targets"] > 0
    # Counted again from the kept tables: test targets that share user and time with another row.
    parts = [pl.read_parquet(finished / "data" / f"{p}.parquet") for p in ("train", "validation", "test")]
    rows = pl.concat(parts).with_columns(n=pl.len().over("user_index", "timestamp"))
    past = pl.concat(parts[:2])["user_index"].unique().implode()
    test = parts[2].join(rows, on=["user_index", "item_index", "timestamp"])
    test = test.filter(pl.col("user_index").is_in(past))
    assert split["n_tied_test_targets"] == test.filter(pl.col("n") > 1).height


def test_every_accuracy_is_a_share_with_an_interval_around_it(finished):
    for variant in read_metrics(finished / "metrics.json")["variants"]:
        for row in variant["accuracy"]:
            if row["value"] is None:
                continue
            assert 0 <= row["value"] <= 1
            if row["low"] is not None:
                assert row["low"] <= row["value"] <= row["high"]


def test_the_record_holds_what_a_repetition_needs(finished):
    record = json.loads((finished / "eisam" / "seed-0" / "record.json").read_text())
    assert record["seed"] == 0
    assert record["variant"]["optimizer"] == "eisam"
    assert record["training"]["max_epochs"] == 2
    assert record["data_checksum"] == read_metrics(finished / "metrics.json")["data"]["checksum"]
    assert record["cost"]["train_seconds"] > 0
    assert record["cost"]["peak_memory_mib"] > 0
    assert record["surroundings"]["packages"]["torch"] == torch.__version__


def test_the_trained_recommender_loads_and_recommends(finished):
    recommender = load_recommender(finished / "adamw" / "seed-0" / "model")
    ((first, *others),) = recommend(recommender, [[0, 1]], k=5)
    assert len({first, *others} - {0, 1}) == 5


def test_parquet_and_csv_give_the_same_parameters(finished, tiny_log, tiny_model, tmp_path):
    config = tiny_config(
        tiny_log.interactions_parquet,
        tiny_log.items_parquet,
        tiny_model,
        "variants=[{name='adamw'}]",
        "references=[]",
    )
    metrics = jobs.run(config, tmp_path / "run", quiet=True)
    check_metrics(metrics)
    assert [v["name"] for v in metrics["variants"]] == ["adamw"]
    place = "adamw/seed-0/model/weights.safetensors"
    one, other = final_weights(finished)[place], final_weights(tmp_path / "run")[place]
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_finished_run_is_resumed_without_any_work(finished, config, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*.safetensors")}
    monkeypatch.setattr("tailwise.jobs._run.train_variant", None)
    monkeypatch.setattr("tailwise.jobs._language_recommender.encode_titles", None)
    jobs.run(config, finished, resume=True, quiet=True)
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*.safetensors")} == before


def test_evaluating_with_another_rule_changes_segments_alone_and_can_be_undone(finished):
    def overall(metrics):
        return [
            row["value"]
            for variant in metrics["variants"]
            for row in variant["accuracy"]
            if row["segment"] == "overall"
        ]

    plain = jobs.evaluate(finished)
    thirds = jobs.evaluate(finished, SegmentConfig("quantiles", {"n_groups": 3}))
    check_metrics(thirds)
    assert [s["name"] for s in thirds["segments"]["segments"]] == ["head", "mid", "tail", "cold"]
    assert overall(thirds) == overall(plain)
    assert read_metrics(finished / "metrics.json")["segments"]["rule"] == "quantiles"
    assert {**jobs.evaluate(finished), "created_at": 0} == {**plain, "created_at": 0}


def test_a_report_is_written_again_from_the_metrics(finished):
    (finished / "report.html").unlink()
    assert jobs.report(finished) == finished / "report.html"
    assert (finished / "report.html").stat().st_size > 10_000


def test_evaluating_or_reporting_what_is_no_run_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=f"run must be a folder .*; got '{tmp_path}'"):
        jobs.evaluate(tmp_path)
    with pytest.raises(DataError, match=str(tmp_path)):
        jobs.report(tmp_path)


def test_a_run_with_nothing_finished_cannot_be_evaluated(config, tmp_path):
    from tailwise.jobs._run_folder import RunFolder

    RunFolder(tmp_path).claim(config, resume=False)
    jobs._run.prepare_run_data(config.data, tmp_path / "data", print)
    with pytest.raises(DataError, match=f"run in '{tmp_path}' must have a finished variant; got none"):
        jobs.evaluate(tmp_path)


def test_five_seeds_are_compared_with_variance_of_users_and_seeds(tiny_log, tiny_model, tmp_path):
    config = tiny_config(
        tiny_log.interactions,
        tiny_log.items,
        tiny_model,
        "training.max_epochs=1",
        "training.checkpoint_seconds=60",
        "seeds=[0, 1, 2, 3, 4]",
        "references=['most-popular']",
    )
    metrics = jobs.run(config, tmp_path, quiet=True)
    check_metrics(metrics)
    pairs = {(c["variant"], c["baseline"]) for c in metrics["comparisons"]}
    assert pairs == {("eisam", "adamw"), ("adamw", "most-popular")}
    for row in metrics["comparisons"]:
        assert (row["variance"], row["n_seeds"]) == ("users+seeds", 5)
    weights = final_weights(tmp_path)
    assert len(weights) == 10
    residuals = [w["item_vectors.adapter.weight"] for w in weights.values()]
    assert not any(torch.equal(residuals[0], other) for other in residuals[1:])


def test_sasrec_is_trained_and_measured_as_a_reference(tiny_log, tiny_model, tmp_path):
    config = tiny_config(
        tiny_log.interactions,
        tiny_log.items,
        tiny_model,
        "variants=[{name='adamw'}]",
        "references=['sasrec']",
        "training.max_epochs=1",
        "data.split=leave-last-out",
    )
    metrics = jobs.run(config, tmp_path, quiet=True)
    check_metrics(metrics)
    sasrec = next(v for v in metrics["variants"] if v["name"] == "sasrec")
    assert (sasrec["role"], sasrec["label"], sasrec["seeds"]) == ("reference", "SASRec", [0])
    assert sasrec["cost"]["n_epochs"] == 2
    assert metrics["data"]["split"]["method"] == "leave-last-out"
    assert load_recommender(tmp_path / "sasrec" / "seed-0" / "model").n_items == 40


def test_kept_repeats_run_through(tiny_log, tiny_model, tmp_path):
    log = pl.read_csv(tiny_log.interactions)
    again = log.with_columns(pl.col("timestamp") + 3600)
    pl.concat([log, again]).write_csv(tmp_path / "log.csv")
    config = tiny_config(
        tmp_path / "log.csv",
        tiny_log.items,
        tiny_model,
        "data.repeats=keep",
        "variants=[{name='adamw'}]",
        "references=[]",
        "training.max_epochs=1",
    )
    check_metrics(jobs.run(config, tmp_path / "run", quiet=True))
    # Seen items stay recommendable: they may be bought again.
    rankings = all_rankings(tmp_path / "run")["adamw/seed-0/rankings"]
    assert rankings.lists["seen"].list.len().sum() == 0


def test_the_trained_model_beats_chance_on_the_learnable_pattern(tiny_log, tiny_model, tmp_path):
    config = tiny_config(
        tiny_log.interactions,
        tiny_log.items,
        tiny_model,
        "variants=[{name='adamw'}]",
        "references=[]",
        "training.max_epochs=12",
        "training.learning_rate=1e-2",
        "training.checkpoint_seconds=60",
        "data.split=leave-last-out",
    )
    metrics = jobs.run(config, tmp_path, quiet=True)
    (ndcg,) = [
        row["value"]
        for row in metrics["variants"][0]["accuracy"]
        if (row["segment"], row["metric"], row["k"]) == ("overall", "ndcg", 10)
    ]
    chance = sum(1 / math.log2(r + 1) for r in range(1, 11)) / 35  # about 35 unseen items
    assert ndcg > 2 * chance


@pytest.mark.parametrize("missing", ["interactions", "items"])
def test_missing_files_are_refused_by_name(config, tmp_path, missing):
    data = replace(config.data, **{missing: str(tmp_path / "no.csv")})
    with pytest.raises(DataError, match=r"no\.csv"):
        jobs.run(replace(config, data=data), tmp_path / "run", quiet=True)


def test_an_unknown_column_of_ours_is_refused(config, tmp_path):
    data = replace(config.data, columns={"usr_id": "customer"})
    with pytest.raises(
        ConfigError, match=r"data.columns must map names of ours \(.*user_id.*\); got 'usr_id'"
    ):
        jobs.run(replace(config, data=data), tmp_path / "run", quiet=True)


def test_columns_can_be_mapped_for_both_files_or_for_one(config, tiny_log, tmp_path):
    pl.read_csv(tiny_log.interactions).rename({"user_id": "customer", "item_id": "sku"}).write_csv(
        tmp_path / "log.csv"
    )
    columns = {"user_id": "customer", "interactions.item_id": "sku"}
    data = replace(config.data, interactions=str(tmp_path / "log.csv"), columns=columns)
    kept = jobs._run.prepare_run_data(data, tmp_path / "data", print)
    assert (kept.n_items, kept.summary["n_users"]) == (40, 60)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused_before_any_work(config, tmp_path):
    with pytest.raises(ConfigError, match="device must be one that is there; got 'cuda'"):
        jobs.run(replace(config, device="cuda"), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_softmax_over_drawn_items_goes_with_every_method(tiny_log, tiny_model, tmp_path):
    settings = ("training.negatives=6", "training.negatives_power=0.75", "training.max_epochs=1")
    variants = [{"name": "adamw"}, {"name": "eisam", "optimizer": "eisam", "logit_adjustment": 0.2}]
    config = tiny_config(tiny_log.interactions, tiny_log.items, tiny_model, *settings, variants=variants)
    jobs.run(config, tmp_path / "run", quiet=True)
    for name in ("adamw", "eisam"):
        record = json.loads((tmp_path / "run" / name / "seed-0" / "record.json").read_text())
        assert record["training"]["negatives"] == 6
    config = tiny_config(tiny_log.interactions, tiny_log.items, tiny_model, settings[-1], variants=variants)
    jobs.run(config, tmp_path / "whole", quiet=True)
    drawn, whole = final_weights(tmp_path / "run"), final_weights(tmp_path / "whole")
    assert all(any(not torch.equal(drawn[n][p], state[p]) for p in state) for n, state in whole.items())


def test_a_fused_update_is_the_same_mathematics(tiny_log, tiny_model, tmp_path, monkeypatch):
    update, calls = torch._fused_adamw_, []
    monkeypatch.setattr(torch, "_fused_adamw_", lambda *a, **kw: (calls.append(1), update(*a, **kw)))
    variants = [{"name": "adamw"}, {"name": "eisam", "optimizer": "eisam"}]
    weights = {}
    for folder, *more in (("plain",), ("fused", "training.fused=true")):
        settings = ("training.max_epochs=2", *more)
        config = tiny_config(tiny_log.interactions, tiny_log.items, tiny_model, *settings, variants=variants)
        jobs.run(config, tmp_path / folder, quiet=True)
        weights[folder] = final_weights(tmp_path / folder)
        assert bool(calls) == (folder == "fused")
    for name, state in weights["plain"].items():
        for parameter, value in state.items():
            torch.testing.assert_close(weights["fused"][name][parameter], value, rtol=1e-3, atol=1e-5)
    record = json.loads((tmp_path / "fused" / "eisam" / "seed-0" / "record.json").read_text())
    assert record["training"]["fused"] is True


def test_as_many_negatives_as_items_are_refused(tiny_log, tiny_model, tmp_path):
    config = tiny_config(tiny_log.interactions, tiny_log.items, tiny_model, "training.negatives=40")
    with pytest.raises(ConfigError, match=r"negatives must be below the catalogue's 40 items; got 40"):
        jobs.run(config, tmp_path / "run", quiet=True)
