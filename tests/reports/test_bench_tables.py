import csv
import json
import math
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.reports import read_bench
from tailwise.reports._bench_figure import _domain, bench_figure, bench_summary, spread
from tailwise.reports._bench_pages import _latex, latex_tables, markdown_tables
from tailwise.reports._bench_rows import bench_rows
from tailwise.reports._bench_tables import bench_tables
from tailwise.reports._bench_tidy import COLUMNS, bench_results, csv_table

from .bench_records import CURVE, METHODS, write_json, write_records


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables") / "bench"
    methods = [(n, "A&B | 50 %_x" if n == "sam" else label, role) for n, label, role in METHODS]
    return read_bench(write_records(folder, n_users=200, methods=methods))


@pytest.fixture(scope="module")
def rows(bench):
    return bench_rows(bench, n_resamples=100)


def test_rows_are_as_wide_as_their_header(bench, rows):
    tables = bench_tables(bench, rows)
    assert {table.section for table in tables} == {"pooled", "steam-1024", "shop-all"}
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.header)}, table.title


def test_bold_stands_only_where_an_interval_lies_above_zero(bench, rows):
    bold = [
        cell
        for line in markdown_tables(bench, rows).splitlines()
        for cell in re.findall(r"\| \*\*(.*?)\*\*", line)
    ]
    assert bold
    for cell in bold:
        low = re.search(r", ([+−]?[\d.]+) to", cell)
        assert low is not None, cell
        assert low[1].startswith("+"), cell


@pytest.mark.parametrize(("n_seeds", "words"), [(1, "one seed"), (2, "two seeds")])
def test_fewer_than_three_seeds_are_marked_and_neither_bold_nor_judged(tmp_path, n_seeds, words):
    folder = write_records(tmp_path / "b", seeds=range(n_seeds), n_users=300)
    few = read_bench(folder)
    found = bench_rows(few, n_resamples=50)
    page, tex = markdown_tables(few, found), latex_tables(few, found)
    cells = [cell for line in page.splitlines() if line.startswith("| EISAM") for cell in line.split(" | ")]
    assert words in cells
    assert {"yes", "no", "not shown"}.isdisjoint(cells)
    assert all("†" in cell for cell in cells if " to " in cell)
    assert "| **" not in page
    assert "†: fewer than three seeds" in page
    assert "\\textbf" not in tex
    assert "($\\dagger$: fewer than three seeds)" in tex
    assert all(f.p_holm is None for row in found.methods for f in row.found.values())
    assert {row.kept.is_shown for row in found.methods if row.kept} == {None}
    assert not any(row.result.is_beyond for row in found.beyond)
    lines = list(csv.DictReader(csv_table(few, found).splitlines()))
    units = {"users", "items"} if n_seeds == 1 else {"users+seeds", "items+seeds"}
    assert {line["variance"] for line in lines if line["low"]} == units


def test_pooled_rows_with_one_seed_in_some_setting_are_marked(tmp_path):
    folder = write_records(tmp_path / "b", n_users=300)
    for seed in (1, 2):
        shutil.rmtree(folder / "steam-1024" / "cells" / "eisam" / f"seed-{seed}")
    part = read_bench(folder)
    found = bench_rows(part, n_resamples=50)
    (row,) = [r for r in found.methods if (r.setting, r.method.name) == ("pooled", "eisam")]
    assert row.found["ndcg", 10, "tail"].against.low > 0
    assert not row.found["ndcg", 10, "tail"].is_gain
    pooled = next(t for t in bench_tables(part, found) if t.section == "pooled")
    entries = next(r for r in pooled.rows if r[0].text.startswith("EISAM"))
    assert entries[-1].text == "one seed"
    assert all(e.text.endswith("†") and not e.is_bold for e in entries[3:-2])


def test_markdown_tables_are_rectangular_and_escaped(bench, rows):
    page = markdown_tables(bench, rows, figure="figure.svg")
    assert "A&amp;B \\| 50 %_x" in page
    assert "![Tail gain" in page
    for block in re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


def test_revenue_table_stands_only_where_there_is_money(bench, rows):
    page = markdown_tables(bench, rows)
    steam, shop = page.split("## shop, all histories")
    assert "Held-out revenue" not in steam
    assert "Held-out revenue" in shop


def test_latex_is_balanced_and_free_of_bare_signs(bench, rows):
    text = latex_tables(bench, rows)
    assert "A\\&B | 50 \\%\\_x" in text
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == len(bench_tables(bench, rows))
    body = "\n".join(line for line in text.splitlines() if line.endswith("\\\\"))
    assert not re.search(r"(?<!\\)[%#]", body)
    assert body.isascii()


