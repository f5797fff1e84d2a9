import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tailwise.recommenders import ItemKNN, MostPopular, Recommender, recommend

# ann: 0 1; bob: 0 1 2; cat: 2. Item 3 was never bought.
HISTORIES = [np.array([0, 1]), np.array([0, 1, 2]), np.array([2])]
_HALF = 1 / math.sqrt(2 * 2)  # cosine of items 0 (ann, bob) and 2 (bob, cat): one user of two and two


def test_item_knn_sums_cosines_worked_by_hand():
    scores = ItemKNN(HISTORIES, 4).scores([[0], [0, 2], []])
    expected = [[1, 1, _HALF, 0], [1 + _HALF, 1 + _HALF, 1 + _HALF, 0], [0, 0, 0, 0]]
    assert_close(scores, torch.tensor(expected))  # float32 sums of exact halves


def test_item_knn_counts_who_bought_not_how_often():
    repeated = [np.array([0, 1, 1, 1]), np.array([0, 0, 1, 2]), np.array([2])]
    assert torch.equal(ItemKNN(repeated, 4).scores([[0]]), ItemKNN(HISTORIES, 4).scores([[0]]))
    assert torch.equal(ItemKNN(HISTORIES, 4).scores([[0, 0]]), ItemKNN(HISTORIES, 4).scores([[0]]))


def test_item_knn_refuses_no_neighbours():
    with pytest.raises(ValueError, match="n_neighbours must be >= 1; got 0"):
        ItemKNN(HISTORIES, 4, n_neighbours=0)


def test_most_popular_scores_by_count_whatever_the_history():
    model = MostPopular(np.array([3, 9, 0]))
    assert model.n_items == 3
    assert model.scores([[0], []]).tolist() == [[3, 9, 0], [3, 9, 0]]


def test_references_keep_the_protocol():
    assert isinstance(MostPopular(np.array([1])), Recommender)
    assert isinstance(ItemKNN(HISTORIES, 4), Recommender)


def test_recommended_are_the_best_unseen_items_and_ties_come_in_index_order():
    model = MostPopular(np.array([5, 9, 5, 5, 1]))
    assert recommend(model, [[1], [0, 3], []], k=3) == [[0, 2, 3], [1, 2, 4], [1, 0, 2]]


def test_seen_items_stay_when_asked_for():
    assert recommend(MostPopular(np.array([5, 9])), [[1]], k=1, exclude_seen=False) == [[1]]


def test_a_list_is_shorter_where_fewer_items_are_unseen():
    assert recommend(MostPopular(np.array([5, 9, 2])), [[0, 1], [2, 0, 1]], k=3) == [[2], []]


@pytest.mark.parametrize("k", [0, 4])
def test_a_list_length_outside_the_catalogue_is_refused(k):
    with pytest.raises(ValueError, match=rf"k must be in 1\.\.3, the size of the catalogue; got {k}"):
        recommend(MostPopular(np.array([5, 9, 2])), [[0]], k=k)


def test_recommending_leaves_the_scores_of_the_recommender_alone():
    kept = torch.tensor([[1.0, 2.0, 3.0]])

    class Cached:
        n_items = 3

        def scores(self, histories):
            return kept

    assert recommend(Cached(), [[2]], k=2) == [[1, 0]]
    assert kept.tolist() == [[1.0, 2.0, 3.0]]
