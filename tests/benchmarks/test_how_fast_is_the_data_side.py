"""The smallest size runs through; how fast it is, is for people to read, not for tests."""

import json

from how_fast_is_the_data_side import QUESTION, draw_log, main


def test_the_last_line_is_json_with_a_row_for_every_part(capsys, tmp_path):
    sizes = ["--interactions", "600", "--items", "100", "--resamples", "2", "--repeats", "1"]
    main([*sizes, "--output", str(tmp_path)])
    printed = capsys.readouterr().out.splitlines()
    record = json.loads(printed[-1])
    assert record["question"] == QUESTION
    assert record["n_interactions"] == 600
    assert len(record["rows"]) == 7
    assert record["rows"][-1]["peak_memory_mib"] > 0
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"{record['date']}-how-fast-is-the-data-side"
    assert json.loads((folder / "result.json").read_text()) == record


def test_the_random_log_has_the_sizes_asked_for_and_a_new_seed_gives_another():
    log = draw_log(500, 50, seed=0)
    assert (log.interactions.height, log.items.height) == (500, 50)
    assert log.interactions["item_index"].is_between(0, 49).all()
    assert not log.interactions.equals(draw_log(500, 50, seed=1).interactions)
