import itertools

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, R, nDCG

from tailwise.errors import DataError
from tailwise.evaluation import METRICS, accuracy, mean_ndcg, target_values
from tailwise.segments import segment_items

from .builders import rank


def test_ndcg_of_one_hit_at_rank_three_is_one_half():
    # 1 / log2(3 + 1)
    assert target_values(rank([[9, 8, 7, 6]], [[2]]), "ndcg", k=10).tolist() == [0.5]


def test_mrr_of_one_hit_at_rank_four_is_one_quarter():
    assert target_values(rank([[9, 8, 7, 6]], [[3]]), "mrr", k=10).tolist() == [0.25]


def test_hit_beyond_k_earns_nothing():
    for metric in METRICS:
        assert target_values(rank([[9, 8, 7, 6]], [[3]]), metric, k=3).tolist() == [0.0]


def test_recall_of_four_tied_items_at_two_is_one_half():
    assert target_values(rank([[1, 1, 1, 1]], [[0]]), "recall", k=2).tolist() == [0.5]


def test_target_that_cannot_be_recommended_misses_even_if_k_exceeds_the_catalogue():
    assert target_values(rank([[3, 2, 1]], [[0]], histories=[[0]]), "recall", k=50).tolist() == [0.0]


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=5),
    st.integers(1, 6),
    st.sampled_from(sorted(METRICS)),
)
@settings(max_examples=60, deadline=None)
def test_tied_score_expectation_equals_enumeration_of_all_orders(scores, k, metric):
    gain = {"recall": lambda r: 1.0, "ndcg": lambda r: 1 / np.log2(r + 1), "mrr": lambda r: 1 / r}[metric]
    values = []
    for order in itertools.permutations(range(len(scores))):
        ranked = sorted(order, key=lambda i: -scores[i])  # stable: ties keep the permutation's order
        place = ranked.index(0) + 1
        values.append(gain(place) if place <= k else 0.0)
    # means of at most 120 doubles in 0..1: rounding stays below 1e-12
    assert target_values(rank([scores], [[0]]), metric, k)[0] == pytest.approx(np.mean(values), abs=1e-12)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_metrics_without_ties_agree_with_ir_measures(k):
    rng = np.random.default_rng(7)
    n_users, n_items = 30, 40
    scores = np.stack([rng.permutation(n_items) for _ in range(n_users)])
    rankings = rank(scores, [[int(rng.integers(n_items))] for _ in range(n_users)])
    users, items = rankings.targets["user_index"].to_list(), rankings.targets["item_index"].to_list()
    qrels = [ir_measures.Qrel(str(u), str(i), 1) for u, i in zip(users, items, strict=True)]
    run = [ir_measures.ScoredDoc(str(u), str(i), float(scores[u, i])) for u in users for i in range(n_items)]
    for metric, theirs in (("ndcg", nDCG @ k), ("recall", R @ k), ("mrr", RR @ k)):
        expected = {m.query_id: m.value for m in ir_measures.iter_calc([theirs], qrels, run)}
        # one gain per target in doubles on both sides: they differ by a rounding at most
        assert target_values(rankings, metric, k) == pytest.approx(
            [expected[str(u)] for u in users], abs=1e-12
        )


def test_each_segment_averages_over_its_own_targets():
    segments = segment_items(np.array([9, 2, 1, 0]), head_share=0.34)  # item 0 head; 1, 2 tail; 3 cold
    rankings = rank([[4, 3, 2, 1], [4, 3, 2, 1]], [[0, 1], [2, 3]])  # ranks 1, 2, 3, 4
    rows = accuracy(rankings, segments, ks=(10,), metrics=("mrr",), n_resamples=20)
    assert [(r["segment"], r["n_targets"], r["n_users"]) for r in rows] == [
        ("overall", 4, 2),
        ("head", 1, 1),
        ("tail", 2, 2),
        ("cold", 1, 1),
    ]
    # sums of a few doubles of order one
    assert [r["value"] for r in rows] == pytest.approx([(1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, 1, 5 / 12, 1 / 4])
    assert rows[1]["low"] is None  # one user says nothing about other users
    assert rows[2]["low"] == pytest.approx(1 / 3)
    assert rows[2]["high"] == pytest.approx(1 / 2)


def test_segment_without_targets_has_no_rows():
    segments = segment_items(np.array([9, 2, 1, 0]), head_share=0.34)
    rows = accuracy(rank([[4, 3, 2, 1]], [[0]]), segments, ks=(5,), n_resamples=5)
    assert {r["segment"] for r in rows} == {"overall", "head"}


def test_value_with_two_seeds_is_their_mean():
    segments = segment_items(np.array([3, 2, 1]))
    seeds = [rank([[3, 2, 1]], [[0]]), rank([[2, 3, 1]], [[0]])]
    row = accuracy(seeds, segments, ks=(5,), metrics=("mrr",), n_resamples=5)[0]
    assert row["value"] == 0.75
    assert row["n_targets"] == 1


def test_seeds_with_other_targets_are_refused():
    segments = segment_items(np.array([3, 2, 1]))
    with pytest.raises(DataError, match="rankings must hold the same users and targets"):
        accuracy([rank([[3, 2, 1]], [[0]]), rank([[3, 2, 1]], [[1]])], segments)


def test_segments_of_another_catalogue_are_refused():
    with pytest.raises(DataError, match="segments must cover the ranked catalogue of 3 items; got 2"):
        accuracy(rank([[3, 2, 1]], [[0]]), segment_items(np.array([2, 1])))


def test_mean_ndcg_averages_over_targets():
    # ranks 1 and 3: (1 + 1/2) / 2, exact in binary
    assert mean_ndcg(rank([[3, 2, 1]], [[0, 2]]), k=10) == 0.75


def test_mean_ndcg_of_no_targets_is_an_error():
    with pytest.raises(DataError, match="at least one target; got 0 for 1 users"):
        mean_ndcg(rank([[3, 2, 1]], [[]]))


def test_unknown_metric_is_named():
    with pytest.raises(ValueError, match="metric must be one of recall, ndcg, mrr; got 'map'"):
        target_values(rank([[3, 2, 1]], [[0]]), "map", 5)


def test_k_below_one_is_refused():
    with pytest.raises(ValueError, match="k must be at least 1; got 0"):
        target_values(rank([[3, 2, 1]], [[0]]), "ndcg", 0)
