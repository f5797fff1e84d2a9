"""The losses, signals and correlations; what they say of real settings is for people to read."""

import math

import numpy as np
import pytest
import torch

import does_over_fitting_tell_where_it_helps as benchmark


class OneKnows:
    """Scores that favour, after a history that ends with item i, the items 0..2 as given."""

    n_items = 3

    def scores(self, histories):
        return torch.tensor([[0.0, 1.0, 2.0] if history[-1] else [2.0, 0.0, 0.0] for history in histories])


def test_training_targets_are_all_items_but_the_first():
    targets = benchmark.training_targets([np.array([4, 5, 6]), np.array([7]), np.array([8, 9])])
    assert targets.items.tolist() == [5, 6, 9]
    assert [before.tolist() for before in targets.histories] == [[4], [4, 5], [8]]
    drawn = targets.drawn(2, seed=0)
    assert len(drawn.items) == 2
    assert all(
        (before.tolist(), item) in [([4], 5), ([4, 5], 6), ([8], 9)]
        for before, item in zip(drawn.histories, drawn.items, strict=True)
    )


def test_losses_are_negative_log_likelihoods_over_the_catalogue():
    targets = benchmark.Targets([np.array([0]), np.array([2]), np.array([1])], np.array([0, 0, 2]))
    losses = benchmark.target_losses(OneKnows(), targets)
    z0, z1 = math.exp(2) + 2, 1 + math.e + math.exp(2)
    np.testing.assert_allclose(losses, [math.log(z0) - 2, math.log(z1), math.log(z1) - 2], rtol=1e-12)
    parts = benchmark.losses_by_part(losses, np.array(["head", "tail", "tail"]))
    assert parts["head"] == pytest.approx(losses[0])
    assert parts["tail"] == pytest.approx(losses[1:].mean())
    assert parts["overall"] == pytest.approx(losses.mean())
    assert math.isnan(benchmark.losses_by_part(losses[:1], np.array(["head"]))["tail"])


def test_correlations_are_exact_over_all_pairings():
    results = [
        {
            "setting": "s",
            "training": {"head": 1.0, "tail": 1.0},
            "validation": {"head": 1.0, "tail": 2.0},
            "gap": float(i),
            "excess": -float(i),
            "gain": {"overall": (i - 2.2) ** 2, "tail": 2.0 * i},
        }
        for i in range(5)
    ]
    found = {(c["signal"], c["gain"]): c for c in benchmark.correlations(results)}
    assert found["gap", "tail"]["spearman"] == pytest.approx(1.0)
    assert found["excess", "tail"]["spearman"] == pytest.approx(-1.0)
    assert found["gap", "tail"]["p"] == pytest.approx(2 / math.factorial(5))
    assert found["gap", "overall"]["p"] > 0.1
    assert "gap against tail: Spearman +1.00, p 0.017, 5 settings" in benchmark.table(results)
    assert math.isnan(benchmark.correlations(results[:2])[0]["p"])
