"""`tailwise export`: what plain transformers, peft and safetensors make of the folder."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from tailwise import cli, jobs
from tailwise.errors import CheckpointError, ConfigError, DataError
from tailwise.jobs import _export, _export_folder
from tailwise.jobs._run_data import load_run_data
from tailwise.recommenders import load_recommender
from tailwise.reports import read_metrics

from .builders import tiny_config
from .cards import blocks_of, run_blocks, run_recipe

pytestmark = pytest.mark.usefixtures("tailwise_cache")

SETTINGS = (
    "variants=[{name='adamw'}, {name='eisam', optimizer='eisam', rho=0.3}]",
    "seeds=[0, 1]",
    "model.depth=2",
    "training.max_epochs=1",
    "training.checkpoint_seconds=60",
)
HISTORIES = [[3, 4, 5], [0], [], [39, 2, 17, 8, 11, 30, 1, 5, 6, 20], [7, 7]]  # one above max_length = 8
FILES = [
    "README.md",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "base/config.json",
    "base/model.safetensors",
    "base/tokenizer.json",
    "base/tokenizer_config.json",
    "catalogue.parquet",
    "export.json",
    "items.safetensors",
    "model/config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
]


@pytest.fixture(scope="module")
def run(tiny_log, tiny_model, session_cache, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILWISE_CACHE", str(session_cache))
        jobs.run(tiny_config(tiny_log.interactions, tiny_log.items, tiny_model, *SETTINGS), out, quiet=True)
    return out


@pytest.fixture(scope="module")
def exported(run, session_cache, tmp_path_factory) -> Path:
    """EISAM's training of seed 1; read, never written to."""
    out = tmp_path_factory.mktemp("exported") / "shop"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILWISE_CACHE", str(session_cache))
        return jobs.export(run, "eisam", out, seed=1, quiet=True)


def make(run, out, variant="eisam", **arguments):
    return jobs.export(run, variant, out, **({"quiet": True} | arguments))


