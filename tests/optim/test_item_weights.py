import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.optim import WEIGHT_SCHEMES, item_weights

counts_of_catalogues = st.lists(st.integers(0, 10_000), min_size=1, max_size=40).filter(any)
schemes = st.sampled_from(sorted(WEIGHT_SCHEMES))
gammas = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 7.5])
many = settings(max_examples=60, deadline=None, derandomize=True)


def zipf_counts(n_items):
    return (10_000 / torch.arange(1, n_items + 1)).ceil().to(torch.int64)


def test_power_weights_of_a_hand_worked_catalogue():
    # The median of the positive counts (1, 4, 16) is 4: sqrt(4/16) = 1/2, the rest is capped at 1.
    weights = item_weights(torch.tensor([16, 4, 1, 0]), "power", gamma=0.5)
    assert weights.tolist() == [0.5, 1.0, 1.0, 1.0]


def test_power_weights_follow_the_reference_quantile():
    # Quantile 1 is the largest count: nothing is more popular than the reference.
    counts = torch.tensor([16, 4, 1])
    assert item_weights(counts, "power", reference_quantile=1.0).tolist() == [1.0, 1.0, 1.0]


def test_rank_weights_of_a_hand_worked_catalogue():
    # Ranks 1, (2+3)/2, (2+3)/2, 4 of four trained items: (r - 1/2)/4, squared.
    weights = item_weights(torch.tensor([9, 5, 5, 2, 0]), "rank", gamma=2.0)
    assert weights.tolist() == [0.125**2, 0.5**2, 0.5**2, 0.875**2, 1.0]


def test_focal_max_weights_of_a_hand_worked_catalogue():
    weights = item_weights(torch.tensor([8, 4, 2, 0]), "focal-max", gamma=2.0)
    assert weights.tolist() == [0.0, 0.25, 0.5625, 1.0]


def test_effective_number_weights_of_a_hand_worked_catalogue():
    # beta = 1/2: (1/2) / (1 - 1/2), (1/2) / (1 - 1/4), (1/2) / (1 - 1/8).
    weights = item_weights(torch.tensor([1, 2, 3, 0]), "effective-number", beta=0.5)
    assert torch.allclose(weights, torch.tensor([1.0, 2 / 3, 4 / 7, 1.0]))


def test_effective_number_weight_of_a_decayed_count_below_one_is_one():
    assert item_weights(torch.tensor([0.25, 4.0]), "effective-number")[0].item() == 1.0


def test_step_weights_of_a_hand_worked_catalogue():
    # A fifth of five trained items is one head item; the unseen sixth is not trained.
    weights = item_weights(torch.tensor([50, 40, 30, 20, 10, 0]), "step", head_share=0.2)
    assert weights.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_step_weights_put_a_tied_group_at_the_cut_into_the_tail():
    weights = item_weights(torch.tensor([50, 40, 40, 20, 10]), "step", head_share=0.4)
    assert weights.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("scheme", ["power", "rank", "focal-max"])
def test_zero_gamma_weighs_all_items_alike(scheme):
    assert item_weights(torch.tensor([90, 5, 5, 1, 0]), scheme, gamma=0.0).tolist() == [1.0] * 5


@many
@given(counts_of_catalogues, schemes, gammas)
def test_weights_are_in_the_unit_interval_and_never_rise_with_the_count(counts, scheme, gamma):
    counts = torch.tensor(counts)
    weights = item_weights(counts, scheme, gamma=gamma)
    assert weights.dtype == torch.float32
    assert bool(((weights >= 0) & (weights <= 1)).all())
    in_order = weights[counts.argsort(stable=True)]
    assert bool((in_order.diff() <= 0).all())


@many
@given(counts_of_catalogues, schemes, gammas)
def test_equal_counts_get_equal_weights_and_unseen_items_get_one(counts, scheme, gamma):
    weights = item_weights(torch.tensor(counts + counts + [0]), scheme, gamma=gamma).tolist()
    assert weights[: len(counts)] == weights[len(counts) : -1]
    assert all(w == 1.0 for w, n in zip(weights, [*counts, *counts, 0], strict=True) if n == 0)


@many
@given(st.data(), counts_of_catalogues, schemes, gammas)
def test_permuting_the_items_permutes_the_weights(data, counts, scheme, gamma):
    order = torch.tensor(data.draw(st.permutations(range(len(counts)))))
    counts = torch.tensor(counts)
    weights = item_weights(counts, scheme, gamma=gamma)
    assert torch.equal(item_weights(counts[order], scheme, gamma=gamma), weights[order])


def test_weights_relative_to_the_total_barely_tell_items_of_a_large_catalogue_apart():
    """Why the schemes are normalised to the catalogue.

    The most popular of 5,000 Zipf items holds 1/H_5000 = 1/9.09, 11 % of all interactions: Focal-SAM's
    ``(1 - n_i/N) ** gamma`` at its usual gamma below 1 stays above 0.9 for every item, close to SAM.
    """
    counts = zipf_counts(5_000)
    focal_sam = (1 - counts / counts.sum()) ** 0.8
    assert focal_sam.min() > 0.9
    assert item_weights(counts, "rank").min() < 0.01
    assert item_weights(counts, "focal-max", gamma=0.8).min() < 0.01


@pytest.mark.parametrize(
    ("counts", "arguments", "message"),
    [
        ([1], {"scheme": "inverse"}, r"scheme must be one of power, .*; got 'inverse'"),
        ([[1, 2]], {}, r"counts must be a vector .*; got shape \(1, 2\)"),
        ([3, -2], {}, r"counts must be finite and >= 0; got a smallest value of -2"),
        ([3.0, float("nan")], {}, r"counts must be finite .*; got .* nan"),
        ([3.0, float("inf")], {}, r"counts must be finite"),
        ([0, 0], {}, r"counts must have a positive entry; got zeros"),
        ([1], {"gamma": -0.5}, r"gamma must be .*; got -0.5"),
        ([1], {"gamma": float("nan")}, r"gamma must be .*; got nan"),
        ([1], {"scheme": "power", "reference_quantile": 0.0}, r"reference_quantile must be .*; got 0.0"),
        ([1], {"scheme": "effective-number", "beta": 1.0}, r"beta must be .*; got 1.0"),
        ([1], {"scheme": "step", "head_share": 20}, r"head_share must be .*; got 20"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name_and_value(counts, arguments, message):
    with pytest.raises(ValueError, match=message):
        item_weights(torch.tensor(counts), **arguments)
