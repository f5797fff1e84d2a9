"""Titles scored and searched: held to one full forward per title."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from tailwise.recommenders._title_decoding import TitleDecoder
from tailwise.recommenders._title_trie import TitleTrie

N_WORDS, TERMINATOR, END = 14, 1, 14
TITLES = [[5, 6], [5], [7, 8, 9], [5, 6], [7, 8], [10], [5, 6, 7, 8, 9], [11, 5], [12], [7]]
PROMPTS = [[0, 3, 4], [0], [0, 2, 13, 13, 2, 6], [0, 9]]
ROUNDING = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=N_WORDS,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            initializer_range=0.5,  # so that what comes next depends on all that came before
        )
        return LlamaForCausalLM(config).eval()


def decoder(model, titles=TITLES, **given):
    return TitleDecoder(model, TitleTrie(titles, END), terminator=TERMINATOR, **given)


@torch.no_grad()
def plain(model, titles=TITLES, prompts=PROMPTS, *, per_token=False):
    """One text at a time, whole: [prompts, titles]."""
    found = np.empty((len(prompts), len(titles)))
    for row, prompt in enumerate(prompts):
        for item, title in enumerate(titles):
            text = [*prompt, *title, TERMINATOR]
            said = model(torch.tensor([text])).logits[0].double().log_softmax(-1)
            parts = [float(said[place - 1, text[place]]) for place in range(len(prompt), len(text))]
            found[row, item] = np.mean(parts) if per_token else np.sum(parts)
    return found


# Scores


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("tokens_at_once", [1, 7, 40, 2000])
def test_scores_are_those_of_whole_texts(model, tokens_at_once, per_token):
    found = decoder(model, tokens_at_once=tokens_at_once).scores(PROMPTS, per_token=per_token)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain(model, per_token=per_token), **ROUNDING)


def test_a_title_that_begins_another_is_not_given_what_the_other_has(model):
    found = np.exp(decoder(model).scores(PROMPTS).astype(np.float64))
    distinct = [i for i in range(len(TITLES)) if i != 3]  # 3 has the title of 0
    assert (found[:, distinct].sum(1) < 1).all()  # of disjoint events


def test_equal_titles_have_equal_scores(model):
    found = decoder(model).scores(PROMPTS)
    assert (found[:, 0] == found[:, 3]).all()


def test_only_candidates_are_scored(model):
    found = decoder(model).scores(PROMPTS, candidates=[[2, 6], [], [0, 0, 3], range(10)])
    expected = plain(model)
    np.testing.assert_allclose(found[0, [2, 6]], expected[0, [2, 6]], **ROUNDING)
    np.testing.assert_allclose(found[3], expected[3], **ROUNDING)
    assert np.isneginf(found[1]).all()
    assert np.isfinite(found[2]).nonzero()[0].tolist() == [0, 3]


def test_penalties_are_subtracted(model):
    penalties = np.linspace(0, 3, len(TITLES))
    plain_scores = decoder(model).scores(PROMPTS)
    np.testing.assert_allclose(
        decoder(model).scores(PROMPTS, penalties=penalties), plain_scores - penalties, **ROUNDING
    )


def test_a_model_in_bfloat16_is_read_too(model):
    import copy

    half = copy.deepcopy(model).to(torch.bfloat16)
    found = decoder(half).scores(PROMPTS)
    np.testing.assert_allclose(found, plain(half), rtol=0.1, atol=0.3)
    lists = decoder(half).beam_search(PROMPTS, k=3, width=5)
    assert lists.items.shape == (4, 3)


# Search


def expected_lists(scores, excluded, k):
    items, values = [], []
    for row, forbidden in zip(scores, excluded, strict=True):
        order = sorted((i for i in range(len(row)) if i not in set(forbidden)), key=lambda i: (-row[i], i))[
            :k
        ]
        items.append(order)
        values.append([row[i] for i in order])
    return np.array(items), np.array(values)


EXCLUDED = [[], [0, 3], [6, 7], [1, 2, 4, 5, 8, 9]]


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("tokens_at_once", [1, 25, 2000])
def test_as_wide_as_the_catalogue_the_search_is_exact(model, per_token, penalised, tokens_at_once):
    own = decoder(model, tokens_at_once=tokens_at_once)
    penalties = np.linspace(1, 0, len(TITLES)) if penalised else None
    lists = own.beam_search(
        PROMPTS, excluded=EXCLUDED, k=4, width=len(TITLES), per_token=per_token, penalties=penalties
    )
    scores = plain(model, per_token=per_token) - (0 if penalties is None else penalties)
    scores[:, 3] = scores[:, 0] if penalties is None else scores[:, 3]
    items, values = expected_lists(scores, EXCLUDED, 4)
    np.testing.assert_array_equal(lists.items, items)
    np.testing.assert_allclose(lists.scores, values, **ROUNDING)


def narrow(model, prompt, excluded, k, width):
    """Beam search as the docstring words it, in sets and full forwards."""
    allowed = [i for i in range(len(TITLES)) if i not in set(excluded)]
    beams, finished = {(): 0.0}, {}
    while beams:
        grown = {}
        for begun, total in beams.items():
            said = model(torch.tensor([[*prompt, *begun]])).logits[0, -1].double().log_softmax(-1)
            for title in {(*TITLES[i], END) for i in allowed}:
                if title[: len(begun)] == begun:
                    token = title[len(begun)]
                    to = finished if token == END else grown
                    to[title[: len(begun) + 1]] = total + float(said[TERMINATOR if token == END else token])
        best = sorted(finished.values())[-width:]
        least = best[0] if len(best) == width else -np.inf
        beams = dict(sorted(grown.items(), key=lambda b: -b[1])[:width])
        beams = {begun: total for begun, total in beams.items() if total > least}
    found = sorted((-total, i) for b, total in finished.items() for i in allowed if (*TITLES[i], END) == b)
    return [i for _, i in found[:k]]


@torch.no_grad()
@pytest.mark.parametrize("width", [2, 3, 5])
def test_a_narrow_beam_keeps_what_its_rule_says(model, width):
    lists = decoder(model).beam_search(PROMPTS, excluded=EXCLUDED, k=2, width=width)
    expected = [narrow(model, p, e, 2, width) for p, e in zip(PROMPTS, EXCLUDED, strict=True)]
    assert lists.items.tolist() == expected


@pytest.mark.parametrize("width", [1, 2, 20])
def test_beam_scores_are_exact_for_what_is_found_and_behind_it_for_the_rest(model, width):
    excluded = [[], [0, 3], range(10), [5]]
    own = decoder(model)
    scores, exact = own.beam_scores(PROMPTS, excluded=excluded, width=width), own.scores(PROMPTS)
    for row in (0, 1, 3):
        listed = own.beam_search(
            [PROMPTS[row]], excluded=[excluded[row]], k=width if width < 5 else 5, width=width
        )
        items = listed.items[0]
        np.testing.assert_allclose(scores[row, items], exact[row, items], **ROUNDING)
        others = np.setdiff1d(np.arange(10), [*items, *excluded[row]])
        assert scores[row, others].max() <= scores[row, items].min()
        assert np.isfinite(scores[row, others]).all()
        assert (scores[row, list(excluded[row])] == -np.inf).all()
    assert (scores[2] == -np.inf).all()  # nothing is left to say
    if width == 20:
        np.testing.assert_allclose(scores[0], exact[0], **ROUNDING)


titles = st.lists(st.lists(st.integers(2, 6), min_size=1, max_size=4), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), titles=titles)
def test_every_list_is_valid_unseen_and_of_full_length(model, data, titles):
    n = len(titles)
    n_rows = data.draw(st.integers(1, 3))
    excluded = [data.draw(st.sets(st.integers(0, n - 1), max_size=n - 1)) for _ in range(n_rows)]
    k = data.draw(st.integers(1, n - max(map(len, excluded))))
    width = data.draw(st.integers(k, n + 2))
    prompts = [data.draw(st.lists(st.integers(0, 13), min_size=1, max_size=5)) for _ in range(n_rows)]
    own = decoder(model, titles)
    lists = own.beam_search(prompts, excluded=[sorted(e) for e in excluded], k=k, width=width)
    exact = own.scores(prompts)
    for row in range(n_rows):
        items = lists.items[row].tolist()
        assert len(set(items)) == k
        assert not set(items) & excluded[row]
        assert set(items) <= set(range(n))
        np.testing.assert_allclose(lists.scores[row], exact[row, items], rtol=1e-4, atol=1e-4)
        assert (np.diff(lists.scores[row]) <= 0).all()


# What is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.scores([[0], []]), "prompts must hold a token or more each; got an empty one in row 1"),
        (lambda d: d.beam_search([], k=1, width=1), "got no prompt"),
        (lambda d: d.beam_search([[0]], k=3, width=2), r"k must be in 1\.\.width=2; got 3"),
        (lambda d: d.beam_search([[0]], k=4, width=9, excluded=[range(7)]), "got 4 with 3 in row 0"),
        (lambda d: d.beam_search([[0]], k=1, width=9, excluded=[[10]]), r"items in 0\.\.9; got 10 in row 0"),
        (lambda d: d.beam_search([[0]], k=1, width=9, excluded=[]), "excluded must have 1 rows; got 0"),
        (lambda d: d.scores([[0]], candidates=[[-1]]), r"items in 0\.\.9; got -1 in row 0"),
        (lambda d: d.scores([[0]], penalties=[1.0]), r"penalties must be 10 finite numbers.*shape \(1,\)"),
    ],
)
def test_what_does_not_fit_is_refused(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(decoder(model))


def test_a_terminator_that_the_model_does_not_know_is_refused(model):
    with pytest.raises(ValueError, match=r"terminator must be a token of the model, in 0\.\.13; got 14"):
        TitleDecoder(model, TitleTrie(TITLES, END), terminator=14)
