import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import DataError
from tailwise.evaluation import UNRANKED, evaluate_variant, rank_targets
from tailwise.evaluation._rank_targets import competitors_by_comparing, competitors_by_sorting
from tailwise.segments import segment_items

from .builders import rank


@st.composite
def small_cases(draw):
    """Integer scores with many ties, a history and some targets for each of a few users."""
    n_users, n_items = draw(st.integers(1, 6)), draw(st.integers(2, 8))
    item = st.integers(0, n_items - 1)
    scores = [draw(st.lists(st.integers(-3, 3), min_size=n_items, max_size=n_items)) for _ in range(n_users)]
    histories = [draw(st.lists(item, max_size=3)) for _ in range(n_users)]
    targets = [draw(st.lists(item, max_size=3, unique=True)) for _ in range(n_users)]
    targets[0] = targets[0] or [0]
    return np.array(scores, dtype=np.float32), targets, histories


@given(small_cases(), st.booleans(), st.integers(1, 4))
@settings(deadline=None)
def test_better_and_tied_items_equal_a_count_by_hand(case, exclude_seen, batch_size):
    scores, targets, histories = case
    rankings = rank(scores, targets, histories, exclude_seen=exclude_seen, batch_size=batch_size)
    rows = iter(rankings.targets.rows())
    for user, items in enumerate(targets):
        seen = set(histories[user]) if exclude_seen else set()
        others = [i for i in range(scores.shape[1]) if i not in seen]
        for item in sorted(items):
            own = scores[user, item]
            better = sum(scores[user, i] > own for i in others)
            tied = sum(scores[user, i] == own for i in others if i != item)
            expected = (UNRANKED, 0) if item in seen else (better, tied)
            assert next(rows) == (user, item, *expected)


@given(small_cases(), st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(deadline=None)
def test_sorted_scores_tell_of_competitors_what_comparing_all_does(case, odd):
    scores, targets, histories = case
    scores[:, 0] *= -0.0  # as good as 0.0
    scores[:, -1] = odd
    for user, seen in enumerate(histories):
        scores[user, seen] = -np.inf
    rows = np.repeat(np.arange(len(targets)), [len(items) for items in targets])
    items = np.concatenate([np.array(items, dtype=np.int64) for items in targets])
    sorted_, compared = (
        competitors_by_sorting(scores, rows, items),
        competitors_by_comparing(torch.from_numpy(scores), rows, items),
    )
    np.testing.assert_array_equal(sorted_, compared)


@given(small_cases(), st.booleans(), st.integers(1, 10))
@settings(deadline=None)
def test_list_holds_the_best_unseen_items_in_falling_order(case, exclude_seen, length):
    scores, targets, histories = case
    rankings = rank(scores, targets, histories, exclude_seen=exclude_seen, list_length=length)
    for user, items in enumerate(rankings.lists["items"].to_list()):
        unseen = [i for i in range(scores.shape[1]) if not (exclude_seen and i in histories[user])]
        best = sorted((scores[user, i] for i in unseen), reverse=True)[:length]
        assert [scores[user, i] for i in items] == best
        assert len(set(items)) == len(items)
        assert set(items) <= set(unseen)


@given(small_cases(), st.randoms())
@settings(max_examples=25, deadline=None)
def test_rankings_do_not_depend_on_user_order_or_batch_size(case, random):
    scores, targets, histories = case
    order = list(range(len(targets)))
    random.shuffle(order)
    first = rank(scores, targets, histories)
    second = rank(
        scores[order], [targets[u] for u in order], [histories[u] for u in order], users=order, batch_size=2
    )
    assert first.targets.equals(second.targets)
    assert first.lists.equals(second.lists)


@given(small_cases())
@settings(max_examples=25, deadline=None)
def test_rankings_and_metrics_are_invariant_to_a_rising_transform_of_the_scores(case):
    scores, targets, histories = case
    first = rank(scores, targets, histories, list_length=5)
    second = rank(2 * scores**3 + 7, targets, histories, list_length=5)  # exact in float32 for -3..3
    assert first.targets.equals(second.targets)
    assert first.lists.equals(second.lists)
    segments = segment_items(np.arange(scores.shape[1]))
    results = [evaluate_variant(r, segments, ks=(2, 5), decile_k=5, n_resamples=10) for r in (first, second)]
    assert results[0] == results[1]


def test_other_targets_of_the_user_compete():
    rankings = rank([[3, 2, 1]], [[0, 1, 2]])
    assert rankings.targets["n_better"].to_list() == [0, 1, 2]


def test_ties_in_lists_spread_evenly_over_items_and_do_not_follow_the_item_index():
    n_users, n_items, length = 3000, 12, 3
    rankings = rank(np.zeros((n_users, n_items)), [[] for _ in range(n_users)], list_length=length)
    slots = np.bincount(np.concatenate(rankings.lists["items"].to_list()), minlength=n_items)
    # each item is in a list with probability 1/4: 750 of 3,000, standard deviation 24; five of them
    assert np.abs(slots - 750).max() < 5 * 24


def test_seed_changes_the_order_of_ties_only():
    first, second = (rank([[1, 1, 1, 1, 1, 5]], [[0]], seed=s, list_length=4) for s in (0, 1))
    assert first.targets.equals(second.targets)
    assert first.lists["items"][0][0] == second.lists["items"][0][0] == 5
    assert first.lists["items"].to_list() != second.lists["items"].to_list()


def test_minus_infinity_means_never_recommended():
    rankings = rank([[1.0, -np.inf, 0.5, -np.inf]], [[1, 2]], list_length=4)
    assert rankings.targets.rows() == [(0, 1, UNRANKED, 0), (0, 2, 1, 0)]
    assert rankings.lists["items"].to_list() == [[0, 2]]


def test_seen_items_are_recorded_once_each():
    rankings = rank([[1, 2, 3]], [[2]], histories=[[1, 0, 1]])
    assert rankings.lists["seen"].to_list() == [[0, 1]]
    assert rankings.lists["items"].to_list() == [[2]]


def test_scores_may_be_a_half_precision_tensor_and_are_left_untouched():
    scores = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.bfloat16)
    rankings = rank_targets(lambda h: scores, [[2]], [0, 1], [0], n_items=3)
    assert rankings.targets["n_better"].to_list() == [1]
    assert scores.tolist() == [[1.0, 2.0, 3.0]]


