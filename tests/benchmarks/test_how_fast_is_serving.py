"""The tiny setting runs through over real HTTP; how fast serving is in seconds is for people to read."""

import json
import shutil
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import pytest

import how_fast_is_serving
from _load import drive
from how_fast_is_serving import LENGTH, N_ROUNDS, N_USERS, QUESTION, SETTINGS, SLUG, bodies_of, main

ALL_ROWS = [(setting.name, users) for setting in SETTINGS["full"] for users in setting.users]
KEPT = "2026-11-28"  # the record that came with two settings only


class Measured:
    """Stands in for servers and load: notes which rows are measured, and stops before one where told to."""

    def __init__(self):
        self.rows = []
        self.stop_before = None

    def __call__(self, setting, users, url, options):
        if (setting.name, users) == self.stop_before:
            raise KeyboardInterrupt
        self.rows.append((setting.name, users))
        names = ("per_second", "naive_per_second", "ratio", "ratio_low", "ratio_high", "p50_ms", "p95_ms")
        names += ("p99_ms", "naive_p50_ms", "alone_p50_ms", "naive_alone_p50_ms")
        return {"setting": setting.name, "users": users, **dict.fromkeys(names, 1.0), "loads": {}}


@pytest.fixture
def measured(monkeypatch):
    stand_in = Measured()
    monkeypatch.setattr(how_fast_is_serving, "measure", stand_in)
    monkeypatch.setattr(how_fast_is_serving, "server_of", lambda *_: nullcontext(("", {"item_bytes": 1})))
    return stand_in


@pytest.mark.slow
def test_the_last_line_is_json_with_a_row_per_kind_of_users(capsys, tmp_path):
    tiny = ["--setting", "tiny", "--generator", "python", "--repeats", "1", "--seconds", "0.2"]
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


def test_a_run_goes_on_with_the_row_at_which_it_was_stopped(measured, tmp_path):
    measured.stop_before = ("8 layers, 10k items", "returning")
    stopped_at = ALL_ROWS.index(measured.stop_before)
    with pytest.raises(KeyboardInterrupt):
        main(["--output", str(tmp_path), "--date", "2026-01-01"])
    assert measured.rows == ALL_ROWS[:stopped_at]
    folder = tmp_path / f"2026-01-01-{SLUG}"
    assert len(json.loads((folder / "result.json").read_text())["rows"]) == stopped_at
    assert len((folder / "table.txt").read_text().splitlines()) == 2 + stopped_at

    measured.stop_before = None
    main(["--output", str(tmp_path), "--date", "2026-01-01"])
    assert measured.rows == ALL_ROWS
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "result.json", "table.txt"]


def test_rows_asked_for_alone_join_the_others_in_the_order_of_the_grid(measured, tmp_path):
    for only in ("8 layers, 10k items", "30 layers, 10k items"):
        main(["--output", str(tmp_path), "--date", "2026-01-01", "--only", only])
    rows = json.loads((tmp_path / f"2026-01-01-{SLUG}/result.json").read_text())["rows"]
    assert [(row["setting"], row["users"]) for row in rows] == ALL_ROWS[:6]
    assert measured.rows == ALL_ROWS[3:6] + ALL_ROWS[:3]
    assert all(set(row["measured"]) == {"date", "commit", "code", "config", "machine"} for row in rows)


@pytest.mark.parametrize(
    ("changed", "flags"), [("config", ["--repeats", "7"]), ("code", []), ("machine", [])]
)
def test_rows_measured_otherwise_are_refused_unless_they_are_to_be_kept(
    measured, monkeypatch, tmp_path, changed, flags
):
    into = ["--output", str(tmp_path), "--date", "2026-01-01"]
    main([*into, "--only", "8 layers, 10k items"])
    path = tmp_path / f"2026-01-01-{SLUG}/result.json"
    record = json.loads(path.read_text())
    if not flags:
        for row in record["rows"]:
            row["measured"][changed] = "another"
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=rf"(?s)got 3 of 3 .*'8 layers.*another {changed};.*--keep-older"):
        main([*into, *flags])
    assert json.loads(path.read_text()) == record
    assert len(measured.rows) == 3

    main([*into, *flags, "--keep-older"])
    assert sorted(measured.rows) == sorted(ALL_ROWS)
    rows = json.loads(path.read_text())["rows"]
    assert [row for row in rows if row["setting"] == "8 layers, 10k items"] == record["rows"]


def test_the_record_of_two_settings_is_filled_with_the_others(measured, tmp_path):
    name = f"{KEPT}-{SLUG}"
    kept = tmp_path / name
    shutil.copytree(Path(how_fast_is_serving.__file__).parent / "results" / name, kept)
    before = json.loads((kept / "result.json").read_text())["rows"]
    main(["--output", str(tmp_path), "--date", KEPT, "--keep-older"])
    after = json.loads((kept / "result.json").read_text())["rows"]
    assert [(row["setting"], row["users"]) for row in after] == ALL_ROWS
    assert [row for row in after if row in before] == before
    assert len(measured.rows) == len(ALL_ROWS) - len(before)


def test_rows_of_another_grid_and_unknown_names_are_refused(measured, tmp_path, capsys):
    into = ["--output", str(tmp_path), "--date", "2026-01-01"]
    main([*into, "--setting", "tiny"])
    with pytest.raises(ValueError, match=r"rows of --setting full; got 'tiny'"):
        main(into)
    with pytest.raises(SystemExit):
        main([*into, "--only", "9 layers"])
    assert "--only must name rows of --setting full; got '9 layers'" in capsys.readouterr().err


def test_histories_of_returning_users_grow_by_one_item_each_time():
    bodies = [json.loads(body) for body in bodies_of("returning", 1000)]
    assert len(bodies) == N_USERS * N_ROUNDS
    of_one = [body["history"] for body in bodies if body["user_id"] == "u7"]
    assert [len(history) for history in of_one] == list(range(LENGTH, LENGTH + N_ROUNDS))
    assert all(later[:-1] == earlier for earlier, later in pairwise(of_one))


def test_load_goes_to_the_loopback_alone():
    with pytest.raises(ValueError, match=r"127\.0\.0\.1.*got 'http://10\.0\.0\.1/'"):
        drive("http://10.0.0.1/", ["{}"], connections=1, seconds=1, generator="python")


def test_wrk_is_asked_for_whole_seconds():
    with pytest.raises(ValueError, match=r"whole for wrk; got 0\.5 for wrk"):
        drive("http://127.0.0.1:1/", ["{}"], connections=1, seconds=0.5, generator="wrk")
