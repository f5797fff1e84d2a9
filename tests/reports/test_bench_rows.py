import csv
import json
import shutil

import numpy as np
import pytest

from tailwise.evaluation import PairedRuns, compare, relative_difference, target_values
from tailwise.reports import read_bench
from tailwise.reports._bench_figure import _curves, _lines, bench_figure
from tailwise.reports._bench_pages import latex_tables, markdown_tables
from tailwise.reports._bench_row_types import POOLED
from tailwise.reports._bench_rows import bench_rows
from tailwise.reports._bench_tables import bench_tables
from tailwise.reports._bench_tidy import bench_results, csv_table
from tailwise.reports._palette import styles

from .bench_records import CURVE, copy_as_point, write_cell, write_records

TAIL = ("ndcg", 10, "tail")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows") / "bench"
    return read_bench(write_records(folder, settings=("steam-64", "steam-all", "shop-all"), n_users=300))


@pytest.fixture(scope="module")
def rows(bench):
    return bench_rows(bench, n_resamples=200)


def one(rows, setting, method):
    (found,) = [row for row in rows if (row.setting, row.method.name) == (setting, method)]
    return found


def test_row_of_a_setting_is_the_comparison_of_its_cells(bench, rows):
    setting = bench.settings[0]
    sides = [[setting.cells[name][s].rankings for s in (0, 1, 2)] for name in ("adamw", "eisam")]
    direct = compare(*sides, setting.segments, segment="tail")
    found = one(rows.methods, "steam-64", "eisam").found[TAIL]
    assert found.value == pytest.approx(direct.value)
    assert found.against.difference == pytest.approx(direct.relative_difference)


def test_a_longer_list_is_measured_beside_the_judged_one(bench, rows):
    setting = bench.settings[0]
    seen = [setting.cells["eisam"][seed].rankings for seed in (0, 1, 2)]
    found = one(rows.methods, "steam-64", "eisam").found
    for k in (10, 100):
        of_seeds = [target_values(rankings, "ndcg", k).mean() for rankings in seen]
        assert found["ndcg", k, "overall"].value == pytest.approx(np.mean(of_seeds))
    assert found["ndcg", 100, "tail"].value > found["ndcg", 10, "tail"].value


def test_pooled_row_knows_which_settings_share_their_users(bench, rows):
    sides = {
        s.name: [[s.cells[name][seed].rankings for seed in (0, 1, 2)] for name in ("adamw", "eisam")]
        for s in bench.settings
    }
    pairs = [
        PairedRuns.from_rankings(*sides[s.name], s.segments, setting=s.name, population=s.about["data"])
        for s in bench.settings
    ]
    direct = relative_difference(pairs, segment="tail")
    found = one(rows.methods, POOLED, "eisam").found[TAIL]
    assert found.against == direct
    assert found.value is None


def test_gain_that_was_planted_is_found_and_the_null_is_not(rows):
    assert one(rows.methods, POOLED, "eisam").found[TAIL].is_gain
    assert not one(rows.methods, POOLED, "random-rows").found[TAIL].is_gain
    assert not one(rows.methods, POOLED, "sam").found[TAIL].is_gain


def test_p_values_count_the_compared_methods_only(rows):
    of_setting = [row.found[TAIL] for row in rows.methods if row.setting == "steam-64"]
    tested = [f for f in of_setting if f.p_holm is not None]
    assert len(tested) == 4  # not the baseline, nor what is shown for scale
    smallest = min(tested, key=lambda f: f.against.p_value)
    assert smallest.p_holm == pytest.approx(min(1.0, 4 * smallest.against.p_value))


