"""Differences between any two methods: values, families, seeds, files."""

import csv
import json

import pytest

from tailwise.errors import DataError
from tailwise.evaluation import holm
from tailwise.reports import read_bench
from tailwise.reports._bench_pages import latex_tables, markdown_tables
from tailwise.reports._bench_row_types import MEASURES, POOLED
from tailwise.reports._bench_rows import bench_rows
from tailwise.reports._bench_tables import bench_tables
from tailwise.reports._bench_tidy import bench_results, csv_table

from .bench_records import write_json, write_records

COMPARISONS = [
    {"method": "eisam", "against": "adamw", "family": "first", "seeds": []},
    {"method": "eisam", "against": "sam", "family": "first", "seeds": []},
    {"method": "logit-adjustment@0.6", "against": "logit-adjustment@0.1", "family": "knobs", "seeds": []},
    {"method": "eisam", "against": "sam", "family": "later seeds", "seeds": [1, 2]},
]
TAIL = ("ndcg", 10, "tail")


def write_bench_with(folder, comparisons, **how):
    write_records(folder, settings=("steam-64", "shop-all"), n_users=200, **how)
    about = json.loads((folder / "bench.json").read_text())
    write_json(folder / "bench.json", {**about, "comparisons": comparisons})
    return folder


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return read_bench(write_bench_with(tmp_path_factory.mktemp("comparisons") / "b", COMPARISONS))


@pytest.fixture(scope="module")
def rows(bench):
    return bench_rows(bench, n_resamples=20)


def found(rows, setting, method, against, family="first"):
    (row,) = [
        row
        for row in rows.comparisons
        if (row.setting, row.comparison.method, row.comparison.against, row.comparison.family)
        == (setting, method, against, family)
    ]
    return row


def test_against_the_baseline_it_is_the_difference_of_the_other_tables(rows):
    for setting in ("steam-64", "shop-all", POOLED):
        (method,) = [r for r in rows.methods if (r.setting, r.method.name) == (setting, "eisam")]
        row = found(rows, setting, "eisam", "adamw")
        assert (row.n_seeds, row.n_settings) == (method.n_seeds, method.n_settings)
        for measure in MEASURES:
            assert row.found[measure].against == method.found[measure].against
            assert row.found[measure].value == method.found[measure].value


def test_differences_are_relative_to_the_second_method(rows):
    values = {r.method.name: r.found[TAIL].value for r in rows.methods if r.setting == "steam-64"}
    row = found(rows, "steam-64", "eisam", "sam")
    assert row.found[TAIL].against.difference == pytest.approx(values["eisam"] / values["sam"] - 1)
    assert row.found[TAIL].against.baseline_value == pytest.approx(values["sam"])


def test_points_of_curves_are_named_by_their_knob(rows):
    row = found(rows, "shop-all", "logit-adjustment@0.6", "logit-adjustment@0.1", "knobs")
    assert (row.method, row.against) == ("Logit adjustment (tau = 0.6)", "Logit adjustment (tau = 0.1)")
    assert row.found["ndcg", 10, "head"].against.difference < 0 < row.found[TAIL].against.difference


def test_each_family_is_counted_for_itself(rows):
    first = [found(rows, POOLED, "eisam", against).found[TAIL] for against in ("adamw", "sam")]
    assert [f.p_holm for f in first] == pytest.approx(holm([f.against.p_value for f in first]))
    alone = found(rows, POOLED, "logit-adjustment@0.6", "logit-adjustment@0.1", "knobs").found[TAIL]
    assert alone.p_holm == alone.against.p_value


def test_a_comparison_may_be_of_some_seeds(rows):
    row = found(rows, "steam-64", "eisam", "sam", "later seeds")
    assert row.n_seeds == row.found[TAIL].against.n_seeds == 2
    assert row.found[TAIL].p_holm is None  # fewer than three
    all_seeds = found(rows, "steam-64", "eisam", "sam").found[TAIL].against.difference
    assert row.found[TAIL].against.difference != all_seeds


def test_what_was_not_run_is_left_out(tmp_path):
    folder = write_bench_with(tmp_path / "b", COMPARISONS)
    for cell in (folder / "steam-64" / "cells" / "sam").glob("*"):
        for file in cell.iterdir():
            file.unlink()
        cell.rmdir()
    rows = bench_rows(read_bench(folder), n_resamples=10)
    of_sam = [row for row in rows.comparisons if row.comparison.against == "sam"]
    assert {row.setting for row in of_sam} == {"shop-all", POOLED}
    assert {row.n_settings for row in of_sam} == {1}


def test_every_file_shows_them(bench, rows):
    titles = {
        f"Comparisons, {family}; differences in per cent of the second method"
        for family in ("first", "knobs", "later seeds")
    }
    for section in ("steam-64", "shop-all", POOLED):
        assert titles <= {t.title for t in bench_tables(bench, rows) if t.section == section}
    page = markdown_tables(bench, rows)
    assert page.count("| EISAM (rank, ρ) | SAM | 1 | 2 of 1, 2 | ") == 2
    assert "Comparisons, later seeds" in latex_tables(bench, rows)
    lines = [
        line for line in csv.DictReader(csv_table(bench, rows).splitlines()) if line["table"] == "comparisons"
    ]
    assert len(lines) == len(COMPARISONS) * 3 * len(MEASURES)
    assert {line["note"] for line in lines} == {"first", "knobs", "later seeds"}
    results = json.loads(json.dumps(bench_results(bench, rows), allow_nan=False))["comparisons"]
    assert {(r["method"], r["against"]) for r in results} == {
        (c["method"], c["against"]) for c in COMPARISONS
    }


def test_records_without_comparisons_have_none(tmp_path):
    bench = read_bench(write_records(tmp_path / "b", settings=("steam-64",), n_users=80))
    rows = bench_rows(bench, n_resamples=10)
    assert rows.comparisons == ()
    assert "Comparisons" not in markdown_tables(bench, rows)


@pytest.mark.parametrize(
    ("comparison", "message"),
    [
        ({**COMPARISONS[0], "against": "adam"}, "comparisons must be of methods among adamw, .*; got 'adam'"),
        ({**COMPARISONS[0], "seeds": "all"}, r"comparisons\[0\]\.seeds must be a list; got 'all'"),
    ],
)
def test_broken_comparisons_are_named(tmp_path, comparison, message):
    folder = write_bench_with(tmp_path / "b", [comparison])
    with pytest.raises(DataError, match=message):
        read_bench(folder)
