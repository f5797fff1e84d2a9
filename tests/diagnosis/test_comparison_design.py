import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tailwise.diagnosis._comparison_design import comparison_pairs, sample_by_count


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 80), st.sampled_from([2, 4, 10]), st.integers(0, 1000))
def test_pairs_are_different_and_connect_all_items(n_items, per_item, seed):
    pairs = comparison_pairs(n_items, per_item=per_item, seed=seed)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs)
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(n_items, n_items))
    assert connected_components(graph, directed=False)[0] == 1
    assert np.bincount(pairs.ravel(), minlength=n_items).max() <= per_item


def test_items_are_in_about_ten_pairs_and_as_often_first_as_second():
    pairs = comparison_pairs(300)
    degree = np.bincount(pairs.ravel())
    assert degree.mean() > 9.5  # a pair that two of five cycles share counts once
    assert degree.min() >= 6
    # 1,500 tosses of a coin: one standard error of the share is 0.013.
    order = np.sort(pairs, axis=1)
    assert np.mean(pairs[:, 0] == order[:, 0]) == pytest.approx(0.5, abs=0.05)


def test_the_seed_decides_the_pairs():
    assert np.array_equal(comparison_pairs(30, seed=1), comparison_pairs(30, seed=1))
    assert not np.array_equal(comparison_pairs(30, seed=1), comparison_pairs(30, seed=2))


@pytest.mark.parametrize("per_item", [0, 3, -2])
def test_a_number_of_partners_that_cycles_cannot_give_is_refused(per_item):
    with pytest.raises(ValueError, match=f"per_item must be even and >= 2; got {per_item}"):
        comparison_pairs(10, per_item=per_item)
    with pytest.raises(ValueError, match="n_items must be >= 2; got 1"):
        comparison_pairs(1)


def test_the_sample_has_as_much_head_as_tail():
    rng = np.random.default_rng(0)
    counts = rng.zipf(1.5, 5000).clip(max=1000)
    sample = sample_by_count(counts, 300)
    assert len(set(sample.tolist())) == 300
    assert (np.diff(sample) > 0).all()
    # Five of ten strata lie above, and give half of the sample, as far as they have items.
    top = np.log1p(counts) > np.log1p(counts).max() * 0.5
    assert top.mean() < 0.15
    assert top[sample].mean() > 0.45


def test_small_strata_are_taken_whole_and_the_others_give_the_rest():
    counts = [0] * 50 + [10] * 3 + [100] * 2
    sample = sample_by_count(counts, 20)
    assert sample[-5:].tolist() == [50, 51, 52, 53, 54]
    assert len(sample) == 20


def test_a_small_catalogue_is_taken_whole_and_equal_counts_are_no_obstacle():
    assert sample_by_count([5, 1, 3], 10).tolist() == [0, 1, 2]
    assert len(set(sample_by_count([4] * 40, 12).tolist())) == 12