def files_of(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def hold_scores(names, recommender):
    for history in HISTORIES:
        (own,) = recommender.scores([history])
        # Float32, summed in another order over two layers: six digits of scores of size one.
        torch.testing.assert_close(names["score"](history), own, rtol=1e-5, atol=1e-5)


# What is in the folder


def test_the_folder_holds_these_files_and_the_manifest_their_digests(exported):
    assert files_of(exported) == FILES
    manifest = json.loads((exported / "export.json").read_text())
    assert sorted([*manifest["files"], "export.json"]) == FILES
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest
    assert (manifest["variant"], manifest["seed"], manifest["run"]) == ("eisam", 1, "run")


def test_nothing_but_the_folder_is_left(exported):
    assert [p.name for p in exported.parent.iterdir()] == ["shop"]


def test_the_lines_of_the_card_score_as_the_recommender_does(run, exported):
    recommender = load_recommender(run / "eisam" / "seed-1" / "model")
    load, score, peft = blocks_of((exported / "README.md").read_text())
    names, told = run_blocks([load, score], exported)
    assert type(names["backbone"]).__module__.startswith("transformers.")
    hold_scores(names, recommender)
    names, _ = run_blocks([load, score, peft], exported)
    assert type(names["backbone"]).__module__.startswith("peft.")
    hold_scores(names, recommender)
    assert "item_id" in told  # the table of the best


def test_the_example_of_the_card_lists_the_best_unseen_items(run, exported):
    names, told = run_blocks(blocks_of((exported / "README.md").read_text())[:2], exported)
    (scores,) = load_recommender(run / "eisam" / "seed-1" / "model").scores([[0, 1, 2]])
    scores[[0, 1, 2]] = -torch.inf
    best = scores.argsort(descending=True)[:10].tolist()
    assert names["best"] == best
    assert f"i{best[0]:02d}" in told


def test_the_recipe_prints_the_list_that_the_cards_lines_make(exported):
    _, told = run_blocks(blocks_of((exported / "README.md").read_text())[:2], exported)
    printed = run_recipe(exported)
    assert "AutoModel.from_pretrained" in printed
    assert printed.endswith(told)


def test_scores_tell_trainings_apart(run, exported):
    """So the comparisons above can fail: another seed, another variant and the base alone score otherwise."""
    load, score, _ = blocks_of((exported / "README.md").read_text())
    names, _ = run_blocks([load, score], exported)
    for other in ("eisam/seed-0", "adamw/seed-1"):
        recommender = load_recommender(run / other / "model")
        with pytest.raises(AssertionError, match="not close"):
            hold_scores(names, recommender)
    names, _ = run_blocks([load.replace('"model"', '"base"'), score], exported)
    with pytest.raises(AssertionError, match="not close"):
        hold_scores(names, load_recommender(run / "eisam" / "seed-1" / "model"))


def test_of_a_bfloat16_run_peft_gives_its_scores_and_the_merged_backbone_gives_them_rounded(run, tmp_path):
    again = shutil.copytree(run, tmp_path / "run")
    file = again / "eisam" / "seed-1" / "model" / "recommender.json"
    file.write_text(file.read_text().replace('"dtype": "float32"', '"dtype": "bfloat16"'))
    recommender = load_recommender(file.parent)
    out = make(again, tmp_path / "shop", seed=1)
    load, score, peft = blocks_of((out / "README.md").read_text())
    names, _ = run_blocks([peft, score], out)
    assert names["backbone"].dtype == torch.bfloat16
    hold_scores(names, recommender)
    names, _ = run_blocks([load, score], out)
    with pytest.raises(AssertionError, match="not close"):
        hold_scores(names, recommender)
    for history in HISTORIES:  # eight bits of mantissa, 0.4 %, in each of some twenty matrix products
        own = recommender.scores([history])[0]
        assert float((names["score"](history) - own).abs().max()) < 0.08 * float(own.abs().max())


def test_the_lines_of_the_card_need_no_tailwise(exported):
    code = "".join(blocks_of((exported / "README.md").read_text())[:2])
    code += "\nimport sys\nassert not [name for name in sys.modules if name.startswith('tailwise')]\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=exported,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "tailwise" not in code.split("import sys")[0]


def test_without_merging_the_lines_go_through_peft(run, tmp_path):
    out = make(run, tmp_path / "shop", merged=False)
    assert files_of(out) == [name for name in FILES if not name.startswith("model/")]
    card = (out / "README.md").read_text()
    assert "`model/`" not in card
    names, _ = run_blocks(blocks_of(card), out)
    hold_scores(names, load_recommender(run / "eisam" / "seed-0" / "model"))


def test_the_base_is_cut_to_the_runs_depth(exported):
    for part in ("base", "model"):
        assert json.loads((exported / part / "config.json").read_text())["num_hidden_layers"] == 2


def test_the_catalogue_has_every_item_in_its_place_with_count_and_segment(run, exported):
    data, metrics = load_run_data(run / "data"), read_metrics(run / "metrics.json")
    table = pl.read_parquet(exported / "catalogue.parquet")
    assert table.columns == ["item_id", "title", "item_index", "n_training_interactions", "segment"]
    assert table["item_id"].to_list() == data.catalogue.items["item_id"].to_list()
    assert table["title"].to_list() == [f"{'red' if i % 2 else 'blue'} thing {i}" for i in range(40)]
    assert table["item_index"].to_list() == list(range(40))
    expected = np.bincount(data.split.train["item_index"].to_numpy(), minlength=40)
    assert table["n_training_interactions"].to_list() == expected.tolist()
    found = table.group_by("segment").agg(pl.len(), pl.col("n_training_interactions").sum())
    assert {row[0]: row[1:] for row in found.iter_rows()} == {
        row["name"]: (row["n_items"], row["n_training_interactions"])
        for row in metrics["segments"]["segments"]
        if row["n_items"]
    }


def test_segments_are_those_that_the_metrics_were_measured_with(run, tmp_path):
    again = shutil.copytree(run, tmp_path / "run")
    jobs.evaluate(again, jobs.SegmentConfig("absolute-counts", {"thresholds": [3, 8]}))
    out = make(again, tmp_path / "shop")
    for name, part in (
        pl.read_parquet(out / "catalogue.parquet").partition_by("segment", as_dict=True).items()
    ):
        lowest, highest = part["n_training_interactions"].min(), part["n_training_interactions"].max()
        bounds = {"head": (8, 10**9), "mid": (3, 8), "tail": (1, 3), "cold": (0, 0)}
        assert bounds[name[0]][0] <= lowest <= highest <= bounds[name[0]][1]
    assert "absolute-counts (thresholds = 3, 8)" in (out / "README.md").read_text()


def test_segments_of_a_time_window_stay_those_of_the_window(run, tmp_path):
    again = shutil.copytree(run, tmp_path / "run")
    config = json.loads((again / "config.json").read_text())
    config["segments"]["window_days"] = 3
    (again / "config.json").write_text(json.dumps(config))
    measured = jobs.evaluate(again)["segments"]["segments"]
    assert measured != read_metrics(run / "metrics.json")["segments"]["segments"]
    table = pl.read_parquet(make(again, tmp_path / "shop") / "catalogue.parquet")
    found = dict(table.group_by("segment").len().iter_rows())
    assert found == {row["name"]: row["n_items"] for row in measured if row["n_items"]}
    assert table["n_training_interactions"].sum() == load_run_data(run / "data").counts.sum()  # of all time


def test_no_file_says_where_anything_lies_on_this_machine(run, exported, tiny_model, tiny_log):
    for file in exported.rglob("*"):
        for place in (run.parent, tiny_model.parent, tiny_log.folder, exported.parent):
            assert file.is_dir() or str(place).encode() not in file.read_bytes(), file


# The card, from the run's own records


def test_the_card_tells_the_training_and_the_numbers_of_the_run(run, exported):
    card = (exported / "README.md").read_text()
    metrics = read_metrics(run / "metrics.json")
    record = json.loads((run / "eisam" / "seed-1" / "record.json").read_text())
    assert "# tiny-llama as a recommender for log: EISAM (sampled, ρ=0.3" in card
    assert "the first 2 of 3 layers" in card
    assert "rho = 0.3" in card
    assert f"checksum {metrics['data']['checksum']}" in card
    assert "| seed | 1, of 0, 1 |" in card
    assert f"| course | steps: {record['cost']['n_steps']}; epochs: 1; parameters of epoch 1 |" in card
    (measured,) = [v for v in metrics["variants"] if v["name"] == "eisam"]
    for row in measured["accuracy"]:
        if (row["metric"], row["k"], row["segment"]) == ("ndcg", 10, "overall"):
            assert f"{row['value']:.4f} ({row['low']:.4f} to {row['high']:.4f})" in card
    differences = [
        row
        for row in metrics["comparisons"]
        if (row["variant"], row["metric"], row["k"], row["segment"]) == ("eisam", "ndcg", 10, "tail")
    ]
    assert f"{abs(differences[0]['difference']):.4f}" in card.split("## Compared")[1]


# What is refused


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"variant": "eisma"}, ConfigError, "--variant must be one of the run's adamw, eisam; got 'eisma'"),
        ({"variant": "item-knn"}, ConfigError, "got 'item-knn', a reference without a language model"),
        ({"seed": 3}, ConfigError, "--seed must be one of the run's 0, 1; got 3"),
        ({"device": "tpu"}, Exception, "tpu"),
    ],
)
def test_an_argument_that_does_not_fit_the_run_is_refused_by_name(run, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        make(run, tmp_path / "shop", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_finished_is_refused_with_the_remedy(run, tmp_path):
    again = shutil.copytree(run, tmp_path / "run")
    with pytest.raises(DataError, match="run must be a folder that `tailwise run --out` made"):
        make(tmp_path, tmp_path / "shop")
    metrics = json.loads((again / "metrics.json").read_text())
    for changed in (
        [v | {"seeds": [0]} for v in metrics["variants"]],
        [v for v in metrics["variants"] if v["name"] != "eisam"],
    ):
        comparisons = [row for row in metrics["comparisons"] if row["variant"] != "eisam"]
        (again / "metrics.json").write_text(
            json.dumps(metrics | {"variants": changed, "comparisons": comparisons})
        )
        with pytest.raises(
            DataError, match=r"(?s)must hold what is exported; got nothing of 'eisam', seed 1.*"
        ):
            make(again, tmp_path / "shop", seed=1)
    (again / "metrics.json").unlink()
    with pytest.raises(DataError, match=r"(?s)metrics.json does not exist.*tailwise evaluate"):
        make(again, tmp_path / "shop")
    (again / "data" / "summary.json").unlink()
    with pytest.raises(DataError, match="run must hold its data; got"):
        make(again, tmp_path / "shop")
    (again / "eisam" / "seed-0" / "record.json").unlink()
    with pytest.raises(DataError, match=r"(?s)variant must be finished; got 'eisam', seed 0.*--resume"):
        make(again, tmp_path / "shop")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("recommender.json", "must hold a saved recommender; got"),
        ("weights.safetensors", "must hold a readable weights.safetensors"),
        ("title_encodings.safetensors", "must hold a readable title_encodings.safetensors"),
    ],
)
def test_a_missing_checkpoint_is_refused_and_leaves_nothing(run, tmp_path, lost, message):
    again = shutil.copytree(run, tmp_path / "run")
    (again / "eisam" / "seed-0" / "model" / lost).unlink()
    with pytest.raises(CheckpointError, match=message):
        make(again, tmp_path / "shop")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_data_of_another_run_is_refused_by_its_size(run, tmp_path):
    again = shutil.copytree(run, tmp_path / "run")
    summary = json.loads((again / "data" / "summary.json").read_text())
    (again / "data" / "summary.json").write_text(json.dumps(summary | {"n_items": 41}))
    with pytest.raises(DataError, match="recommender must score the run's 41 items; got 40"):
        make(again, tmp_path / "shop")