def test_method_without_a_hit_has_no_interval_and_counts_among_those_compared(tmp_path):
    folder = write_records(tmp_path / "b", settings=("steam-64", "shop-all"), n_users=120)
    for setting in ("steam-64", "shop-all"):
        for seed in (0, 1, 2):
            write_cell(folder / setting, "sam", seed, np.full(120, 200))
    bench = read_bench(folder)
    rows = bench_rows(bench, n_resamples=50)
    for setting in ("steam-64", POOLED):
        found = {row.method.name: row.found[TAIL] for row in rows.methods if row.setting == setting}
        none = found["sam"]
        assert (none.against.difference, none.against.low, none.against.p_value) == (-1.0, None, None)
        assert (none.p_holm, none.is_gain) == (None, False)
        tested = [f for f in found.values() if f.p_holm is not None]
        smallest = min(tested, key=lambda f: f.against.p_value)
        assert smallest.p_holm == pytest.approx(4 * smallest.against.p_value)  # three, and the one without
    page = markdown_tables(bench, rows)
    assert "| 0.0000 (−100.0\u202f%) | – |" in page  # tail NDCG@10 and its Holm p
    assert "%, −100.0 to −100.0" not in page.replace("\u202f", "")
    assert "\\%, $-$100.0 to $-$100.0" not in latex_tables(bench, rows).replace("\\,", "")
    held = [r.result for r in rows.beyond if r.method.name == "sam"]
    assert {(r.low, r.is_beyond) for r in held} == {(None, False)}
    assert bench_figure(bench, rows) is not None


def test_reference_without_training_holds_for_every_seed(rows):
    row = one(rows.methods, "steam-64", "most-popular")
    assert (row.n_seeds, row.found[TAIL].against.n_seeds) == (3, 3)
    assert (row.step_ratio, row.minutes, row.gain_per_minute) == (None, None, None)


def test_reference_without_training_is_the_same_with_one_record_and_with_two(tmp_path):
    folder = write_records(tmp_path / "b", settings=("steam-64",), n_users=80)
    cells = folder / "steam-64" / "cells" / "most-popular"
    first = one(bench_rows(read_bench(folder), n_resamples=20).methods, "steam-64", "most-popular")
    shutil.copytree(cells / "seed-0", cells / "seed-1")
    record = json.loads((cells / "seed-1" / "record.json").read_text())
    record["cell"]["seed"] = 1
    (cells / "seed-1" / "record.json").write_text(json.dumps(record))
    assert one(bench_rows(read_bench(folder), n_resamples=20).methods, "steam-64", "most-popular") == first


def test_costs_worked_by_hand(rows):
    # steps of 0.95 s against 0.5 s, plus the seed's share in both; trainings of 190 s against 100 s
    row = one(rows.methods, "steam-64", "eisam")
    assert row.step_ratio == pytest.approx(191 / 101)
    assert row.minutes == pytest.approx(191 / 60)
    assert row.gain_per_minute == pytest.approx(row.found[TAIL].against.difference / 1.5)


def test_a_few_seconds_more_are_no_price(tmp_path):
    folder = write_records(tmp_path / "b", settings=("steam-64",), n_users=80)
    for record in (folder / "steam-64/cells/eisam").glob("seed-*/record.json"):
        content = json.loads(record.read_text())
        content["cost"]["train_seconds"] = 105.0
        record.write_text(json.dumps(content))
    row = one(bench_rows(read_bench(folder), n_resamples=50).methods, "steam-64", "eisam")
    assert row.minutes == pytest.approx(105 / 60)
    assert row.gain_per_minute is None


def test_seeds_that_only_one_side_has_are_left_out(tmp_path):
    folder = write_records(tmp_path / "b", settings=("steam-64",), n_users=80)
    shutil.rmtree(folder / "steam-64/cells/adamw/seed-0")
    shutil.rmtree(folder / "steam-64/cells/eisam/seed-1")
    shutil.rmtree(folder / "steam-64/cells/sam")
    rows = bench_rows(read_bench(folder), n_resamples=50)
    assert one(rows.methods, "steam-64", "eisam").n_seeds == 1
    assert one(rows.methods, "steam-64", "random-rows").n_seeds == 2
    assert "sam" not in {row.method.name for row in rows.methods}
    assert POOLED not in {row.setting for row in rows.methods}  # of a single setting


def test_value_is_of_the_seeds_that_its_difference_is_of(tmp_path):
    folder = write_records(tmp_path / "b", settings=("steam-64",), n_users=80)
    shutil.rmtree(folder / "steam-64/cells/adamw/seed-0")
    write_cell(folder / "steam-64", "eisam", 0, np.zeros(80, int))  # all first: a seed that is not compared
    found = one(bench_rows(read_bench(folder), n_resamples=20).methods, "steam-64", "eisam").found
    for measure in (TAIL, ("recall", 10, "overall")):
        assert found[measure].value == pytest.approx(found[measure].against.value)


