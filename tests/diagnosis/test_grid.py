import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.diagnosis import Outcomes, PlantedWorld, Uncertain, accuracy_grid

# Four items: known well and common, well and rare, badly and common, badly and rare.
COUNTS, PRIORS = [9, 2, 8, 1], [4.0, 3.0, 1.0, 2.0]


def test_cells_worked_by_hand():
    grid = accuracy_grid(Outcomes([0, 0, 1, 1, 2], [0, 1, 1, 2, 0], [1, 0.5, 0, 0.25, 0], COUNTS, PRIORS))
    found = {
        (c.prior_group, c.data_group): (c.accuracy.value, c.n_targets, c.n_items, c.n_users)
        for c in grid.cells
    }
    assert found == {
        ("high", "head"): (0.5, 2, 1, 2),
        ("high", "tail"): (0.25, 2, 1, 2),
        ("low", "head"): (0.25, 1, 1, 1),
        ("low", "tail"): (None, 0, 1, 0),
    }
    # One item, or one user, tells nothing of other items or users.
    assert all(cell.accuracy.low is None for cell in grid.cells)


def test_never_trained_items_are_columns_of_their_own():
    grid = accuracy_grid(Outcomes([0, 1], [0, 4], [1, 0], [*COUNTS, 0], [*PRIORS, 5.0]))
    assert grid.data_groups == ("head", "tail", "cold")
    assert grid.cell("high", "cold").n_targets == 1
    with pytest.raises(ValueError, match="'low' by 'mid'"):
        grid.cell("low", "mid")


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([2, 3]))
def test_cells_partition_targets_and_items(seed, n_groups):
    outcomes = PlantedWorld(n_items=60, n_users=20, n_targets=100, mean_count=3).draw(seed).outcomes
    grid = accuracy_grid(outcomes, n_groups=n_groups, n_resamples=20)
    assert sum(cell.n_targets for cell in grid.cells) == outcomes.n_targets
    assert sum(cell.n_items for cell in grid.cells) == outcomes.n_items
    mean = sum(cell.n_targets * (cell.accuracy.value or 0) for cell in grid.cells) / outcomes.n_targets
    assert mean == pytest.approx(outcomes.accuracy.mean())
    assert len(grid.cells) == n_groups * len(grid.data_groups)


def test_table_has_a_row_per_cell_and_three_by_three_has_nine():
    grid = accuracy_grid(PlantedWorld().draw(0).outcomes, n_groups=3, n_resamples=20)
    table = grid.table()
    assert table.height == 9
    assert table.schema["low"] == pl.Float64
    assert grid.as_dict()["cells"][0]["accuracy"]["value"] == table["accuracy"][0]
    # The planted effects of both sides are positive, so the corners differ by far.
    assert grid.cell("high", "head").accuracy.low > grid.cell("low", "tail").accuracy.high


def test_intervals_of_cells_cover_95_times_in_100():
    # No side has an effect, so every cell's truth is the overall mean; items and users vary.
    world = PlantedWorld(
        n_items=300, n_users=200, n_targets=2000, data_effect=0, prior_effect=0, zipf_exponent=0.3
    )
    draws = [world.draw(seed).outcomes for seed in range(100)]
    truth = np.mean([o.accuracy.mean() for o in draws])
    covered = [
        cell.accuracy.low <= truth <= cell.accuracy.high
        for seed, o in enumerate(draws)
        for cell in accuracy_grid(o, n_resamples=100, seed=seed).cells
    ]
    # 400 cells in groups of four that share users: at worst 100 independent ones, of which one standard
    # deviation is 2.2 points; in fact nearer to 400 and 1.1. Three of the mean of these two.
    assert abs(np.mean(covered) - 0.95) < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"), [({"n_groups": 4}, "got 4"), ({"n_resamples": 3}, "got 3")]
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        accuracy_grid(Outcomes([0], [0], [1], COUNTS, PRIORS), **arguments)


def test_a_cell_in_which_nothing_is_hit_has_a_value_and_no_interval():
    rng = np.random.default_rng(0)
    items = rng.integers(0, 40, 400)
    counts = np.arange(40, 0, -1)
    accuracy = np.where(items < 20, rng.random(400), 0.0)  # the tail is never hit
    outcomes = Outcomes(rng.integers(0, 100, 400), items, accuracy, counts, rng.random(40))
    grid = accuracy_grid(outcomes, n_resamples=20)
    for prior_group in grid.prior_groups:
        assert grid.cell(prior_group, "tail").accuracy == Uncertain(0.0)
        assert grid.cell(prior_group, "head").accuracy.low is not None