def test_read_only_arrays_of_a_table_are_accepted():
    table = pl.DataFrame({"item": [2, 1], "user": [5, 3]})
    scores = np.array([[1.0, 2.0, 3.0]] * 2)
    scores.flags.writeable = False
    items, users = table["item"].to_numpy(), table["user"].to_numpy()
    rankings = rank_targets(
        lambda h: scores, [items[:1], items[:0]], [0, 1, 2], items, n_items=3, users=users
    )
    assert rankings.targets.rows() == [(3, 1, 1, 0), (5, 2, UNRANKED, 0)]


def test_progress_reports_users_done():
    calls = []
    rank(np.zeros((5, 3)), [[0]] * 5, batch_size=2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(2, 5), (4, 5), (5, 5)]


def test_no_users_give_empty_tables():
    rankings = rank(np.zeros((0, 4)), [])
    assert rankings.n_users == rankings.targets.height == 0


def test_nan_scores_name_the_user_and_count():
    scores = np.zeros((3, 4))
    scores[1, 2:] = np.nan
    scores[2, 0] = np.inf
    with pytest.raises(DataError, match=r"2 NaN and 0 \+inf among the 4 scores of user_index 8\.\n  2 of 3"):
        rank(scores, [[0]] * 3, users=[7, 8, 9])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"target_offsets": [0, 2]},
            r"target_offsets must rise from 0 to 1 in 2 steps.*; got .* from 0 to 2",
        ),
        ({"target_items": [4]}, r"target_items must lie in 0\.\.3; got 1 others \(first: 4\)"),
        ({"histories": [[-1]]}, r"histories must lie in 0\.\.3; got 1 others \(first: -1\)"),
        ({"users": [1, 2]}, r"users must be 1 distinct indices.*; got shape \(2,\)"),
        ({"n_items": 5}, r"score_fn must return scores \[1, 5\]; got shape \(1, 4\)"),
        ({"list_length": 0}, "list_length must be at least 1; got 0"),
    ],
)
def test_wrong_argument_is_named_with_its_value(changed, message):
    arguments = {"histories": [[0]], "target_offsets": [0, 1], "target_items": [1], "n_items": 4, **changed}
    with pytest.raises(ValueError, match=message):
        rank_targets(lambda h: np.zeros((1, 4)), **arguments)


def test_repeated_user_is_refused():
    with pytest.raises(ValueError, match="users must be 2 distinct indices"):
        rank(np.zeros((2, 3)), [[0], [1]], users=[5, 5])
