import itertools
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import DataError
from tailwise.segments import RULES, PopularityWindow, popularity_deciles, segment_items

counts_with_one_trained_item = st.lists(st.integers(0, 30), min_size=1, max_size=60).filter(any)
rules_without_labels = st.sampled_from(
    [
        ("head-share", {"head_share": 0.2}),
        ("head-share", {"head_share": 0.5}),
        ("interaction-share", {"interaction_share": 0.8}),
        ("quantiles", {"n_groups": 3}),
        ("quantiles", {"n_groups": 7}),
        ("absolute-counts", {"thresholds": (5, 20)}),
    ]
)


def names_of(segments):
    return [segments.names[label] for label in segments.labels]


@given(counts_with_one_trained_item, rules_without_labels)
@settings(deadline=None)
def test_segments_partition_the_catalogue(counts, rule):
    segments = segment_items(np.array(counts), rule[0], **rule[1])
    assert sum(segments.mask(name).astype(int) for name in segments.names).tolist() == [1] * len(counts)
    assert sum(segments.n_items_in(name) for name in segments.names) == segments.n_items == len(counts)
    assert segments.mask("cold").tolist() == [count == 0 for count in counts]


@given(counts_with_one_trained_item, rules_without_labels)
@settings(deadline=None)
def test_equal_counts_share_a_segment_and_more_popular_items_are_never_further_tailwards(counts, rule):
    segments = segment_items(np.array(counts), rule[0], **rule[1])
    pairs = sorted(zip(counts, segments.labels.tolist(), strict=True))
    for (count, label), (next_count, next_label) in itertools.pairwise(pairs):
        assert next_label == label if next_count == count else next_label <= label


@given(counts_with_one_trained_item, st.floats(0.01, 0.99))
@settings(deadline=None)
def test_head_never_holds_more_items_than_its_share(counts, share):
    counts = np.array(counts)
    segments = segment_items(counts, head_share=share)
    # 1e-6 forgives the rounding of share * n_trained; the share is a float, the count is whole.
    assert segments.n_items_in("head") <= share * np.count_nonzero(counts) + 1e-6


def test_head_share_takes_the_top_fifth_of_trained_items():
    counts = np.array([0, 9, 8, 7, 6, 5, 4, 3, 2, 1, 10])  # ten trained items
    segments = segment_items(counts)
    assert segments.names == ("head", "tail", "cold")
    assert np.flatnonzero(segments.mask("head")).tolist() == [1, 10]
    assert segments.n_items_in("tail") == 8
    assert segments.n_items_in("cold") == 1


def test_group_tied_at_the_cut_goes_to_the_tail():
    # two of ten may be head, but the second place is shared by three items
    segments = segment_items(np.array([9, 5, 5, 5, 4, 3, 2, 2, 1, 1]))
    assert np.flatnonzero(segments.mask("head")).tolist() == [0]


def test_share_that_is_whole_only_in_decimal_is_not_rounded_down():
    # 0.29 * 100 is 28.999999999999996 as a float
    assert segment_items(np.arange(1, 101), head_share=0.29).n_items_in("head") == 29


def test_catalogue_of_equals_has_no_head_and_says_so_in_the_log(caplog):
    with caplog.at_level(logging.WARNING):
        segments = segment_items(np.array([3, 3, 3, 3, 3]))
    assert segments.n_items_in("head") == 0
    assert "leaves these segments empty: head" in caplog.text


def test_interaction_share_takes_the_fewest_items_that_reach_it():
    counts = np.array([40, 30, 15, 8, 5, 2])  # cumulative shares .40 .70 .85 .93 .98 1
    assert segment_items(counts, "interaction-share", interaction_share=0.7).n_items_in("head") == 2
    assert segment_items(counts, "interaction-share", interaction_share=0.71).n_items_in("head") == 3
    assert segment_items(counts, "interaction-share").n_items_in("head") == 3


def test_interaction_share_leaves_a_tied_group_out_of_the_head():
    # 50 of 100 is reached with one item of the tied pair, so neither is head
    segments = segment_items(np.array([30, 20, 20, 10, 10, 10]), "interaction-share", interaction_share=0.5)
    assert np.flatnonzero(segments.mask("head")).tolist() == [0]


def test_three_quantile_groups_are_head_mid_and_tail():
    segments = segment_items(np.array([6, 5, 4, 3, 2, 1]), "quantiles")
    assert names_of(segments) == ["head", "head", "mid", "mid", "tail", "tail"]


def test_four_quantile_groups_are_numbered_from_the_head():
    segments = segment_items(np.array([1, 2, 3, 4]), "quantiles", n_groups=4)
    assert segments.names == ("q1", "q2", "q3", "q4", "cold")
    assert names_of(segments) == ["q4", "q3", "q2", "q1"]


def test_absolute_counts_cut_above_each_threshold():
    segments = segment_items(np.array([21, 20, 6, 5, 1, 0]), "absolute-counts")
    assert names_of(segments) == ["head", "mid", "mid", "tail", "tail", "cold"]
    assert segments.parameters == {"thresholds": [5, 20]}


