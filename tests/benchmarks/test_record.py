"""Which code a row was measured by can be told."""

import pytest

import _record
from _record import code_version


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
