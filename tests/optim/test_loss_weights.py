import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.optim import ERM, loss_weights, row_sampling_weights

from .builders import COUNTS, ITEMS, TinyRecommender

# Loss weights

SCHEMES = [("inverse", {"power": 1.0}), ("inverse", {"power": 0.5}), ("effective-number", {"beta": 0.99})]


def mean_over_interactions(counts, weights):
    return float((counts.double() * weights.double()).sum() / counts.double().sum())


def test_inverse_weights_worked_by_hand():
    # 8 and 2 interactions: 1/8 and 1/2 raw, of mean (1 + 1)/10 over interactions.
    assert loss_weights(torch.tensor([8, 2])).tolist() == [0.625, 2.5]


def test_square_root_weights_worked_by_hand():
    # 16 and 4 interactions: 1/4 and 1/2 raw, of mean (4 + 2)/20 over interactions.
    weights = loss_weights(torch.tensor([16, 4]), power=0.5)
    assert weights.tolist() == pytest.approx([5 / 6, 5 / 3], rel=1e-7)  # float32


def test_effective_number_weights_worked_by_hand():
    # beta 1/2: 2 and 1 interactions are effectively 1.5 and 1; the mean of 1/1.5 and 1 is 7/9.
    weights = loss_weights(torch.tensor([2, 1]), "effective-number", beta=0.5)
    assert weights.tolist() == pytest.approx([6 / 7, 9 / 7], rel=1e-7)  # float32


def test_effective_number_weights_near_beta_one_are_inverse_weights():
    # E_n = n − (1−β) n(n−1)/2 + …, so that 100 interactions differ by 5e-7 at this beta.
    counts = torch.tensor([100, 10, 1])
    near = loss_weights(counts, "effective-number", beta=1 - 1e-8)
    assert near.tolist() == pytest.approx(loss_weights(counts).tolist(), rel=1e-6)


@pytest.mark.parametrize(("scheme", "arguments"), SCHEMES)
def test_rarer_items_weigh_more_and_never_trained_ones_most(scheme, arguments):
    weights = loss_weights(torch.tensor([100, 30, 30, 2, 0]), scheme, **arguments)
    assert weights[0] < weights[1] == weights[2] < weights[3] == weights[4]


def test_no_power_changes_nothing():
    assert loss_weights(COUNTS, power=0.0).tolist() == [1.0] * len(COUNTS)


def test_the_limit_and_the_mean_hold_at_once_worked_by_hand():
    # 8, 2 and 1 interactions, raw 1/8, 1/2, 1: without a limit 11/24, 11/6, 11/3. At most 1.5:
    # the two rarer are capped and leave 11 - 4.5 for the eight of the first.
    weights = loss_weights(torch.tensor([8, 2, 1]), max_weight=1.5)
    assert weights.tolist() == [6.5 / 8, 1.5, 1.5]


@pytest.mark.parametrize("scheme", ["inverse", "effective-number"])
@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 10_000), min_size=1, max_size=30).filter(any),
    limit=st.none() | st.floats(1, 50),
)
def test_the_mean_over_interactions_is_one_and_the_limit_is_kept(scheme, counts, limit):
    counts = torch.tensor(counts)
    weights = loss_weights(counts, scheme, max_weight=limit)
    assert mean_over_interactions(counts, weights) == pytest.approx(1, rel=1e-6)  # float32 weights
    assert (weights > 0).all()
    assert weights.max() <= (math.inf if limit is None else limit * (1 + 1e-6))
    assert (counts.diff() * weights.diff() <= 1e-6).all()  # never heavier for being more popular


def test_a_limit_of_one_gives_every_trained_item_weight_one():
    weights = loss_weights(torch.tensor([1000, 10, 1, 0]), max_weight=1.0)
    assert weights.tolist() == pytest.approx([1.0] * 4, rel=1e-6)  # float32


