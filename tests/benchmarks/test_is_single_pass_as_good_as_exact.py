"""The smallest size runs through on real data and the real model; what it finds is for people to read."""

from dataclasses import replace
from pathlib import Path

import pytest

import is_single_pass_as_good_as_exact as benchmark
from tailwise.evaluation import PairedDifference


def difference(value: float, error: float) -> PairedDifference:
    return PairedDifference(
        metric="ndcg",
        k=10,
        segment="tail",
        baseline_value=0.02,
        value=0.02 + value,
        difference=value,
        low=None,
        high=None,
        relative_difference=value / 0.02,
        n_seeds=5,
        n_users=400,
        n_targets=4000,
        variance="users+seeds",
        standard_error=error,
        degrees_of_freedom=4,
        segment_rule="head-share",
    )


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0.0, 0.0005, True),  # 2.132 * 0.0005 / 0.02 = 5.3 % on either side
        (0.0, 0.001, False),  # 10.7 %: nothing differs, and nothing is shown
        (0.0015, 0.0002, True),  # 5.4 % to 9.6 %
        (-0.0015, 0.0003, False),  # -10.7 % to -4.3 %
    ],
)
def test_equivalence_needs_the_whole_interval_inside_the_margin(value, error, expected):
    low, high, is_equivalent = benchmark.is_equivalent(difference(value, error))
    assert is_equivalent is expected
    # t(0.95) with 4 degrees of freedom is 2.1318 in any table.
    assert (high - low) / 2 == pytest.approx(2.1318 * error / 0.02, rel=1e-4)


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.llm
def test_the_smallest_size_runs_through_and_keeps_its_cells(fetched, monkeypatch, tmp_path: Path):
    fetched("ml-100k")
    fetched("smollm2-135m")
    monkeypatch.setattr(benchmark, "N_TRAINING_USERS", 8)
    monkeypatch.setattr(benchmark, "N_TEST_USERS", 12)
    monkeypatch.setattr(benchmark, "DEPTH", 1)
    methods = {name: replace(benchmark.METHODS[name], epochs=1) for name in ("adamw", "exact", "sampled")}
    monkeypatch.setattr(benchmark, "METHODS", methods)

    for name in methods:
        assert "kept" not in benchmark.run_cell((name, 0, tmp_path))
    assert "kept" in benchmark.run_cell(("exact", 0, tmp_path))

    result = benchmark.analyse(list(methods), [0], tmp_path)
    assert [row["method"] for row in result["rows"]] == list(methods)
    by_name = {row["method"]: row for row in result["rows"]}
    assert by_name["exact"]["overall"]["minus_exact"][0] == 0.0
    assert by_name["adamw"]["tail"]["minus_adamw"][0] == 0.0
    assert len({row["overall"]["value"] for row in result["rows"]}) > 2  # methods do differ
    text = benchmark.table(result)
    assert all(name in text for name in methods)
