import math

import pytest
import torch
from torch.nn import functional as F

from tailwise.optim import ERM, logit_offsets


def test_offsets_of_a_hand_worked_catalogue():
    # log(0+1) = 0, log(3+1) = 2 log 2, log(7+1) = 3 log 2; tau = 1/2.
    offsets = logit_offsets(torch.tensor([0, 3, 7]), tau=0.5)
    assert offsets.dtype == torch.float32
    assert torch.allclose(offsets, torch.tensor([0.0, math.log(2), 1.5 * math.log(2)]))


def test_zero_tau_changes_nothing():
    assert logit_offsets(torch.tensor([5, 0, 1000]), tau=0.0).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("tau", [-0.1, float("nan"), float("inf")])
def test_tau_out_of_range_is_refused(tau):
    with pytest.raises(ValueError, match=f"tau must be .*; got {tau}"):
        logit_offsets(torch.tensor([1]), tau)


@pytest.mark.parametrize("count", [-3.0, float("nan"), float("inf")])
def test_count_out_of_range_is_refused(count):
    with pytest.raises(ValueError, match=f"counts must be .*got .*{count}"):
        logit_offsets(torch.tensor([1.0, count]), 1.0)


@pytest.mark.parametrize("tau", [0.0, 0.4, 1.0])
def test_training_with_offsets_takes_the_share_tau_of_popularity_out_of_the_scores(tau):
    """A softmax over biases alone is fitted best by ``bias + tau log(n+1) = log n + const``.

    So the scores without the offsets copy popularity at ``tau=0`` and lose its slope at ``tau=1``.
    """
    counts = torch.tensor([128, 64, 32, 16, 8, 4])
    targets = torch.arange(6).repeat_interleave(counts)
    offsets = logit_offsets(counts, tau)
    bias = torch.nn.Parameter(torch.zeros(6))
    optimizer = ERM([bias], torch.optim.Adam, lr=0.1)
    for _ in range(200):
        optimizer.step(
            lambda rows: F.cross_entropy(
                (bias + offsets).expand(len(rows), -1), targets[rows], reduction="none"
            ),
            targets,
        )
    scores = bias.detach() - bias.detach().mean()
    expected = counts.log() - tau * torch.log1p(counts.float())
    assert torch.allclose(scores, expected - expected.mean(), atol=0.01)  # Adam's last steps are 0.001