def test_weighted_losses_train_with_the_rate_of_the_plain_ones():
    """In a batch that holds every interaction once, the mean weight is 1."""
    items = torch.repeat_interleave(torch.arange(7), COUNTS)
    weights = loss_weights(COUNTS)
    assert weights[items].mean().item() == pytest.approx(1, rel=1e-6)  # float32
    model = TinyRecommender()
    loss = ERM(model.parameters(), torch.optim.SGD, lr=0.1).compute_gradient(
        lambda rows: model.losses(rows) * loss_weights(COUNTS)[ITEMS[rows].clamp_min(0)], ITEMS
    )
    by_hand = (model.losses(torch.arange(6)) * weights[ITEMS.clamp_min(0)])[ITEMS >= 0].mean()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scheme": "cubic"}, r"scheme must be one of inverse, effective-number; got 'cubic'"),
        ({"power": -1.0}, r"power must be .*; got -1.0"),
        ({"power": math.nan}, r"power must be .*; got nan"),
        ({"scheme": "effective-number", "beta": 1.0}, r"beta must be in \(0, 1\); got 1.0"),
        ({"max_weight": 0.5}, r"max_weight must be >= 1.*; got 0.5"),
        ({"max_weight": math.nan}, r"max_weight must be >= 1.*; got nan"),
        ({"counts": torch.zeros(3)}, r"counts must have a positive entry; got zeros only"),
        ({"counts": torch.tensor([1, -2])}, r"counts must be finite and >= 0; got .* -2.0"),
        ({"counts": torch.ones(2, 2)}, r"counts must be a vector .*; got shape \(2, 2\)"),
    ],
)
def test_loss_weights_out_of_range_are_refused_by_name_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        loss_weights(**{"counts": COUNTS} | arguments)


# Row weights


def test_row_weights_worked_by_hand():
    # Item 0 has 100 interactions, item 1 has 4: 1/10 and 1/2. Rows: 1/10, (1/10 + 1/2)/2 = 3/10, none, 1/2.
    rows = torch.tensor([[0, 0], [0, 1], [-1, -1], [1, -1]])
    weights = row_sampling_weights(rows, torch.tensor([100, 4]), power=0.5)
    assert weights.tolist() == pytest.approx([1 / 3, 1.0, 0.0, 5 / 3], rel=1e-7)  # float32


def test_full_inverse_sampling_of_single_targets_draws_every_item_equally_often():
    items = torch.repeat_interleave(torch.arange(6), COUNTS[:6])
    weights = row_sampling_weights(items, COUNTS, power=1.0)
    per_item = torch.zeros(6).index_add_(0, items, weights)
    assert per_item.tolist() == pytest.approx([100 / 6] * 6, rel=1e-5)  # float32 sums of up to 40 terms


def test_square_root_sampling_of_single_targets_draws_items_by_the_root_of_their_counts():
    items = torch.repeat_interleave(torch.arange(6), COUNTS[:6])
    per_item = torch.zeros(6).index_add_(0, items, row_sampling_weights(items, COUNTS, power=0.5))
    expected = COUNTS[:6].sqrt() / COUNTS[:6].sqrt().sum() * 100
    assert per_item.tolist() == pytest.approx(expected.tolist(), rel=1e-5)  # float32 sums of up to 40 terms


def test_no_power_draws_every_row_equally_often():
    assert row_sampling_weights(ITEMS, COUNTS, power=0.0).tolist() == [1.0, 1.0, 1.0, 1.0, 0.0, 1.0]


def test_ragged_rows_weigh_what_padded_ones_do():
    ragged = [row[row >= 0] for row in ITEMS]
    assert torch.equal(row_sampling_weights(ragged, COUNTS), row_sampling_weights(ITEMS, COUNTS))


def test_the_mean_over_rows_with_a_target_is_one():
    weights = row_sampling_weights(ITEMS, COUNTS, power=0.7)
    assert weights[weights > 0].mean().item() == pytest.approx(1, rel=1e-6)  # float32


def test_a_weighted_sampler_takes_them():
    rows = torch.tensor([0] * 99 + [1])
    weights = row_sampling_weights(rows, torch.tensor([99, 1]), power=1.0)
    sampler = torch.utils.data.WeightedRandomSampler(weights, 4000)
    share = sum(row == 99 for row in sampler) / 4000
    assert share == pytest.approx(0.5, abs=0.04)  # five standard errors of a fair coin


@pytest.mark.parametrize(
    ("rows", "counts", "message"),
    [
        (torch.tensor([[-1, -1]]), COUNTS, r"rows_of_items must name a target .*; got none"),
        (torch.empty(0, 3, dtype=torch.int64), COUNTS, r"rows_of_items must name a target .*; got none"),
        ([], COUNTS, r"rows_of_items must name a target .*; got none"),
        (torch.tensor([9]), COUNTS, r"rows_of_items must be below 7, the length of counts; got 9"),
        (
            torch.tensor([0, 6, 6]),
            COUNTS,
            r"counts must be positive .*; got 0 for 2 targets \(first: item 6\)",
        ),
        (torch.tensor([0]), -COUNTS, r"counts must be finite and >= 0; got .* -40.0"),
    ],
)
def test_rows_that_cannot_be_weighed_are_refused(rows, counts, message):
    with pytest.raises(ValueError, match=message):
        row_sampling_weights(rows, counts)


def test_a_row_power_out_of_range_is_refused_by_name_and_value():
    with pytest.raises(ValueError, match=r"power must be .*; got -0.5"):
        row_sampling_weights(ITEMS, COUNTS, power=-0.5)
