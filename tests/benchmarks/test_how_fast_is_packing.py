"""The tiny setting runs through; how fast packing is in seconds is for people to read, not for tests."""

import json

import pytest

from how_fast_is_packing import LAYOUTS, QUESTION, main

TINY = ["--setting", "tiny", "--max-tokens", "60", "--positions-per-batch", "120", "--steps", "1"]


def test_the_last_line_is_json_with_a_row_per_layout_and_packing_trains_more_targets_a_step(capsys, tmp_path):
    main([*TINY, "--repeats", "2", "--output", str(tmp_path)])
    printed = capsys.readouterr().out.splitlines()
    record = json.loads(printed[-1])
    assert record["question"] == QUESTION
    assert [row["layout"] for row in record["rows"]] == list(LAYOUTS)
    packed, alone = record["rows"]
    assert packed["targets_per_step"] > 3 * alone["targets_per_step"]
    assert alone["ratio"] == 1
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"{record['date']}-how-fast-is-packing"
    assert json.loads((folder / "result.json").read_text()) == record
    assert (folder / "table.txt").read_text() == "\n".join(printed[:-1]) + "\n"


def test_more_batches_than_an_epoch_has_are_refused():
    with pytest.raises(ValueError, match=r"at most \d+, an epoch; got 9000"):
        main([*TINY, "--repeats", "9000"])
