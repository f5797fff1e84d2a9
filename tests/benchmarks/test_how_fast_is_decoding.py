"""The benchmark of decoding runs end to end on a tiny model and keeps a record."""

import json

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # of generate, about settings that it does not use


def test_it_measures_every_way_and_keeps_them(tmp_path, capsys):
    from how_fast_is_decoding import main

    given = ["--setting", "tiny", "--users", "4", "--k", "3", "--width", "6", "--repeats", "2"]
    record = main([*given, "--output", str(tmp_path)])
    ways = {row["way"]: row for row in record["rows"]}
    assert set(ways) == {"beam", "generate, prefix function", "generate, grounded", "exact"}
    assert ways["beam"]["valid_share"] == ways["exact"]["valid_share"] == 1.0
    assert ways["generate, prefix function"]["ratio"] == 1.0
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "result.json").read_text())["rows"] == record["rows"]
    assert "valid lists" in capsys.readouterr().out


def test_fewer_beams_than_titles_of_a_list_are_refused():
    from how_fast_is_decoding import main

    with pytest.raises(SystemExit):
        main(["--setting", "tiny", "--k", "5", "--width", "4"])