def test_setting_without_a_baseline_is_left_out_and_named(tmp_path):
    folder = write_records(tmp_path / "b", settings=("steam-64", "shop-all"), seeds=(0,), n_users=80)
    shutil.rmtree(folder / "shop-all/cells/adamw")
    rows = bench_rows(read_bench(folder), n_resamples=50)
    assert rows.left_out == ("shop-all",)
    assert {row.setting for row in rows.methods} == {"steam-64"}


def test_baseline_that_never_hits_the_tail_leaves_a_gap_not_an_error(tmp_path):
    folder = write_records(tmp_path / "b", settings=("steam-64", "shop-all"), seeds=(0, 1), n_users=80)
    for seed in (0, 1):
        write_cell(folder / "steam-64", "adamw", seed, np.full(80, 50))
    rows = bench_rows(read_bench(folder), n_resamples=50)
    assert one(rows.methods, "steam-64", "eisam").found[TAIL].against is None
    assert one(rows.methods, POOLED, "eisam").found[TAIL].against.settings == ("shop-all",)
    assert {row.setting for row in rows.beyond if row.k == 10} == {"shop-all"}


def test_measure_that_leaves_a_setting_out_says_over_how_many_it_is_averaged(tmp_path):
    folder = write_records(tmp_path / "b", settings=("steam-64", "shop-all"), n_users=80)
    for seed in (0, 1, 2):
        write_cell(folder / "steam-64", "adamw", seed, np.full(80, 50))  # nothing within ten
    bench = read_bench(folder)
    rows = bench_rows(bench, n_resamples=20)
    lines = [
        line
        for line in csv.DictReader(csv_table(bench, rows).splitlines())
        if line["setting"] == POOLED and line["table"] in ("methods", "curves") and line["difference"]
    ]
    n_settings = {(line["quantity"], line["n_settings"]) for line in lines}
    assert n_settings == {("ndcg@10", "1"), ("recall@10", "1"), ("ndcg@100", "2")}
    pooled = [t for t in bench_tables(bench, rows) if t.section == POOLED]
    for table in pooled:
        for row in table.rows:
            for name, entry in zip(table.header, row, strict=True):
                if name.endswith(("NDCG@10", "Recall@10", "NDCG@100")) and "p," not in name:
                    assert entry.text.endswith(" (1 of 2 settings)") == name.endswith("@10"), name


def test_baseline_that_hits_no_tail_with_the_seeds_of_a_curve_leaves_a_gap_not_an_error(tmp_path):
    folder = write_records(tmp_path / "b", settings=("steam-64",), n_users=80)
    write_cell(folder / "steam-64", "adamw", 0, np.full(80, 50))
    for value in CURVE:
        for seed in (1, 2):
            shutil.rmtree(folder / "steam-64" / "cells" / f"logit-adjustment@{value:g}" / f"seed-{seed}")
    rows = bench_rows(read_bench(folder), n_resamples=20)
    assert {row.k for row in rows.beyond} == {100}  # where the baseline hits the tail with seed 0 too


def test_curves_hold_every_value_of_the_knob(rows):
    for setting in ("steam-64", POOLED):
        values = [row.value for row in rows.curves if row.setting == setting]
        assert values == sorted(CURVE)


