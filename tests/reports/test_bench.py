import csv
import json
import re
import shutil
from xml.etree import ElementTree

import pytest

from tailwise.errors import DataError
from tailwise.reports import write_bench

from .bench_records import write_records

FILES = ("tables.md", "tables.csv", "tables.tex", "figure.svg", "summary.svg", "results.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_records(tmp_path_factory.mktemp("bench") / "first")
    assert write_bench(folder, n_resamples=300) == folder / "tables.md"
    return folder


def test_every_promised_file_is_there_and_reads(folder):
    assert all((folder / name).stat().st_size > 500 for name in FILES)
    for name in ("figure.svg", "summary.svg"):
        ElementTree.parse(folder / name)
    results = json.loads((folder / "results.json").read_text())
    assert [s["name"] for s in results["settings"]] == ["steam-1024", "shop-all"]
    lines = list(csv.DictReader((folder / "tables.csv").read_text().splitlines()))
    assert {line["table"] for line in lines} == {"methods", "curves", "beyond", "revenue", "tuning"}


def test_same_records_give_the_same_files(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "again")
    for name in FILES:
        (tmp_path / "again" / name).unlink()
    write_bench(tmp_path / "again", n_resamples=300)
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_planted_gain_is_bold_and_the_null_is_not(folder):
    page = (folder / "tables.md").read_text()
    pooled = page[page.index("## Pooled") : page.index("## steam, 1,024")]
    row = {line.split(" | ")[0].strip("| "): line for line in pooled.splitlines() if line.startswith("| ")}
    assert len(re.findall(r"\*\*\+", row["EISAM (rank, ρ)"])) >= 1
    assert "**" not in row["Random rows"]


def test_page_says_what_is_missing(tmp_path):
    folder = write_records(tmp_path / "bench", settings=("steam-1024", "steam-4096"), n_users=120)
    shutil.rmtree(folder / "steam-1024" / "cells" / "eisam" / "seed-1")
    shutil.rmtree(folder / "steam-4096")
    page = write_bench(folder, n_resamples=50).read_text()
    assert "Cells: 24 of 25. Comparisons use the seeds that both sides have." in page
    assert "Not begun: steam-4096." in page
    eisam = next(line for line in page.splitlines() if line.startswith("| EISAM"))
    assert eisam.split(" | ")[1] == "2"  # seeds


def test_no_cell_of_the_baseline_is_an_error(tmp_path):
    folder = write_records(tmp_path / "bench", settings=("steam-1024",), n_users=50)
    shutil.rmtree(folder / "steam-1024" / "cells" / "adamw")
    with pytest.raises(DataError, match="at least one cell of the baseline 'adamw'; got none in steam-1024"):
        write_bench(folder)
