"""The smallest settings run through; what a step costs in seconds is for people to read, not for tests."""

import json

import pytest
import torch

from _course import Course, RowCounter
from _record import aligned, median_interval
from _workloads import SETTINGS, Batch
from what_does_a_step_cost import METHODS, QUESTION, main, measure_time

PROMISED = {
    "setting",
    "estimator",
    "time_ratio",
    "time_ratio_low",
    "time_ratio_high",
    "memory_ratio",
    "forwards",
    "backwards",
    "seconds_per_step",
    "peak_memory_mib",
}
CPU = torch.device("cpu")


@pytest.mark.slow  # imports all libraries a second time, in a process of its own
def test_the_last_line_is_json_with_every_promised_key_for_every_method(capsys, tmp_path):
    main(["--settings", "tiny", "--repeats", "1", "--output", str(tmp_path)])
    printed = capsys.readouterr().out.splitlines()
    record = json.loads(printed[-1])
    assert record["question"] == QUESTION
    assert {"date", "commit", "machine", "settings"} <= record.keys()
    assert [row["estimator"] for row in record["rows"]] == list(METHODS)
    for row in record["rows"]:
        assert row.keys() >= PROMISED
        assert row["setting"] == "tiny"
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"{record['date']}-what-does-a-step-cost"
    assert json.loads((folder / "result.json").read_text()) == record
    assert (folder / "table.txt").read_text() == "\n".join(printed[:-1]) + "\n"
    assert json.loads((folder / "config.json").read_text())["repeats"] == 1


@pytest.mark.parametrize("setting", ["tiny", "tiny-item-token"])
def test_every_method_takes_the_forwards_and_backwards_of_the_design(setting):
    timings = measure_time(
        SETTINGS[setting].build(2, CPU), list(METHODS), steps=1, repeats=2, say=lambda text: None
    )
    counts = {name: timings[name].counts for name in METHODS}
    for name, expected in {
        "adamw": (1, 1),
        "exact": (2, 3),
        "single-pass": (1, 1),
        "single-pass-unit": (1, 1),
        "every-k": ((2 + 4) / 5, (3 + 4) / 5),
        "sam": (2, 2),
        "asam": (2, 2),
        "focal-sam": (2, 3),
        "looksam": ((2 + 4) / 5, (2 + 4) / 5),
        "momentum-sam": (1, 1),
    }.items():
        assert counts[name] == pytest.approx(expected), name
    # How many rows these evaluate again follows the batch or a draw.
    for name, most in {"imbsam": (2, 3), "group-sam": (3, 4), "sampled": (1.5, 2)}.items():
        assert all(1 < count <= bound for count, bound in zip(counts[name], most, strict=True)), name


def test_turns_start_from_the_same_parameters():
    workload = SETTINGS["tiny"].build(1, CPU)
    before = [p.detach().clone() for p in workload.trainable()]
    course = Course(workload, {"adamw": METHODS["adamw"]})
    course.turn("adamw", workload.batches[0])
    moved = [p.detach().clone() for p in workload.trainable()]
    assert not all(torch.equal(a, b) for a, b in zip(moved, before, strict=True))
    course.restore()
    assert all(torch.equal(a, b) for a, b in zip(workload.trainable(), before, strict=True))


def test_a_part_of_the_rows_counts_as_that_part_of_a_batch():
    theta = torch.ones(4, requires_grad=True)
    counter = RowCounter()
    loss_fn = counter.counted(Batch(lambda rows: theta[rows] ** 2, torch.zeros(4, dtype=torch.int64)))
    losses = loss_fn(torch.tensor([0, 2, 3]))
    losses.sum().backward(retain_graph=True)
    losses[0].backward()
    assert (counter.forwards, counter.backwards) == (0.75, 1.5)
    assert theta.grad.tolist() == [4.0, 0.0, 2.0, 2.0]


def test_the_median_lies_between_second_and_eighth_of_nine_with_96_percent():
    low, high, coverage = median_interval([9.0, 1, 8, 2, 7, 3, 6, 4, 5])
    assert (low, high) == (2, 8)
    assert coverage == 1 - 2 * (1 + 9) / 2**9


def test_an_interval_of_too_few_values_says_how_little_it_covers():
    assert median_interval([2.0, 1.0]) == (1.0, 2.0, 0.5)
    assert median_interval([2.0]) == (2.0, 2.0, 0.0)


def test_a_table_is_aligned_at_its_columns_ends():
    assert aligned(["", "n"], [["long name", "1"], ["x", "10"]]).splitlines() == [
        "            n",
        "---------  --",
        "long name   1",
        "x          10",
    ]
