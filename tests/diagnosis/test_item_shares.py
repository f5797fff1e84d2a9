"""Item-level shares of the two sides."""

from dataclasses import replace

import numpy as np
import pytest

from tailwise.diagnosis._item_shares import item_shares
from tailwise.diagnosis._outcomes import Outcomes
from tailwise.diagnosis._planted import PlantedWorld


def planted(**effects: float):
    world = replace(PlantedWorld(n_items=300, n_users=600, n_targets=6000), **effects)
    return world.draw(seed=1).outcomes


def test_effects_and_mean_add_up_to_the_prediction():
    outcomes = planted()
    found = item_shares(outcomes)
    np.testing.assert_allclose(found.mean + found.data + found.prior, found.predicted, atol=1e-12)
    assert found.mean == pytest.approx(outcomes.accuracy.mean())


def test_predictions_average_to_the_mean_over_targets():
    # Least squares with a constant: residuals of the targets sum to zero.
    outcomes = planted()
    found = item_shares(outcomes)
    assert found.predicted[outcomes.items].mean() == pytest.approx(found.mean, abs=1e-9)


def test_where_only_the_log_matters_its_effect_follows_counts_and_the_priors_is_small():
    outcomes = planted(data_effect=0.8, prior_effect=0.0, correlation=0.0)
    found = item_shares(outcomes)
    kept = np.unique(outcomes.items)
    assert np.corrcoef(found.data[kept], np.log1p(outcomes.counts[kept]))[0, 1] > 0.9
    assert found.prior[outcomes.items].std() < 0.25 * found.data[outcomes.items].std()


def test_where_only_the_prior_matters_the_roles_are_exchanged():
    outcomes = planted(data_effect=0.0, prior_effect=0.8, correlation=0.0, reliability=1.0)
    found = item_shares(outcomes)
    assert found.data[outcomes.items].std() < 0.25 * found.prior[outcomes.items].std()


def test_an_item_beyond_those_with_targets_is_taken_for_one_at_the_edge_and_flagged():
    rng = np.random.default_rng(0)
    counts = np.r_[rng.integers(2, 50, 40), 10_000, 0]
    priors = np.r_[rng.standard_normal((40, 2)), np.zeros((2, 2))]
    items = rng.integers(0, 40, 400)
    outcomes = Outcomes(rng.integers(0, 30, 400), items, rng.random(400), counts, priors)
    found = item_shares(outcomes)
    assert found.is_extrapolated[[40, 41]].all()
    assert not found.is_extrapolated[np.unique(items)].any()
    edge = int(np.argmax(np.where(np.bincount(items, minlength=42) > 0, counts, -1)))
    same = Outcomes(outcomes.users, items, outcomes.accuracy, np.r_[counts[:40], counts[edge], 0], priors)
    assert found.predicted[40] == pytest.approx(item_shares(same).predicted[40], rel=0.05)
