import json

import numpy as np
import pytest

from tailwise.evaluation import METRICS, UNRANKED, accuracy, evaluate_variant, exposure
from tailwise.segments import segment_items

from .builders import hits_and_misses, rank

SEGMENTS = segment_items(np.array([20, 9, 7, 3, 2, 2, 1, 1, 0, 0]))


def example(seed=0, n_users=40):
    rng = np.random.default_rng(seed)
    targets = [[u % 10, (u + 3) % 10] for u in range(n_users)]
    return rank(
        rng.integers(0, 6, (n_users, 10)), targets, histories=[[(u + 1) % 10] for u in range(n_users)]
    )


@pytest.fixture(scope="module")
def result():
    return evaluate_variant([example(0), example(1)], SEGMENTS, ks=(5, 10), n_resamples=200)


def test_result_of_a_variant_is_plain_json_with_the_documented_fields(result):
    assert json.loads(json.dumps(result)) == result
    assert set(result["accuracy"][0]) == {
        "segment",
        "metric",
        "k",
        "value",
        "low",
        "high",
        "n_targets",
        "n_users",
    }
    assert set(result["exposure"][0]) == {"metric", "k", "segment", "value", "low", "high"}
    deciles = {"decile", "n_items", "slot_share", "interaction_share", "k"}
    assert set(result["exposure_deciles"][0]) == deciles


def test_result_states_the_segment_rule(result):
    assert result["segment_rule"] == "head-share"
    assert result["segment_parameters"] == {"head_share": 0.2}


def test_every_metric_has_a_row_at_every_k_in_every_segment(result):
    rows = {(r["segment"], r["metric"], r["k"]) for r in result["accuracy"]}
    assert rows == {(s, m, k) for s in ("overall", "head", "tail", "cold") for m in METRICS for k in (5, 10)}
    assert len(result["accuracy"]) == len(rows)


def test_accuracy_intervals_enclose_the_value(result):
    for row in result["accuracy"]:
        assert row["low"] <= row["value"] <= row["high"], row


def test_evaluate_variant_agrees_with_accuracy_and_exposure_alone(result):
    alone = accuracy([example(0), example(1)], SEGMENTS, ks=(5, 10), n_resamples=200)
    assert [r["value"] for r in alone] == [r["value"] for r in result["accuracy"]]
    assert [r["low"] for r in alone] == pytest.approx([r["low"] for r in result["accuracy"]])
    rows = [r for k in (5, 10) for r in exposure([example(0), example(1)], SEGMENTS, k, n_resamples=200)]
    key = ("metric", "k", "segment")
    assert [[r[f] for f in key] for r in rows] == [[r[f] for f in key] for r in result["exposure"]]
    # the same resamples in a matrix product of another width: equal up to the order of summation
    for field in ("value", "low", "high"):
        assert [r[field] for r in rows] == pytest.approx([r[field] for r in result["exposure"]])


def test_same_seed_gives_the_same_intervals_and_another_seed_others():
    first, again, other = (accuracy(example(), SEGMENTS, n_resamples=50, seed=s) for s in (3, 3, 4))
    assert first == again
    assert first != other


def test_bootstrap_interval_of_a_constant_has_no_width():
    rows = accuracy(
        hits_and_misses([0, 1, 2], [1, 1, 1]), segment_items(np.array([2, 1])), ks=(1,), n_resamples=30
    )
    assert {(r["low"], r["high"]) for r in rows} == {(1.0, 1.0)}


def test_bootstrap_resamples_whole_users_and_not_single_targets():
    # Fifty users hit all of their 20 targets, fifty miss all: only 100 independent cases.
    users = np.repeat(np.arange(100), 20)
    segments = segment_items(np.array([2, 1]))
    row = accuracy(hits_and_misses(users, users % 2), segments, ks=(1,), metrics=("recall",))[0]
    # 2 · 1.96 · sqrt(.25/100) = 0.196 over users, 0.044 if the 2,000 targets were independent;
    # the ends move in steps of 0.01 and 1,000 resamples place them within about one step
    assert row["high"] - row["low"] == pytest.approx(0.196, abs=0.03)


def test_bootstrap_intervals_cover_the_truth_near_95_percent():
    """Users differ in how often they hit and in how many targets they have, and the two go together."""
    rng = np.random.default_rng(11)
    segments = segment_items(np.array([2, 1]))
    rate, size = np.array([0.1, 0.5]), np.array([2, 6])  # two kinds of users, equally frequent
    truth = (rate * size).mean() / size.mean()
    n_simulations, covered = 400, 0
    for simulation in range(n_simulations):
        kind = rng.integers(0, 2, 120)
        users = np.repeat(np.arange(120), size[kind])
        rankings = hits_and_misses(users, rng.random(users.size) < rate[kind][users])
        row = accuracy(rankings, segments, ks=(1,), metrics=("recall",), n_resamples=250, seed=simulation)[0]
        covered += row["low"] <= truth <= row["high"]
    # Binomial(400, .95): standard deviation 0.011, so 0.92..0.98 is about 2.75 of them either way
    assert 0.92 <= covered / n_simulations <= 0.98


def test_target_never_ranked_is_stored_as_unranked():
    assert hits_and_misses([0], [0]).targets["n_better"].to_list() == [UNRANKED]


def test_k_beyond_the_stored_lists_is_refused_before_anything_is_computed():
    with pytest.raises(
        ValueError, match=r"k must lie in 1\.\.50, the stored list length; got \[10, 51, 10\]"
    ):
        evaluate_variant(example(), SEGMENTS, ks=(10, 51))
