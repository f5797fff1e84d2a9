"""The benchmark of the trainer's cost runs end to end on a tiny model and keeps a record."""

import json

import pytest

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")


def test_it_measures_ratios_and_keeps_them(tmp_path, capsys):
    from what_does_the_trainer_cost import main

    record = main(
        [
            "--setting",
            "tiny",
            "--repeats",
            "2",
            "--methods",
            "single-pass",
            "exact",
            "--output",
            str(tmp_path),
        ]
    )
    assert [row["method"] for row in record["rows"]] == [
        "Trainer",
        "EISAMTrainer, single-pass",
        "EISAMTrainer, exact",
    ]
    assert all(row["low"] <= row["ratio"] <= row["high"] for row in record["rows"][1:])
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "result.json").read_text())["rows"] == record["rows"]
    assert "EISAMTrainer, exact" in (folder / "table.txt").read_text()
    assert "times Trainer" in capsys.readouterr().out


@pytest.mark.parametrize("given", [["--steps", "1"], ["--repeats", "0"]])
def test_too_little_to_measure_is_refused(given):
    from what_does_the_trainer_cost import main

    with pytest.raises(SystemExit):
        main(["--setting", "tiny", *given])
