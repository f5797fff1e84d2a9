"""The recipe for large catalogues, on a small one: the log it is tried on, and its two commands."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tailwise.evaluation import read_lists
from tailwise.jobs import load_config

RECIPES = Path(__file__).parents[2] / "recipes"
ROOT = RECIPES.parent


def start(*command, cache=None):
    environment = {"OMP_NUM_THREADS": "1"} | ({"TAILWISE_CACHE": str(cache)} if cache else {})
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    said = start(RECIPES / "make_large_log.py", "--items", 250, "--users", 60, "--out", folder)
    assert "of 60 users with 250 items" in said
    return folder


def test_the_log_is_skewed_and_whole(log):
    table, catalogue = pl.read_parquet(log / "log.parquet"), pl.read_parquet(log / "catalogue.parquet")
    assert catalogue.height == 250
    assert catalogue["title"].n_unique() == 250
    assert set(table["item_id"]) <= set(catalogue["item_id"])
    counts = table["item_id"].value_counts(sort=True)["count"]
    assert counts[0] > 5 * counts.median()


@pytest.mark.slow
def test_its_two_commands_train_on_drawn_items_and_write_every_users_list(log, tiny_model, session_cache):
    recipe = RECIPES / "large_catalogue.toml"
    settings = (
        *("model.depth=1", "model.dtype=float32", "training.max_epochs=1", "training.negatives=40"),
        *("training.positions_per_batch=200", "evaluation.n_resamples=100"),
    )
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tailwise")
    files = (f"--interactions={log / 'log.parquet'}", f"--items={log / 'catalogue.parquet'}")
    run = log / "run"
    start(
        *(*launcher, "run", f"--config={recipe}", *files, f"--out={run}", f"--model={tiny_model}"),
        *(f"--set={setting}" for setting in settings),
        cache=session_cache,
    )
    lists = log / "lists.parquet"
    start(*launcher, "recommend", run, "--variant=eisam", f"--out={lists}", cache=session_cache)
    written = read_lists(lists)
    assert written.made_with["n_users"] == 60
    assert written.made_with["variant"] == "eisam"


def test_the_recipe_is_what_it_says():
    data = {"data": {"interactions": "log.parquet", "items": "catalogue.parquet"}}
    config = load_config(preset=None, file=RECIPES / "large_catalogue.toml", overrides=data, settings=())
    assert config.training.negatives == 4096
    assert not config.recommender.id_residual
    assert [variant.optimizer for variant in config.variants] == ["adamw", "eisam"]
    page = (ROOT / "docs" / "large-catalogues.md").read_text()
    commands = [
        line.removeprefix("#").strip().removesuffix("\\").strip()
        for line in (RECIPES / "large_catalogue.toml").read_text().splitlines()
        if line.startswith("#   ")
    ]
    assert len(commands) == 3
    assert all(command in page for command in commands)
