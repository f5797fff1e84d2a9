"""The recipe for items known by vectors, on few of them: made-up and given data, one process and two."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailwise.interactions import (
    build_dataset,
    load_catalogue,
    load_interactions,
    split_leave_last_out,
)
from tailwise.recommenders import load_recommender, recommend

RECIPE = Path(__file__).parents[2] / "recipes" / "score_a_million_items.py"
ROOT = RECIPE.parents[1]
SMALL = (
    *("--epochs", "1", "--positions", "200", "--negatives", "40", "--width", "8", "--k", "5"),
    *("--users-per-part", "16", "--device", "cpu"),
)


def start(*arguments, processes=1):
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    return subprocess.run(
        [sys.executable, *(launcher if processes > 1 else ()), str(RECIPE), *map(str, arguments), *SMALL],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    out = tmp_path_factory.mktemp("made-up")
    done = start("--synthetic", 250, "--users", 60, "--out", out)
    assert done.returncode == 0, done.stderr[-3000:]
    return out, done.stdout


def parts(out: Path) -> list[Path]:
    return sorted((out / "lists").glob("part-*.parquet"))


def table(out: Path) -> pl.DataFrame:
    return pl.concat(pl.read_parquet(part) for part in parts(out))


def test_every_user_has_the_list_that_the_saved_model_gives(made_up):
    out, said = made_up
    assert "SYNTHETIC" in said
    assert len(parts(out)) == 4  # 60 users, 16 at a time
    lists = table(out)
    assert lists.schema == {
        "user_id": pl.String,
        "item_id": pl.String,
        "rank": pl.Int32,
        "score": pl.Float32,
    }
    assert lists["user_id"].n_unique() == 60
    data = out / "synthetic"
    dataset = build_dataset(
        load_interactions(data / "log.parquet"), load_catalogue(data / "catalogue.parquet")
    )
    split = split_leave_last_out(dataset)
    model = load_recommender(out / "model")
    ids = dataset.catalogue.item_ids()
    for user in lists["user_id"].unique().sort()[:10]:
        past = [
            row["item_index"]
            for part in (split.train, split.validation, split.test)
            for row in part.filter(pl.col("user_id") == user).iter_rows(named=True)
        ]
        (expected,) = recommend(model, [past], 5)
        assert lists.filter(pl.col("user_id") == user)["item_id"].to_list() == [ids[i] for i in expected]


def test_parts_that_are_there_are_left_alone_and_missing_ones_made_again(made_up):
    out, _ = made_up
    before, files = table(out), parts(out)
    times = [file.stat().st_mtime_ns for file in files]
    files[2].unlink()
    done = start("--synthetic", 250, "--users", 60, "--out", out)
    assert "lists of 16 users written (44 were there)" in done.stdout, done.stderr[-3000:]
    assert table(out).equals(before)
    assert [file.stat().st_mtime_ns == time for file, time in zip(files, times, strict=True)] == [
        *(True, True, False, True)
    ]


def test_parts_of_other_settings_are_refused(made_up):
    out, _ = made_up
    (out / "lists" / "settings.json").write_text("{}")
    try:
        done = start("--synthetic", 250, "--users", 60, "--out", out)
    finally:
        (out / "lists" / "settings.json").unlink()
    assert done.returncode != 0
    assert "must hold parts of these settings; got others: choose another --out" in done.stderr


@pytest.mark.slow
def test_two_processes_take_given_vectors_in_whatever_order_and_write_the_same_users(made_up, tmp_path):
    """Rows of catalogue and vectors turned round together: the same items, hence the same training."""
    out, _ = made_up
    data = out / "synthetic"
    pl.read_parquet(data / "catalogue.parquet").reverse().write_parquet(tmp_path / "items.parquet")
    np.save(tmp_path / "vectors.npy", np.load(data / "vectors.npy")[::-1])
    files = ("--items", tmp_path / "items.parquet", "--vectors", tmp_path / "vectors.npy")
    done = start("--interactions", data / "log.parquet", *files, "--out", tmp_path / "two", processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "SYNTHETIC" not in done.stdout
    two, one = table(tmp_path / "two"), table(out)
    assert two.height == one.height
    assert two["user_id"].equals(one["user_id"])
    # Dropout differs between processes, so scores do a little; 1 epoch of a tiny model moves little.
    overlap = two.join(one, on=["user_id", "item_id"]).height / one.height
    assert overlap > 0.5


def test_vectors_that_do_not_fit_the_catalogue_are_refused(made_up, tmp_path):
    data = made_up[0] / "synthetic"
    np.save(tmp_path / "vectors.npy", np.zeros((7, 3), np.float16))
    done = start(
        *("--interactions", data / "log.parquet", "--items", data / "catalogue.parquet"),
        *("--vectors", tmp_path / "vectors.npy", "--out", tmp_path / "out"),
    )
    assert done.returncode == 2
    assert "--vectors must be [250, d], a row per item; got shape (7, 3)" in done.stderr


def test_data_are_given_or_made_up_but_not_both(tmp_path):
    done = start("--synthetic", 250, "--items", "items.parquet", "--out", tmp_path)
    assert done.returncode == 2
    assert "or --synthetic ITEMS alone" in done.stderr


def test_the_page_shows_its_commands():
    page = (ROOT / "docs" / "large-catalogues.md").read_text()
    shown = [line for line in RECIPE.read_text().splitlines()[:8] if line.startswith("    ")]
    assert len(shown) == 4 - 1
    for line in shown:
        assert line.strip().removesuffix("\\").strip() in page
