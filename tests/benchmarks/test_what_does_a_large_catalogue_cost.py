"""The benchmark of large catalogues runs end to end on small ones and keeps a record."""

import json

import pytest

TINY = ["--items", "60", "300", "--negatives", "20", "--whole-up-to", "60", "--steps", "1", "--repeats", "2"]


def test_it_measures_both_ways_and_keeps_them(tmp_path, capsys):
    from what_does_a_large_catalogue_cost import main

    record = main([*TINY, "--output", str(tmp_path)])
    small, large = record["rows"]
    assert small["ratio_low"] <= small["ratio"] <= small["ratio_high"]
    assert "ratio" not in large
    assert large["users_per_second"] > 0
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "result.json").read_text())["rows"] == record["rows"]
    assert "whole / sampled" in capsys.readouterr().out


def test_as_many_negatives_as_items_are_refused():
    from what_does_a_large_catalogue_cost import main

    with pytest.raises(SystemExit):
        main(["--items", "20", "--negatives", "20"])