def test_latex_of_special_signs():
    assert _latex("ρ = 5 % & −1_a\\") == "$\\rho$ = 5 \\% \\& $-$1\\_a\\textbackslash{}"


def test_every_number_of_the_csv_reads_and_repeats_the_rows(bench, rows):
    lines = list(csv.DictReader(csv_table(bench, rows).splitlines()))
    assert tuple(lines[0]) == COLUMNS
    numbers = COLUMNS[8:17]
    assert all(math.isfinite(float(line[name])) for line in lines for name in numbers if line[name])
    (line,) = [
        line
        for line in lines
        if [line[n] for n in ("table", "setting", "method", "quantity", "segment")]
        == ["methods", "pooled", "eisam", "ndcg@10", "tail"]
    ]
    (row,) = [r for r in rows.methods if (r.setting, r.method.name) == ("pooled", "eisam")]
    low = row.found["ndcg", 10, "tail"].against.low
    assert line["low"] == f"{low:.10g}"  # the last digits are the processor's
    assert sum(line["table"] == "tuning" for line in lines) == 2 * 4 * 4  # settings, methods, trials


def test_results_are_plain_json_with_every_table(bench, rows):
    results = json.loads(json.dumps(bench_results(bench, rows), allow_nan=False))
    assert {"methods", "curves", "beyond", "tuning", "revenue", "settings"} <= results.keys()
    assert results["beyond"][0]["positions"]


def test_tuning_says_how_many_trials_of_those_promised(bench, rows, tmp_path):
    folder = write_records(tmp_path / "b", settings=("steam-64",), seeds=(0, 1), n_users=60)
    about = json.loads((folder / "bench.json").read_text())
    write_json(folder / "bench.json", about | {"n_trials": 6, "rule": "highest tail"})
    short = read_bench(folder)
    page = markdown_tables(short, bench_rows(short, n_resamples=20))
    assert "4 of 6" in page
    assert "| rule |" not in page  # it stands on top
    assert "| rule |" in markdown_tables(bench, rows)  # files say another than bench.json


def test_figure_names_every_compared_method_and_no_reference(bench, rows):
    svg = bench_figure(bench, rows)
    for label in ("A&amp;B | 50 %_x", "Logit adjustment", "EISAM (rank, ρ)", "Random rows"):
        assert svg.count(f">{label}<") == 3, label  # two settings and pooled
    assert ">Most popular<" not in svg
    assert svg.count("margin −2") == 3
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')


def test_summary_shows_both_depths_of_methods_run_in_all_settings(tmp_path):
    folder = write_records(tmp_path / "b", settings=("steam-64", "shop-all"), n_users=200)
    shutil.rmtree(folder / "shop-all" / "cells" / "sam")
    bench = read_bench(folder)
    rows = bench_rows(bench, n_resamples=20)
    summary, figure = bench_summary(bench, rows), bench_figure(bench, rows)
    assert ">SAM" not in summary
    assert summary.count(">EISAM (rank, ρ)<") == 2
    for depth, text in ((10, "ten"), (100, "a hundred")):
        assert f">Overall NDCG@{depth}, % of AdamW<" in summary
        assert f">Lists of {text}, mean over 2 settings<" in summary
    for value in CURVE:
        assert summary.count(f">{value}<") == 2  # of the one curve, at both depths
    assert figure.count(">SAM (1 of 2)<") == 1  # pooled
    assert figure.count(">SAM<") == 1
    assert ">EISAM (rank, ρ) (" not in figure


def test_one_setting_has_no_summary(tmp_path):
    bench = read_bench(write_records(tmp_path / "b", settings=("steam-64",), n_users=80))
    assert bench_summary(bench, bench_rows(bench, n_resamples=20)) is None


def test_panel_holds_values_but_not_every_interval():
    low, high = _domain([-1.0, 9.0], [(-100.0, 9.5)])
    assert low < -1.0
    assert low > -10.0  # the long interval runs out of the frame
    assert high > 9.5


@given(st.lists(st.floats(0, 100), min_size=1, max_size=15))
def test_labels_keep_their_distance_and_order_within_the_panel(wanted):
    places = np.array(spread(wanted, step=7.0, low=0.0, high=100.0))
    order = np.argsort(wanted, kind="stable")
    step = min(7.0, 100 / max(1, len(wanted) - 1))
    assert np.all(np.diff(places[order]) >= step - 1e-9)  # sums of floats
    assert places.min() >= -1e-9
    assert places.max() <= 100 + 1e-9


def test_labels_that_are_apart_stay():
    assert spread([50.0, 10.0, 90.0], step=7.0, low=0.0, high=100.0) == [50.0, 10.0, 90.0]
