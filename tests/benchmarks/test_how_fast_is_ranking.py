"""The benchmark runs through, small; which way is faster is for people to read, not for tests."""

import json

import numpy as np
import pytest

import how_fast_is_ranking

TINY = ["--items", "60", "--targets", "1", "3", "--users", "4", "--repeats", "2"]


def test_a_row_for_every_size_and_the_record_is_kept(capsys, tmp_path):
    how_fast_is_ranking.main([*TINY, "--output", str(tmp_path)])
    printed = capsys.readouterr().out.splitlines()
    record = json.loads(printed[-1])
    assert [(row["n_items"], row["n_targets"]) for row in record["rows"]] == [(60, 1), (60, 3)]
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"{record['date']}-how-fast-is-ranking"
    assert json.loads((folder / "result.json").read_text()) == record


def test_ways_that_disagree_stop_it(monkeypatch):
    def wrong(scores, users, items):
        return np.zeros((2, items.size), dtype=np.int64)

    monkeypatch.setattr(how_fast_is_ranking, "competitors_by_sorting", wrong)
    with pytest.raises(AssertionError, match="not equal"):
        how_fast_is_ranking.main(TINY)
