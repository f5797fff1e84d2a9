from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailwise.recommenders import SequenceBatch, SequenceBatches


def batches_of(lengths: list[int], **settings: int) -> SequenceBatches:
    """Histories of distinct numbers: user u has 1000u, 1000u+1, ...: a target names its place."""
    histories = [1000 * u + np.arange(length) for u, length in enumerate(lengths)]
    return SequenceBatches(histories, **{"max_length": 10, "positions_per_batch": 40, "seed": 0} | settings)  # type: ignore[arg-type]


def pairs(batches: list[SequenceBatch]) -> Counter[tuple[int, int]]:
    """(input item, target item) of every target of an epoch."""
    found: Counter[tuple[int, int]] = Counter()
    for batch in batches:
        there = batch.targets >= 0
        found.update(zip(batch.inputs[there].tolist(), batch.targets[there].tolist(), strict=True))
    return found


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=30).filter(lambda found: max(found) >= 2),
    max_length=st.integers(1, 12),
    epoch=st.integers(0, 3),
)
def test_every_target_comes_once_per_epoch_after_the_item_before_it(lengths, max_length, epoch):
    batches = batches_of(lengths, max_length=max_length)
    expected = Counter(
        (1000 * u + i, 1000 * u + i + 1) for u, length in enumerate(lengths) for i in range(length - 1)
    )
    assert pairs(batches.epoch(epoch)) == expected
    assert batches.n_targets == expected.total()


@given(lengths=st.lists(st.integers(2, 80), min_size=1, max_size=30), max_length=st.integers(1, 12))
def test_no_batch_holds_more_positions_than_the_limit_and_no_row_more_than_its_own(lengths, max_length):
    for batch in batches_of(lengths, max_length=max_length, positions_per_batch=24).epoch(0):
        assert batch.inputs.numel() <= 24
        assert batch.inputs.shape[1] <= max_length
        assert batch.inputs.shape == batch.targets.shape


def test_windows_of_one_history_overlap_by_one_item():
    windows = []
    for batch in batches_of([35]).epoch(0):
        for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
            n = int((targets >= 0).sum())
            windows.append([*inputs[:n].tolist(), int(targets[n - 1])])
    windows.sort()
    assert len(windows) >= 4  # 34 targets, at most ten in each
    assert all(before[-1] == after[0] for before, after in pairwise(windows))
    assert (windows[0][0], windows[-1][-1]) == (0, 34)


def test_rows_are_padded_on_the_right_with_targets_of_minus_one():
    (batch,) = batches_of([2, 4], positions_per_batch=40).epoch(0)
    by_length = sorted(batch.targets.tolist(), key=lambda row: row.count(-1))
    assert by_length == [[1001, 1002, 1003], [1, -1, -1]]


def test_batches_are_a_function_of_seed_and_epoch_alone():
    lengths = [3, 50, 7, 22, 9, 31]
    batches = batches_of(lengths)
    first, again = batches.epoch(2), batches_of(lengths).epoch(2)  # the latter without epochs 0 and 1
    assert len(first) == len(again)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
    flat = [[batch.inputs.tolist() for batch in b.epoch(e)] for b, e in
            ((batches, 2), (batches, 3), (batches_of(lengths, seed=1), 2))]  # fmt: skip
    assert flat[0] != flat[1]
    assert flat[0] != flat[2]


def test_cuts_fall_elsewhere_in_another_epoch():
    # So that a target is seen with long and with short context over time.
    def first_items(epoch: int) -> set[int]:
        return {int(row[0]) for batch in batches_of([200]).epoch(epoch) for row in batch.inputs}

    assert first_items(0) != first_items(1)


def weighted(lengths: list[int], weights: list[float], **settings: int) -> SequenceBatches:
    histories = [1000 * u + np.arange(length) for u, length in enumerate(lengths)]
    return SequenceBatches(
        histories,
        **{"max_length": 10, "positions_per_batch": 40, "seed": 0} | settings,  # type: ignore[arg-type]
        history_weights=np.array(weights),
    )


def appearances(batches: SequenceBatches, epoch: int) -> list[int]:
    """How often each user's first pair of items comes in an epoch."""
    found = pairs(batches.epoch(epoch))
    return [found[1000 * u, 1000 * u + 1] for u in range(4)]


