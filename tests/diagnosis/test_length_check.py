import json

import numpy as np
import pytest

from tailwise.diagnosis._length_check import check_length, without_length
from tailwise.diagnosis._rank_correlation import rank_correlation


@pytest.fixture(scope="module")
def shop():
    """Fame decides popularity; length is of the title alone, and popular titles are short."""
    rng = np.random.default_rng(0)
    fame = rng.standard_normal(800)
    lengths = np.clip(np.round(8 - 2 * fame + 3 * rng.standard_normal(800)), 1, 30)
    counts = rng.poisson(np.exp(fame + 2))
    return fame, lengths, counts


def test_a_score_that_is_length_alone_loses_its_popularity_when_length_is_given(shop):
    _, lengths, counts = shop
    found = check_length("sum", -2.5 * lengths, lengths, counts, n_resamples=200)
    assert found.spearman_with_length.value == pytest.approx(-1)
    assert found.spearman_with_popularity.value > 0.4  # it passes for knowledge
    assert found.spearman_with_popularity_given_length.value is None  # nothing is left to correlate
    assert not found.is_free_of_length


def test_a_score_of_fame_keeps_its_popularity_when_length_is_given(shop):
    fame, lengths, counts = shop
    rng = np.random.default_rng(1)
    found = check_length("fame", fame + 0.2 * rng.standard_normal(800), lengths, counts, n_resamples=200)
    assert found.spearman_with_popularity_given_length.low > 0.8
    assert found.popularity_with_length.high < -0.3
    assert not found.is_free_of_length  # correlated with length, though not because of it


def test_without_length_removes_a_curve_and_keeps_the_rest(shop):
    _, lengths, _ = shop
    rng = np.random.default_rng(2)
    knowledge = rng.standard_normal(800)
    score = knowledge + 5 / lengths  # a bonus on the first token, shared by all
    assert rank_correlation(score, lengths, n_resamples=0).value < -0.3
    adjusted = without_length(score, lengths)
    assert (
        abs(rank_correlation(adjusted, lengths, n_resamples=0).value) < 0.08
    )  # 800 items: one error is 0.035
    assert np.corrcoef(adjusted, knowledge)[0, 1] > 0.98
    assert adjusted.mean() == pytest.approx(score.mean())


def test_without_length_leaves_unknown_scores_unknown_and_ignores_their_lengths():
    found = without_length([1.0, float("nan"), 3.0, 5.0], [1, 0, 2, 3])
    assert np.isnan(found).tolist() == [False, True, False, False]
    known = without_length([1.0, 3.0, 5.0], [1, 2, 3])
    assert found[[0, 2, 3]] == pytest.approx(known)


def test_titles_of_one_length_are_left_as_they_are():
    assert without_length([1.0, 2.0, 4.0], [5, 5, 5]) == pytest.approx([1.0, 2.0, 4.0])


def test_items_without_a_score_do_not_count_for_popularity_and_length():
    nan = float("nan")
    found = check_length(
        "x", [1, 2, 3, 4, 5, nan, nan], [1, 2, 3, 4, 5, 99, 98], [1, 2, 3, 4, 5, 0, 0], n_resamples=0
    )
    assert found.popularity_with_length.value == pytest.approx(1.0)


def test_a_check_is_plain_json(shop):
    fame, lengths, counts = shop
    found = check_length("fame", fame, lengths, counts, n_resamples=20).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["is_free_of_length"] is False
