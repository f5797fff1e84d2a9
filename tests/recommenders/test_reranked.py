import numpy as np
import pytest
import torch

from tailwise.recommenders import MostPopular, PopularityPenalised

COUNTS = np.array([9, 3, 0])


def test_scores_are_lowered_by_the_penalty_per_log_count():
    popular = MostPopular(COUNTS)
    penalised = PopularityPenalised(popular, torch.from_numpy(COUNTS), 2.0)
    assert penalised.n_items == 3
    lowered = popular.scores([[], [1]]) - penalised.scores([[], [1]])
    np.testing.assert_allclose(lowered, np.tile(2 * np.log1p(COUNTS), (2, 1)), rtol=1e-6)


def test_no_penalty_changes_nothing():
    popular = MostPopular(COUNTS)
    same = PopularityPenalised(popular, torch.from_numpy(COUNTS), 0.0)
    assert torch.equal(same.scores([[0]]), popular.scores([[0]]))


def test_a_penalty_below_zero_and_counts_of_another_catalogue_are_refused():
    popular = MostPopular(COUNTS)
    with pytest.raises(ValueError, match=r"penalty must be a finite number >= 0; got -0.1"):
        PopularityPenalised(popular, torch.from_numpy(COUNTS), -0.1)
    with pytest.raises(ValueError, match=r"counts must be one per item, 3; got shape \(2,\)"):
        PopularityPenalised(popular, torch.ones(2), 0.1)
