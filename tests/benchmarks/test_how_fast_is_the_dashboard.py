"""The smallest shop runs through; how fast its pages are, is for people to read, not for tests."""

import json

import polars as pl

from how_fast_is_the_dashboard import LOOKS, NAME, PATHS, QUESTION, SEEN, main, prepare
from tailwise.jobs._dashboard_source import ServiceSource


def test_the_last_line_is_json_with_a_row_for_every_part(capsys, tmp_path):
    sizes = ["--users", "60", "--items", "60", "--in-process", "--place", str(tmp_path / "place")]
    main([*sizes, "--output", str(tmp_path / "out")])
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["question"] == QUESTION
    assert record["users"] == 60
    assert [row["part"] for row in record["rows"]] == [*PATHS, *LOOKS]
    assert all(row["peak_mib"] >= row["before_mib"] > 0 for row in record["rows"])
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name == f"{record['date']}-how-fast-is-the-dashboard"
    assert json.loads((folder / "result.json").read_text()) == record


def test_every_user_of_the_shop_is_exposed_and_four_windows_in_five_are_closed(tmp_path):
    database = f"sqlite:///{tmp_path / 'log.db'}"
    counts = prepare(tmp_path, database, 400, 60)
    assert counts["events"] >= SEEN * counts["lists"] >= SEEN * 400
    assert prepare(tmp_path, database, 999, 60) == counts
    end = 1_790_000_000.0 + 14 * 86_400
    source = ServiceSource.of_service(database, state=tmp_path / "state", root=tmp_path, clock=lambda: end)
    tables = source.tables(NAME)
    assert tables.exposures.height == 400
    assert 0.72 < tables.outcomes.height / 400 < 0.88  # ± 4 standard deviations
    shares = tables.exposures.group_by("variant").agg(pl.len() / 400)
    assert shares["len"].is_between(0.4, 0.6).all()
    source.close()
