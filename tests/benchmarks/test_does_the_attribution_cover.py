"""The smallest size runs through; what it finds is for people to read."""

import json
from pathlib import Path

import does_the_attribution_cover as benchmark


def test_the_smallest_size_runs_through_and_keeps_its_result(capsys, tmp_path: Path):
    benchmark.main(["--worlds", "null", "by-items", "--repeats", "2", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    record = json.loads(printed.splitlines()[-1])
    assert [world["world"] for world in record["worlds"]] == ["null", "by-items"]
    shares = {row["share"]: row for row in record["worlds"][0]["shares"]}
    assert set(benchmark.SHARES) < set(shares)
    assert abs(shares["prior_alone"]["truth"]) < 1e-9  # the null: the same variance taken twice
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "result.json").read_text())["question"] == benchmark.QUESTION
    assert "the prior adds" in (folder / "table.txt").read_text()
