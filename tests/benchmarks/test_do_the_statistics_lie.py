"""The smallest size runs through; what it finds is for people to read."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import do_the_statistics_lie as benchmark


def test_the_smallest_size_runs_through_and_keeps_its_result(capsys, tmp_path: Path):
    benchmark.main(["--runs", "2", "--output", str(tmp_path)])
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {row["part"] for row in record["rows"]} == set(benchmark.PARTS)
    assert all(0 <= row["low"] <= row["share"] <= row["high"] <= 1 for row in record["rows"])
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "result.json").read_text())["question"] == benchmark.QUESTION
    assert "pooled holds the truth" in (folder / "table.txt").read_text()


def test_the_repeated_z_test_ends_as_the_z_test_of_all_users():
    drawn = benchmark.Visits(n_users=500).draw(3)
    spent = np.bincount(drawn.user, weights=drawn.revenue, minlength=500)
    t = stats.ttest_ind(spent[drawn.treated], spent[~drawn.treated], equal_var=False).statistic
    assert drawn.repeated_z()[-1] == pytest.approx(2 * stats.norm.sf(abs(t)))


def test_the_money_that_is_drawn_has_the_effect_that_is_called_true():
    drawn = benchmark.draw_money(np.random.default_rng(0), 400_000, orders=0.3, sigma=0.5, lift=0.5)
    for metric, (outcomes, truth, relative) in drawn.items():
        parts = [outcomes.values[outcomes.treated == flag] for flag in (True, False)]
        means = [part[:, 0].mean() / (part[:, 1].mean() if outcomes.is_ratio else 1) for part in parts]
        # standard errors are below 1 % of the control mean at this size
        assert means[0] - means[1] == pytest.approx(truth, abs=0.02 * means[1]), metric
        assert means[0] / means[1] - 1 == pytest.approx(relative, abs=0.03), metric
