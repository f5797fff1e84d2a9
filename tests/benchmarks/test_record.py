"""Which code a row was measured by can be told."""

import argparse
import json

import pytest

import _record
from _record import by_turns, code_version, conclude


def test_the_digest_of_code_changes_with_the_files_that_count_and_with_no_other(monkeypatch, tmp_path):
    monkeypatch.setattr(_record, "_ROOT", tmp_path)
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "one.py").write_text("a = 1\n")
    (tmp_path / "other.py").write_text("b = 1\n")
    first = code_version("stage")
    assert first["commit"] is None
    (tmp_path / "other.py").write_text("b = 2\n")
    assert code_version("stage") == first
    (tmp_path / "stage" / "one.py").write_text("a = 2\n")
    assert code_version("stage")["code"] != first["code"]


def test_a_path_without_code_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(_record, "_ROOT", tmp_path)
    with pytest.raises(ValueError, match="Python files; got 'gone'"):
        code_version("gone")


def test_a_ratio_is_of_turns_taken_together_and_says_how_far_it_may_be_off():
    found = by_turns([8.0, 2.0, 3.0, 6.0, 5.0, 12.0], [2.0, 2.0, 1.0, 3.0, 1.0, 2.0])
    assert found == {"ratio": 3.5, "ratio_low": 1.0, "ratio_high": 6.0, "interval_coverage": 0.96875}
    with pytest.raises(ValueError, match="shorter"):
        by_turns([1.0, 2.0], [1.0])


def test_a_benchmark_ends_with_its_table_and_one_json_line_and_keeps_both_where_asked(capsys, tmp_path):
    record = {"date": "2026-01-02", "rows": [1.5]}
    options = argparse.Namespace(output=None, repeats=2)
    assert conclude(record, "a table", options, "how-fast") == record
    table, line = capsys.readouterr().out.splitlines()
    assert (table, json.loads(line), list(tmp_path.iterdir())) == ("a table", record, [])
    conclude(record, "a table", argparse.Namespace(output=tmp_path, repeats=2), "how-fast")
    folder = tmp_path / "2026-01-02-how-fast"
    assert json.loads((folder / "result.json").read_text()) == record
    assert json.loads((folder / "config.json").read_text()) == {"repeats": 2}
    assert (folder / "table.txt").read_text() == "a table\n"
