"""The best items, whatever the size of the spans in which the catalogue is scored."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import DataError
from tailwise.evaluation import TieOrder, rank_targets
from tailwise.recommenders import (
    ItemTokenConfig,
    MostPopular,
    SASRecConfig,
    SpanRecommender,
    build_sasrec,
    recommend,
    top_items,
)

N_ITEMS = 40


class Given:
    """Scores that are given; handed out span by span, and remembered how widely."""

    def __init__(self, scores: torch.Tensor) -> None:
        self.given = scores
        self.n_items = scores.shape[1]
        self.widest = 0

    def scores(self, histories) -> torch.Tensor:
        raise AssertionError("the whole catalogue was scored at once")

    def scores_by_span(self, histories, items_at_once) -> Iterator[tuple[int, torch.Tensor]]:
        for first in range(0, self.n_items, items_at_once):
            span = self.given[:, first : first + items_at_once].clone()
            self.widest = max(self.widest, span.shape[1])
            yield first, span


def tied_scores(seed: int, n_values: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, n_values, (8, N_ITEMS), generator=generator).float()
    scores[torch.rand(8, N_ITEMS, generator=generator) < 0.2] = -torch.inf
    return scores


def some_histories(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, N_ITEMS, rng.integers(0, 30)) for _ in range(8)]


def by_sorting(scores, histories, k, keys) -> list[list[int]]:
    """One full sort per user, in plain Python."""
    lists = []
    for row, (own, history) in enumerate(zip(scores.tolist(), histories, strict=True)):
        left = [i for i in range(N_ITEMS) if i not in set(history.tolist()) and own[i] > -np.inf]
        lists.append(sorted(left, key=lambda i, own=own, row=row: (-own[i], keys[row][i]))[:k])
    return lists


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_values=st.integers(1, 30),
    k=st.integers(1, N_ITEMS),
    items_at_once=st.integers(1, N_ITEMS + 5),
    hashed=st.booleans(),
)
def test_spans_of_any_size_give_the_lists_of_one_full_sort(seed, n_values, k, items_at_once, hashed):
    """Ties within spans, across them and across the list's end; seen items; too long lists."""
    scores, histories = tied_scores(seed, n_values), some_histories(seed)
    users = np.arange(100, 108)
    order = TieOrder(N_ITEMS, seed=0)
    keys = order.keys(users, torch.arange(N_ITEMS)[None, :]).tolist() if hashed else [range(N_ITEMS)] * 8
    items, values = top_items(
        Given(scores), histories, k, keys=order.of(users) if hashed else None, items_at_once=items_at_once
    )
    assert items.shape == values.shape == (8, k)
    found = [[i for i in row if i >= 0] for row in items.tolist()]
    assert found == by_sorting(scores, histories, k, keys)
    listed = items >= 0
    assert torch.equal(values[listed], scores.gather(1, items.clamp_min(0))[listed])
    assert bool((values[~listed] == -torch.inf).all())


def test_lists_by_span_are_those_of_a_runs_measurement():
    scores, histories, users = tied_scores(1, 3), some_histories(1), np.arange(8) * 3
    ranked = rank_targets(
        lambda _: scores, histories, np.zeros(9, np.int64), [], n_items=N_ITEMS, list_length=7, users=users
    )
    items, _ = top_items(
        Given(scores), histories, 7, keys=TieOrder(N_ITEMS, seed=0).of(users), items_at_once=6
    )
    assert [[i for i in row if i >= 0] for row in items.tolist()] == ranked.lists["items"].to_list()


def test_no_more_than_one_span_is_scored_at_once():
    given = Given(tied_scores(0, 5))
    top_items(given, some_histories(0), 3, items_at_once=7)
    assert given.widest == 7


def test_seen_items_stay_when_asked_for():
    scores = torch.arange(N_ITEMS, dtype=torch.float32).expand(1, -1)
    items, _ = top_items(Given(scores), [[39, 38]], 2, exclude_seen=False, items_at_once=9)
    assert items.tolist() == [[39, 38]]


@pytest.fixture(scope="module")
def recommender():
    config = ItemTokenConfig(max_length=5, dropout=0.0)
    return build_sasrec(N_ITEMS, SASRecConfig(8, 1, 2, 0.0), config, seed=0).eval()


HISTORIES = [[3, 1, 4], [], [1, 5, 9], list(range(12)), [7]]


@pytest.mark.parametrize("items_at_once", [1, 7, 40, 100])
def test_spans_of_a_recommender_side_by_side_are_its_scores(recommender, items_at_once):
    assert isinstance(recommender, SpanRecommender)
    spans = list(recommender.scores_by_span(HISTORIES, items_at_once))
    assert [first for first, _ in spans] == list(range(0, N_ITEMS, items_at_once))
    whole = recommender.scores(HISTORIES)
    # Matrix products of another width may add in another order: a few units in the last place.
    torch.testing.assert_close(torch.cat([s for _, s in spans], 1), whole, rtol=1e-5, atol=1e-6)
    if items_at_once >= N_ITEMS:
        assert torch.equal(spans[0][1], whole)


@pytest.mark.parametrize("items_at_once", [1, 7, 40])
def test_a_recommenders_lists_are_the_same_in_spans(recommender, items_at_once):
    items, _ = top_items(recommender, HISTORIES, 10, items_at_once=items_at_once)
    assert items.tolist() == recommend(recommender, HISTORIES, 10)


def test_a_recommender_without_spans_is_scored_whole():
    counts = np.arange(N_ITEMS)
    items, scores = top_items(MostPopular(counts), [[39], []], 2, items_at_once=3)
    assert items.tolist() == [[38, 37], [39, 38]]
    assert scores.tolist() == [[38, 37], [39, 38]]


def test_a_score_that_is_no_number_is_refused_in_whatever_span():
    scores = tied_scores(0, 5)
    scores[2, 33] = torch.nan
    with pytest.raises(DataError, match=r"1 NaN and 0 \+inf among the 10 scores of user_index 52"):
        top_items(Given(scores), some_histories(0), 3, items_at_once=10, users=np.arange(50, 58))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, r"k must be in 1\.\.40.*got 0"),
        ({"k": 41}, r"k must be in 1\.\.40.*got 41"),
        ({"items_at_once": 0}, "items_at_once must be >= 1; got 0"),
        ({"histories": [[3], [40]]}, r"histories must hold items in 0\.\.39; got 1 others \(first: 40\)"),
    ],
)
def test_what_is_out_of_range_is_refused(arguments, message):
    given = {"histories": [[0]] * 8, "k": 3} | arguments
    with pytest.raises(ValueError, match=message):
        top_items(Given(tied_scores(0, 5)), given.pop("histories"), given.pop("k"), **given)