@given(
    raw=st.lists(st.floats(0, 9), min_size=4, max_size=4).filter(lambda found: sum(found) > 0.1),
    epoch=st.integers(0, 5),
)
def test_a_history_appears_as_often_as_its_weight_rounded_down_or_up(raw, epoch):
    weights = (np.array(raw) / np.mean(raw)).tolist()
    for n, weight in zip(appearances(weighted([2, 5, 9, 11], weights), epoch), weights, strict=True):
        assert weight - 1 < n < weight + 1


def test_over_epochs_a_history_appears_in_proportion_to_its_weight():
    weights = [0.25, 2.5, 0.0, 1.25]
    batches = weighted([2, 5, 9, 3], weights)
    n_epochs = 800
    mean = np.mean([appearances(batches, epoch) for epoch in range(n_epochs)], axis=0)
    # Standard error of a share of 1/2 over 800 epochs: 0.018. Four of them.
    assert mean == pytest.approx(weights, abs=0.07)
    assert mean[2] == 0


def test_every_appearance_of_a_history_is_cut_anew():
    batches = weighted([200, 2, 2, 2], [4.0, 0.0, 0.0, 0.0])
    firsts = Counter(int(row[0]) for batch in batches.epoch(0) for row in batch.inputs)
    assert firsts[0] == 4
    assert max(n for item, n in firsts.items() if item) < 4


def test_weighted_batches_are_a_function_of_seed_and_epoch_alone():
    lengths, weights = [3, 50, 7, 22], [0.4, 1.7, 0.7, 1.2]
    batches = weighted(lengths, weights)
    first, again = batches.epoch(2), weighted(lengths, weights).epoch(2)
    assert [b.inputs.tolist() for b in first] == [b.inputs.tolist() for b in again]
    assert [b.inputs.tolist() for b in first] != [b.inputs.tolist() for b in batches.epoch(3)]


def test_without_weights_the_batches_are_what_they_always_were():
    # Recorded before there were weights: trainings of earlier versions can be repeated.
    found = [
        batch.inputs.tolist()
        for batch in batches_of([3, 14, 5], max_length=6, positions_per_batch=12).epoch(1)
    ]
    assert found == [
        [[1000, 1001, 1002, 1003], [1010, 1011, 1012, 0], [0, 1, 0, 0]],
        [[1004, 1005, 1006, 1007, 1008, 1009], [2000, 2001, 2002, 2003, 0, 0]],
    ]


def test_weights_count_for_histories_that_hold_a_target():
    batches = weighted([1, 4, 0, 6], [7.0, 0.5, 9.0, 1.5])  # mean 1 over the second and the last
    assert appearances(batches, 0)[0] == 0
    assert batches.n_targets == 8


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 1.0], r"history_weights must have one entry per history, shape \(3,\); got \(2,\)"),
        ([1.0, -1.0, 3.0], r"history_weights must be finite and >= 0; got -1.0 for history 1 \(1 in all\)"),
        ([np.nan, np.inf, 1.0], r"history_weights .*; got nan for history 0 \(2 in all\)"),
        ([1.0, 1.0, 1.5], "history_weights must have mean 1 .*; got 1.16667. Divide them by it"),
    ],
)
def test_weights_out_of_range_are_refused_by_name_and_value(weights, message):
    with pytest.raises(ValueError, match=message):
        weighted([3, 4, 5], weights)


def test_padding_is_under_a_tenth_on_skewed_lengths():
    # Log-normal lengths, as shops have them; dealt out at random, half of it would be padding.
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(2.5, 1.0, 2000), 2, 400).astype(int).tolist()
    batches = batches_of(lengths, max_length=100, positions_per_batch=800).epoch(0)
    positions = sum(batch.inputs.numel() for batch in batches)
    assert 1 - sum(batch.n_targets for batch in batches) / positions < 0.1


def test_rows_of_a_batch_can_be_taken_apart():
    (batch,) = batches_of([2, 4], positions_per_batch=40).epoch(0)
    part = batch.rows(torch.tensor([1]))
    assert torch.equal(part.targets, batch.targets[1:])
    assert batch.rows(torch.arange(2)) is batch


@pytest.mark.parametrize(
    ("lengths", "settings", "message"),
    [
        ([5], {"max_length": 0}, "max_length must be >= 1; got 0"),
        ([5], {"positions_per_batch": 9}, r"positions_per_batch must be at least max_length \(10\); got 9"),
        ([1, 0], {}, "histories must hold a target; got 2 histories of fewer than two items"),
        ([], {}, "histories must hold a target; got 0"),
    ],
)
def test_limits_out_of_range_are_refused_by_name_and_value(lengths, settings, message):
    with pytest.raises(ValueError, match=message):
        batches_of(lengths, **settings)
