import json
import shutil

import numpy as np
import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.evaluation import UNRANKED, target_values
from tailwise.reports import read_bench

from .bench_records import write_cell, write_json, write_records


@pytest.fixture
def folder(tmp_path):
    return write_records(tmp_path / "bench", settings=("shop-all",), seeds=(0, 1), n_users=60)


@pytest.fixture
def setting(folder):
    return folder / "shop-all"


def change(path, **fields):
    write_json(path, json.loads(path.read_text()) | fields)


def test_all_declared_cells_are_read_in_declared_order(folder):
    bench = read_bench(folder)
    assert [m.name for m in bench.methods][:2] == ["adamw", "sam"]
    (setting,) = bench.settings
    assert (setting.title, setting.n_missing) == ("shop, all histories", 0)
    assert setting.n_expected == 5 * 2 + 1 + 3 * 2  # a reference without training needs one seed
    assert setting.curve("logit-adjustment") == [
        (0.1, "logit-adjustment@0.1"),
        (0.3, "logit-adjustment@0.3"),
        (0.6, "logit-adjustment@0.6"),
    ]
    assert setting.knob("logit-adjustment") == "tau"
    assert setting.curve("sam") == []


def test_ranks_and_revenue_follow_targets_in_any_order(tmp_path):
    folder = write_records(
        tmp_path / "shuffled", settings=("shop-all",), seeds=(0,), n_users=60, shuffle=True
    )
    targets = pl.read_parquet(folder / "shop-all" / "targets.parquet")
    assert not targets["user_index"].is_sorted()
    (setting,) = read_bench(folder).settings
    cell = setting.cells["eisam"][0]
    ranks = pl.read_parquet(folder / "shop-all" / "cells" / "eisam" / "seed-0" / "ranks.parquet")
    expected = dict(
        zip(targets["user_index"], zip(ranks["n_better"], targets["revenue"], strict=True), strict=True)
    )
    read = zip(cell.rankings.targets["n_better"], setting.revenue, strict=True)
    assert dict(zip(cell.rankings.targets["user_index"], read, strict=True)) == expected


def test_largest_rank_is_a_miss_at_every_k(folder, setting):
    write_cell(setting, "eisam", 0, [65535] * 60)
    cell = read_bench(folder).settings[0].cells["eisam"][0]
    assert set(cell.rankings.targets["n_better"]) == {UNRANKED}
    assert target_values(cell.rankings, "recall", 60_000).sum() == 0


def test_segments_are_those_of_the_items(folder, setting):
    items = pl.read_parquet(setting / "items.parquet").sample(fraction=1.0, shuffle=True, seed=0)
    items.write_parquet(setting / "items.parquet")
    segments = read_bench(folder).settings[0].segments
    assert segments.names == ("head", "tail", "cold")
    assert segments.labels.tolist() == [0] * 10 + [1] * 37 + [2] * 3


def test_missing_cells_are_counted_and_settings_without_a_start_named(tmp_path):
    folder = write_records(tmp_path / "b", settings=("a-all", "b-all"), seeds=(0, 1), n_users=50)
    shutil.rmtree(folder / "b-all")
    shutil.rmtree(folder / "a-all" / "cells" / "sam")
    shutil.rmtree(folder / "a-all" / "cells" / "logit-adjustment@0.1" / "seed-1")
    bench = read_bench(folder)
    assert (bench.settings[0].n_missing, bench.not_begun) == (3, ("b-all",))


def test_setting_without_money_has_no_revenue(tmp_path):
    folder = write_records(tmp_path / "b", settings=("steam-64",), seeds=(0,), n_users=50)
    assert read_bench(folder).settings[0].revenue is None


def break_segment(setting):
    targets = pl.read_parquet(setting / "targets.parquet")
    targets.with_columns(segment=pl.lit("cold")).write_parquet(setting / "targets.parquet")


def break_items(setting):
    pl.read_parquet(setting / "items.parquet").head(49).write_parquet(setting / "items.parquet")


def break_names(setting):
    items = pl.read_parquet(setting / "items.parquet")
    items.with_columns(pl.col("segment").replace("tail", "rare")).write_parquet(setting / "items.parquet")


def break_knob(setting):
    path = setting / "cells" / "logit-adjustment@0.1" / "seed-0" / "record.json"
    cell = json.loads(path.read_text())["cell"]
    change(path, cell=cell | {"curve": {"knob": "beta", "value": 0.1}})


CELL = "cells/eisam/seed-1"


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda s: (s / CELL / "ranks.parquet").unlink(), r"seed-1/ranks.parquet does not exist"),
        (lambda s: write_cell(s, "eisam", 1, [3] * 59), r"one rank per test target, 60, .* got 59 rows"),
        (lambda s: (s / CELL).rename(s / "cells/eisam/seed-0x"), r"does, .*'0x', False\); got .*, 1, False"),
        (lambda s: (s / "cells/sam").rename(s / "cells/sum"), r"does, \('shop-all', 'sum', .* got .*'sam'"),
        (lambda s: write_cell(s, "eisam", 7, [3] * 60), r"seeds 0, 1; got 'eisam', 7"),
        (lambda s: write_cell(s, "magic", 0, [3] * 60), r"declared in bench.json, .*; got 'magic', 0"),
        (lambda s: change(s / CELL / "record.json", schema_version=2), r"schema_version must be 1; got 2"),
        (lambda s: change(s / CELL / "record.json", cost=3), r"cost must be an object; got 3"),
        (lambda s: (s / CELL / "record.json").write_text("{"), r"must be JSON; line 1"),
        (
            lambda s: change(s / "setting.json", histories="all"),
            r"histories must be a whole number; got 'all'",
        ),
        (
            lambda s: change(s / "tuning/sam.json", chosen=4),
            r"chosen must be the number of a trial, 0..3; got 4",
        ),
        (lambda s: change(s / "tuning/sam.json", method="x"), r"method must be the file's name .* got 'x'"),
        (break_segment, r"must agree with items.parquet; got \d+ of 60"),
        (break_items, r"must hold each item_index from 0 to 49 once; got 49 rows"),
        (break_names, r"segment must hold 'head' and 'tail'.* got head, rare, cold"),
        (break_knob, r"curve of 'logit-adjustment' must turn one knob; got beta, tau"),
        (
            lambda s: change(s.parent / "bench.json", baseline="sgd"),
            r"hold the baseline 'sgd'; got adamw, sam",
        ),
        (shutil.rmtree, r"at least one setting with records; got none of shop-all"),
    ],
)
def test_broken_records_are_named(folder, setting, harm, message):
    harm(setting)
    with pytest.raises(DataError, match=message):
        read_bench(folder)


def test_folder_without_a_declaration_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"bench.json does not exist"):
        read_bench(tmp_path)


def test_zero_users_are_not_a_test_set(folder, setting):
    targets = pl.read_parquet(setting / "targets.parquet").head(0)
    targets.write_parquet(setting / "targets.parquet")
    with pytest.raises(DataError, match=r"the 60 test targets of setting.json, one or more; got 0"):
        read_bench(folder)


def test_revenue_that_is_not_known_everywhere_is_nan(folder, setting):
    targets = pl.read_parquet(setting / "targets.parquet")
    known = targets.with_columns(pl.when(pl.col("user_index") > 0).then("revenue").alias("revenue"))
    known.write_parquet(setting / "targets.parquet")
    revenue = read_bench(folder).settings[0].revenue
    assert np.isnan(revenue).tolist() == [True] + [False] * 59