@pytest.mark.parametrize(
    ("knob", "settings", "starts"),
    [
        ("logit_adjustment", {"optimizer": "adamw", "logit_adjustment": 0.1}, True),
        ("logit_adjustment", {"optimizer": "sam", "logit_adjustment": 0.1}, False),  # at SAM
        ("rho", {"optimizer": "sam", "rho": 0.1, "logit_adjustment": 0.0}, True),
        ("rho", {"optimizer": "sam", "rho": 0.1, "logit_adjustment": 0.2}, False),
        ("gamma", {"optimizer": "eisam", "gamma": 0.0, "logit_adjustment": 0.0}, False),
    ],
)
def test_curve_starts_at_the_baseline_where_that_is_its_knob_at_zero(tmp_path, knob, settings, starts):
    folder = write_records(tmp_path / "b", settings=("steam-64",), seeds=(0,), n_users=80)
    for file in (folder / "steam-64" / "cells").glob("*/*/record.json"):
        record = json.loads(file.read_text())
        name = record["cell"]["method"]
        record["settings"] = {"name": name, "optimizer": "adamw", "logit_adjustment": 0.0}
        if record["cell"]["curve"] is not None:
            record["cell"]["curve"]["knob"] = knob
            record["settings"] = {"name": name} | settings
        file.write_text(json.dumps(record))
    rows = bench_rows(read_bench(folder), n_resamples=20)
    assert {row.starts_at_baseline for row in rows.curves} == {starts}
    curves = _curves(rows, "steam-64", 10)
    joined = _lines(curves, styles([{"name": "logit-adjustment", "role": "treatment"}]))
    assert ((joined[0]["x"], joined[0]["y"]) == (0.0, 0.0)) == starts
    assert len(joined) == len(CURVE) + starts


def test_every_tried_method_is_held_against_every_rival_curve_but_its_own(rows):
    pooled = [row for row in rows.beyond if row.setting == POOLED]
    for k in (10, 100):
        pairs = {(row.method.name, row.rival.name) for row in pooled if row.k == k}
        assert pairs == {(m, "logit-adjustment") for m in ("sam", "eisam", "random-rows")}
        beyond = {row.method.name: row.result.is_beyond for row in pooled if row.k == k}
        assert beyond == {"sam": False, "eisam": True, "random-rows": False}
    of_eisam = {row.k: row.result.difference for row in pooled if row.method.name == "eisam"}
    assert of_eisam[10] != of_eisam[100]


def test_a_curve_of_the_baselines_own_knob_is_a_rivals_too(tmp_path):
    folder = write_records(tmp_path / "b", settings=("steam-64",), n_users=2000)
    copy_as_point(
        folder, "logit-adjustment@0.3", "adamw", setting="steam-64", knob="training.max_epochs", value=32
    )
    bench = read_bench(folder)
    rows = bench_rows(bench, n_resamples=100)
    found = {
        (row.method.name, row.rival.name): row.result for row in rows.beyond if row.k == 10 and row.at is None
    }
    assert {pair for pair in found if "adamw" in pair} == {
        (method, "adamw") for method in ("sam", "logit-adjustment", "eisam", "random-rows")
    }
    assert found["eisam", "adamw"].is_beyond  # +60 % of tail at no price; the curve pays 6 % for 25 %
    assert not found["random-rows", "adamw"].is_beyond
    assert "| EISAM (rank, ρ) | AdamW |" in markdown_tables(bench, rows)


def test_points_of_a_curve_that_is_no_rivals_are_held_against_the_rivals_curves(tmp_path):
    folder = write_records(tmp_path / "b", settings=("steam-64",), n_users=300)
    copy_as_point(folder, "random-rows", "eisam", setting="steam-64", knob="tau", value=0.2)
    bench = read_bench(folder)
    rows = bench_rows(bench, n_resamples=100)
    found = {row.at: row.result for row in rows.beyond if (row.method.name, row.k) == ("eisam", 10)}
    (same,) = [row.result for row in rows.beyond if (row.method.name, row.k) == ("random-rows", 10)]
    assert found.keys() == {None, ("tau", 0.2)}
    assert found["tau", 0.2].difference == same.difference != found[None].difference
    assert "| EISAM (rank, ρ) (tau = 0.2) | Logit adjustment |" in markdown_tables(bench, rows)
    named = [(row["method"], row["at"]) for row in bench_results(bench, rows)["beyond"] if row["k"] == 10]
    assert [at for name, at in named if name == "eisam"] == [None, ("tau", 0.2)]
    assert f"tau=0.2 {same.positions[0]}" in csv_table(bench, rows)


def test_revenue_is_measured_where_there_is_money(rows):
    assert {row.setting for row in rows.revenue} == {"shop-all"}
    quantities = {(row.share.quantity, row.share.segment) for row in rows.revenue}
    assert quantities == {(q, s) for q in ("revenue", "sell-through") for s in ("overall", "head", "tail")}
