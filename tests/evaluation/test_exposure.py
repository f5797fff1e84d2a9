import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.evaluation import exposure, exposure_deciles
from tailwise.segments import segment_items

from .builders import rank

# Item 0 is head, 1-3 tail, 4 cold. Lists of two: user 0 sees items 0, 1; user 1 sees 0, 4.
SEGMENTS = segment_items(np.array([6, 2, 1, 1, 0]), head_share=0.25)
SCORES = [[5, 4, 3, 2, 1], [5, 1, 2, 3, 4]]
TARGETS = [[0, 1], [0, 2]]


def values(rankings, k=2, segments=SEGMENTS):
    return {(r["metric"], r["segment"]): r["value"] for r in exposure(rankings, segments, k, n_resamples=20)}


@pytest.fixture(scope="module")
def by_hand():
    return values(rank(SCORES, TARGETS))


def test_slot_shares_count_slots_by_segment(by_hand):
    assert [by_hand["slot_share", s] for s in ("head", "tail", "cold")] == [0.5, 0.25, 0.25]


def test_aplt_is_the_mean_share_of_long_tail_items_in_a_list(by_hand):
    assert by_hand["aplt", None] == 0.25  # 1 of 2, then 0 of 2


def test_aclt_is_the_mean_number_of_long_tail_items_in_a_list(by_hand):
    assert by_hand["aclt", None] == 0.5


def test_arp_is_the_mean_count_of_listed_items(by_hand):
    assert by_hand["arp", None] == 3.5  # (6+2)/2 and (6+0)/2


def test_novelty_is_the_mean_self_information_in_bits_with_one_added_to_each_count(by_hand):
    # 10 interactions + 5 items = 15; counts 6, 2, 6, 0 plus one
    expected = np.mean([np.log2(15 / 7), np.log2(15 / 3), np.log2(15 / 7), np.log2(15 / 1)])
    assert by_hand["novelty", None] == pytest.approx(expected)  # logarithms round


def test_coverage_counts_distinct_items_overall_and_per_segment(by_hand):
    assert by_hand["coverage", None] == pytest.approx(3 / 5)
    assert by_hand["coverage", "head"] == 1.0
    assert by_hand["coverage", "tail"] == pytest.approx(1 / 3)
    assert by_hand["coverage", "cold"] == 1.0


def test_gini_of_exposure_counts_items_that_are_never_shown(by_hand):
    # slots 0, 0, 1, 1, 2: (-4·0 - 2·0 + 0·1 + 2·1 + 4·2) / (5 · 4)
    assert by_hand["gini", None] == pytest.approx(0.5)


def test_pop_rsp_is_the_spread_of_recommendation_rates_of_trained_segments(by_hand):
    # head 2 of 2 pairs, tail 1 of 6: mean 7/12, deviation 5/12
    assert by_hand["pop_rsp", None] == pytest.approx(5 / 7)


def test_pop_rsp_leaves_seen_items_out_of_what_could_be_recommended():
    # user 1 saw item 2: tail pairs are 3 + 2, so the rate is 1 in 5: mean 3/5, deviation 2/5
    rankings = rank(SCORES, [[0, 1], [0]], histories=[[], [2]])
    assert values(rankings)["pop_rsp", None] == pytest.approx(2 / 3)


def test_pop_reo_is_the_spread_of_recall_over_trained_segments(by_hand):
    # head recall 1, tail recall 1/2: mean 3/4, deviation 1/4
    assert by_hand["pop_reo", None] == pytest.approx(1 / 3)


def test_pop_reo_is_left_out_without_targets_in_two_segments():
    assert ("pop_reo", None) not in values(rank(SCORES, [[0], [0]]))


def test_coverage_and_gini_have_no_interval_and_means_over_users_do():
    rows = exposure(rank(SCORES, TARGETS), SEGMENTS, 2, n_resamples=50)
    for row in rows:
        bounded = row["metric"] not in ("coverage", "gini")
        assert (row["low"] is not None) is bounded, row
        assert (row["high"] is not None) is bounded, row


def test_lists_shorter_than_k_are_averaged_over_their_own_length():
    scores = np.array([[5.0, 4.0, 3.0, 2.0, 1.0], [5.0, -np.inf, -np.inf, -np.inf, -np.inf]])
    result = values(rank(scores, TARGETS))
    assert result["aplt", None] == 0.25  # 1 of 2, then 0 of 1
    assert result["slot_share", "tail"] == pytest.approx(1 / 3)
    assert result["arp", None] == 5.0  # (6+2)/2 and 6


def test_users_without_any_slot_are_left_out():
    scores = np.array([[5.0, 4.0, 3.0, 2.0, 1.0], [-np.inf] * 5])
    result = values(rank(scores, TARGETS))
    assert result["arp", None] == 4.0
    assert result["coverage", None] == pytest.approx(2 / 5)


def test_value_with_two_seeds_is_their_mean():
    seeds = [rank(SCORES, TARGETS), rank(SCORES[::-1], TARGETS), rank([SCORES[0]] * 2, TARGETS)]
    assert values(seeds)["coverage", None] == pytest.approx((3 + 3 + 2) / 15)
    assert values(seeds)["arp", None] == pytest.approx((3.5 + 3.5 + 4) / 3)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_slot_shares_and_decile_shares_each_sum_to_one(seed, k):
    rng = np.random.default_rng(seed)
    segments = segment_items(np.append(rng.integers(0, 5, 11), 1), "quantiles", n_groups=4)
    rankings = rank(rng.integers(0, 3, (7, 12)), [[0]] * 7, histories=[[1]] * 7, list_length=6)
    shares = [v for (metric, _), v in values(rankings, k, segments).items() if metric == "slot_share"]
    assert sum(shares) == pytest.approx(1)  # a handful of quotients of whole numbers
    deciles = exposure_deciles(rankings, segments, k)
    assert sum(row["slot_share"] for row in deciles) == pytest.approx(1)
    assert sum(row["n_items"] for row in deciles) == 12
    assert sum(row["interaction_share"] for row in deciles) == pytest.approx(1)


def test_decile_rows_hold_the_slots_of_their_items():
    segments = segment_items(np.arange(11))  # item 10 is decile 1, item 1 decile 10, item 0 cold
    rows = exposure_deciles(rank([np.arange(11)], [[]]), segments, k=4)
    assert [row["decile"] for row in rows] == list(range(1, 12))
    assert [row["slot_share"] for row in rows] == [0.25] * 4 + [0.0] * 7
    assert rows[0]["interaction_share"] == pytest.approx(10 / 55)
    assert rows[10]["n_items"] == 1


def test_k_beyond_the_stored_lists_is_refused():
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.2, the stored list length; got \[3\]"):
        exposure(rank(SCORES, TARGETS, list_length=2), SEGMENTS, 3)