# Where it goes


def test_a_folder_or_file_of_others_is_refused_and_stays_as_it_is(run, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    with pytest.raises(
        ConfigError, match=r"--out must be a new or empty .*thesis', which holds 'chapter.txt'"
    ):
        make(run, tmp_path / "thesis")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=r"--out must be a folder; got '.*file', which is a file"):
        make(run, tmp_path / "file")
    with pytest.raises(ConfigError, match=r"which holds '.*'\. Choose another folder"):
        make(run, run)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "thesis"]
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"


def test_an_empty_folder_is_taken_and_is_as_readable_as_any_other(run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "like").mkdir()
    out = make(run, tmp_path / "empty")
    assert files_of(out) == FILES
    assert out.stat().st_mode == (tmp_path / "like").stat().st_mode


def test_the_same_export_is_written_again_with_the_same_weights_and_another_is_refused(
    run, exported, tmp_path
):
    out = shutil.copytree(exported, tmp_path / "shop")
    (out / "items.safetensors").write_text("damaged")
    (out / "model" / "config.json").unlink()
    assert make(run, out, seed=1) == out
    digests = [json.loads((folder / "export.json").read_text())["files"] for folder in (out, exported)]
    assert digests[0] == digests[1]
    for name, digest in digests[0].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    make(run, out, seed=1, merged=False)  # less of the same: nothing of it stays behind
    assert not (out / "model").exists()
    before = files_of(out)
    with pytest.raises(
        ConfigError, match=r"which holds an export of other model, seed\. Choose another folder"
    ):
        make(run, out, seed=0)
    with pytest.raises(ConfigError, match="which holds an export of other model, variant"):
        make(run, out, "adamw", seed=1)
    assert files_of(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["shop"]


def test_files_added_to_an_export_and_a_changed_card_are_not_lost(run, exported, tmp_path):
    out = shutil.copytree(exported, tmp_path / "shop")
    (out / "model" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"must hold files of the export alone; got 'model/notes\.txt'"):
        make(run, out, seed=1)
    (out / "model" / "notes.txt").unlink()
    with (out / "README.md").open("a") as card:
        card.write("Approved.\n")
    with pytest.raises(ConfigError, match=r"the card .*README\.md' must be as it was written; got a changed"):
        make(run, out, seed=1)
    assert (out / "README.md").read_text().endswith("Approved.\n")


def test_a_place_where_another_process_is_at_work_is_refused(run, tmp_path):
    from filelock import FileLock

    with (
        FileLock(tmp_path / ".shop.lock"),
        pytest.raises(ConfigError, match=r"--out must be free; got '.*shop', at which another process"),
    ):
        make(run, tmp_path / "shop")


_KILLED = """
import os, signal, sys
from pathlib import Path
from tailwise import cli
rename, calls = Path.rename, []
def die(self, target):
    calls.append(target)
    if len(calls) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = die
cli.main(sys.argv[2:])
"""


@pytest.mark.parametrize("moment", [1, 2])
def test_a_killed_process_leaves_the_earlier_export_and_the_next_one_clears_away(
    run, exported, tmp_path, moment
):
    """Killed before the first rename, and between the two."""
    out = shutil.copytree(exported, tmp_path / "shop")
    arguments = ["export", str(run), "--variant=eisam", "--seed=1", "--quiet", f"--out={out}"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _KILLED, str(moment), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    earlier = out if moment == 1 else tmp_path / ".shop.old"
    assert files_of(earlier) == FILES
    assert out.exists() is (moment == 1)
    with pytest.raises(ConfigError, match="an export of other model, seed"):  # nor does a kill lose it now
        make(run, out, seed=0)
    assert files_of(out) == FILES
    make(run, out, seed=1)
    assert files_of(out) == FILES
    assert [p.name for p in tmp_path.iterdir()] == ["shop"]


def test_a_failure_midway_keeps_the_earlier_export(run, exported, tmp_path, monkeypatch):
    out = shutil.copytree(exported, tmp_path / "shop")

    def fail(*arguments):
        raise RuntimeError("disk full")

    monkeypatch.setattr(_export, "model_card", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        make(run, out, seed=1)
    assert files_of(out) == FILES
    assert [p.name for p in tmp_path.iterdir()] == ["shop"]


def test_everything_is_flushed_before_it_takes_its_place(run, tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(_export_folder.os, "fsync", lambda file: flushed.append(os.fstat(file).st_ino))
    out = make(run, tmp_path / "shop")
    assert {(out / name).stat().st_ino for name in FILES} <= set(flushed)


# The command


def test_the_command_prints_the_folder_and_says_what_is_wrong(run, tmp_path, capsys):
    out = tmp_path / "deeper" / "shop"
    arguments = ["export", str(run), "--variant=adamw", "--no-merged", "--quiet", f"--out={out}"]

    def call(*texts):
        status = 0
        try:
            cli.main(list(texts))
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, " ".join(captured.err.split())

    assert call(*arguments) == (0, f"{out}\n", "")
    assert files_of(out) == [name for name in FILES if not name.startswith("model/")]
    status, text, error = call(*arguments, "--seed=1")
    assert (status, text) == (1, "")
    assert error.startswith("ConfigError: --out must be a new or empty folder")
