from dataclasses import replace

import numpy as np
import pytest

from tailwise.diagnosis import PlantedWorld

WORLD = PlantedWorld()


def test_same_seed_draws_the_same_shop_and_another_another():
    first, second, other = (WORLD.draw(seed).outcomes for seed in (1, 1, 2))
    assert np.array_equal(first.accuracy, second.accuracy)
    assert not np.array_equal(first.counts, other.counts)


def test_prior_correlates_with_log_counts_as_planted():
    planted = replace(WORLD, n_items=20_000, n_targets=10, correlation=0.6).draw(0)
    found = np.corrcoef(planted.true_prior, np.log1p(planted.outcomes.counts))[0, 1]
    assert found == pytest.approx(0.6, abs=0.02)  # three standard errors of 20,000 items


def test_truth_of_a_linear_world_without_correlation_is_near_its_effects():
    # Small log-odds effects act nearly linearly, so shares are those of their squares: 9, 4 and 4 of 17.
    world = replace(
        WORLD, base=0.0, data_effect=0.3, prior_effect=0.2, item_noise=0.2, correlation=0.0, zipf_exponent=0.5
    )
    truth = world.truth(weigh="items")
    assert truth["prior"] == pytest.approx(4 / 17, abs=0.02)  # the logistic bends, counts are skewed
    assert truth["data"] == pytest.approx(9 / 17, abs=0.05)
    assert truth["interaction"] == pytest.approx(0.0, abs=0.01)


def test_without_an_effect_a_side_explains_nothing_beyond_the_other():
    assert replace(WORLD, prior_effect=0.0).truth()["prior_alone"] == pytest.approx(0.0, abs=1e-12)
    truth = replace(WORLD, data_effect=0.0).truth()
    # The prior's conditional mean is taken in 400 bins, each with a spread of its own.
    assert truth["data_alone"] == pytest.approx(0.0, abs=0.005)


@pytest.mark.parametrize(
    ("changed", "message"), [({"correlation": 1.0}, "got 1.0"), ({"reliability": 0}, "got 0")]
)
def test_impossible_worlds_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        replace(WORLD, **changed)