def test_column_orders_segments_by_mean_count_and_keeps_never_trained_items_apart():
    labels = ["niche", "hits", "niche", "hits"]
    segments = segment_items(np.array([1, 9, 0, 7]), "column", labels=labels, column="shelf")
    assert segments.names == ("hits", "niche", "cold")
    assert names_of(segments) == ["niche", "hits", "cold", "hits"]
    assert segments.parameters == {"column": "shelf", "order": ["hits", "niche"]}


def test_column_follows_a_given_order():
    segments = segment_items(np.array([1, 9]), "column", labels=["a", "b"], order=["a", "b", "c"])
    assert segments.names == ("a", "b", "c", "cold")
    assert segments.n_items_in("c") == 0


def test_trained_items_outside_the_window_are_tail_and_not_cold():
    window = PopularityWindow(last_days=7)
    segments = segment_items(np.array([5, 4, 0, 0]), head_share=0.5, trained=[1, 1, 1, 0], window=window)
    assert names_of(segments) == ["head", "tail", "tail", "cold"]
    assert segments.as_dict()["popularity_window"] == {"last_days": 7, "start": None, "end": None}


def test_segments_object_reports_shares_and_held_out_rows():
    segments = segment_items(np.array([6, 2, 1, 1, 0]), head_share=0.25)
    assert segments.as_dict(test_targets=[0, 0, 3, 4]) == {
        "rule": "head-share",
        "parameters": {"head_share": 0.25},
        "popularity_window": None,
        "segments": [
            {
                "name": "head",
                "n_items": 1,
                "n_training_interactions": 6,
                "item_share": 0.2,
                "interaction_share": 0.6,
                "n_test_targets": 2,
            },
            {
                "name": "tail",
                "n_items": 3,
                "n_training_interactions": 4,
                "item_share": 0.6,
                "interaction_share": 0.4,
                "n_test_targets": 1,
            },
            {
                "name": "cold",
                "n_items": 1,
                "n_training_interactions": 0,
                "item_share": 0.2,
                "interaction_share": 0.0,
                "n_test_targets": 1,
            },
        ],
    }


def test_deciles_cut_trained_items_into_tenths_with_cold_as_the_eleventh():
    deciles = popularity_deciles(np.concatenate([[0, 0], np.arange(1, 21)]))
    assert deciles.tolist() == [11, 11] + [d for d in range(10, 0, -1) for _ in range(2)]


def test_long_tie_at_the_bottom_fills_the_last_decile():
    deciles = popularity_deciles(np.array([9, 8, 7, 6, 5] + [1] * 5))
    assert deciles.tolist() == [1, 2, 3, 4, 5] + [10] * 5


def test_percent_for_fraction_is_answered_with_the_fraction():
    with pytest.raises(
        ValueError, match=r"head_share must be a fraction in \(0, 1\); got 20\.\n.*write 0\.2"
    ):
        segment_items(np.array([1, 2]), head_share=20)


@pytest.mark.parametrize(
    ("rule", "parameters", "message"),
    [
        ("pareto", {}, "rule must be one of head-share, .*; got 'pareto'"),
        ("head-share", {"tail_share": 0.8}, "must be among head_share; got 'tail_share'"),
        ("interaction-share", {"interaction_share": 1.0}, r"interaction_share must be .*; got 1\.0"),
        ("quantiles", {"n_groups": 1}, "n_groups must be a whole number from 2 to 100; got 1"),
        ("absolute-counts", {"thresholds": (20, 5)}, r"thresholds must be .* rising order; got \[20, 5\]"),
        ("column", {"labels": ["a"]}, "labels must name a segment for each of 2 items; got 1"),
        ("column", {"labels": ["a", "cold"]}, "labels must not use the name 'cold'"),
        ("column", {"labels": ["a", "b"], "order": ["a"]}, r"order must name each label .* without \['b'\]"),
    ],
)
def test_wrong_rule_or_parameter_is_named_with_its_value(rule, parameters, message):
    with pytest.raises(ValueError, match=message):
        segment_items(np.array([1, 2]), rule, **parameters)


def test_trained_item_without_a_label_is_counted():
    with pytest.raises(DataError, match="1 of 2 trained items have no label in column 'segment'"):
        segment_items(np.array([1, 2, 0]), "column", labels=["a", None, None])


def test_catalogue_without_any_training_interaction_is_refused():
    with pytest.raises(DataError, match="counts must hold a trained item; got 3 items"):
        segment_items(np.zeros(3, dtype=np.int64))


def test_negative_count_names_the_item():
    with pytest.raises(ValueError, match="counts must be >= 0; got -2 for item 1"):
        segment_items(np.array([1, -2]))


def test_unknown_segment_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="segment must be one of overall, head, tail, cold; got 'mid'"):
        segment_items(np.array([3, 1])).mask("mid")


def test_every_rule_runs_with_its_defaults_and_records_its_name():
    for rule in RULES:
        extra = {"labels": list("aabb")} if rule == "column" else {}
        assert segment_items(np.array([30, 10, 2, 1]), rule, **extra).rule == rule
