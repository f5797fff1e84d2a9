"""The tiny setting runs through over real HTTP; how fast serving is in seconds is for people to read."""

import json
from itertools import pairwise

import pytest

from _load import drive
from how_fast_is_serving import LENGTH, N_ROUNDS, N_USERS, QUESTION, bodies_of, main


@pytest.mark.slow
def test_the_last_line_is_json_with_a_row_per_kind_of_users(capsys, tmp_path):
    tiny = ["--setting", "tiny", "--generator", "python", "--repeats", "1", "--seconds", "1"]
    main([*tiny, "--connections", "4", "--output", str(tmp_path)])
    printed = capsys.readouterr().out.splitlines()
    record = json.loads(printed[-1])
    assert record["question"] == QUESTION
    assert [(row["setting"], row["users"]) for row in record["rows"]] == [
        ("tiny", "new"),
        ("tiny", "returning"),
    ]
    for row in record["rows"]:
        assert all(load["n_not_by_model"] == 0 and load["n"] > 0 for load in row["loads"]["service"])
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "result.json").read_text()) == record
    assert (folder / "table.txt").read_text() == "\n".join(printed[:-1]) + "\n"


def test_histories_of_returning_users_grow_by_one_item_each_time():
    bodies = [json.loads(body) for body in bodies_of("returning", 1000)]
    assert len(bodies) == N_USERS * N_ROUNDS
    of_one = [body["history"] for body in bodies if body["user_id"] == "u7"]
    assert [len(history) for history in of_one] == list(range(LENGTH, LENGTH + N_ROUNDS))
    assert all(later[:-1] == earlier for earlier, later in pairwise(of_one))


def test_load_goes_to_the_loopback_alone():
    with pytest.raises(ValueError, match=r"127\.0\.0\.1.*got 'http://10\.0\.0\.1/'"):
        drive("http://10.0.0.1/", ["{}"], connections=1, seconds=1, generator="python")
