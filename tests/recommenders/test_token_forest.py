import re

import pytest
import torch
from torch.testing import assert_close

from tailwise.errors import ConfigError
from tailwise.recommenders._text_model import TextModel
from tailwise.recommenders._token_forest import TokenForest

# The same operations in float32, in other shapes: a few units in the last place of logits near 10.
ROUNDING = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def model(tiny_model):
    return TextModel(tiny_model, dtype=torch.float32)


@pytest.fixture(scope="module")
def plain(tiny_model):
    """Logits after one text, without cache, mask or company."""
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(tiny_model)

    @torch.no_grad()
    def run(ids):
        return whole(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]

    return run


def test_planted_texts_are_read_as_if_each_were_alone(model, plain):
    texts = [[0, 5, 6, 7], [0, 5, 8], [0, 5], [0, 5, 6, 7, 9, 10], [3], [0, 5, 8]]
    ends, logits = TokenForest(model).plant(texts)
    assert logits.dtype == torch.float32
    assert len(set(ends)) == 5  # equal texts end at one place
    for row, text in zip(logits, texts, strict=True):
        assert_close(row, plain(text), **ROUNDING)


def test_what_texts_begin_with_is_read_once(model):
    forest = TokenForest(model)
    forest.plant([[0, 5, 6, 7], [0, 5, 8], [0, 5]])
    assert forest.n_tokens == 5


def test_branches_see_their_own_past_and_nothing_else(model, plain):
    forest = TokenForest(model)
    (long, short), _ = forest.plant([[0, 5, 6, 7], [0, 9]])
    first = forest.n_tokens
    # Two branches after one text, one of two tokens in the same call, and one after the other text.
    forest.grow([10, 11, 12, 10], [long, long, first + 1, short])
    found = forest.grow([20, 21], [first + 2, first + 3])
    assert_close(found[0], plain([0, 5, 6, 7, 11, 12, 20]), **ROUNDING)
    assert_close(found[1], plain([0, 9, 10, 21]), **ROUNDING)


def test_only_what_is_asked_for_is_told_in_the_order_asked(model):
    texts = [[0, 5, 6, 7]]
    forest, other = TokenForest(model), TokenForest(model)
    (end,), _ = forest.plant(texts)
    other.plant(texts)
    everything = forest.grow([8, 9, 10], [end, end, end])
    assert torch.equal(other.grow([8, 9, 10], [end, end, end], ask=[2, 0]), everything[[2, 0]])


def test_many_tokens_find_room(model, plain):
    forest = TokenForest(model)
    texts = [[0, token, *[token] * (3 + token % 5)] for token in range(3, 40)] * 2
    texts += [[1, *text] for text in texts]
    ends, logits = forest.plant(texts)
    assert forest.n_tokens > 256  # the first room
    after = forest.grow([4] * len(ends), ends)
    for i in (0, 36, 100, 140):
        assert_close(logits[i], plain(texts[i]), **ROUNDING)
        assert_close(after[i], plain([*texts[i], 4]), **ROUNDING)


@pytest.mark.parametrize(
    ("tokens", "after", "message"),
    [
        ([], [], "got 0, 0 of them not earlier"),
        ([4, 5], [0], "for each of 2 tokens, one or more; got 1"),
        ([4, 5], [0, 3], "got 2, 1 of them not earlier (first: [3])"),
        ([4], [-2], "got 1, 1 of them not earlier (first: [-2])"),
    ],
)
def test_a_token_that_follows_none_before_it_is_refused(model, tokens, after, message):
    forest = TokenForest(model)
    forest.plant([[0, 5]])
    with pytest.raises(ValueError, match=re.escape(message)):
        forest.grow(tokens, after)
    assert forest.n_tokens == 2


def test_an_empty_text_is_refused(model):
    with pytest.raises(ValueError, match="texts must hold one token or more each; got an empty one"):
        TokenForest(model).plant([[0], []])


def test_a_model_that_would_not_keep_branches_apart_is_refused(tiny_model):
    model = TextModel(tiny_model, dtype=torch.float32)
    model._model.config.layer_types = ["full_attention", "linear_attention", "full_attention"]
    with pytest.raises(ConfigError, match=r"attention layers .*tiny-llama \(llama: .*'linear_attention'"):
        TokenForest(model).plant([[0]])
    del model._model.config.layer_types
    model._model.forward = lambda input_ids, attention_mask, logits_to_keep: None
    with pytest.raises(ConfigError, match=r"takes no \['position_ids'\]"):
        TokenForest(model).plant([[0]])


def test_no_token_has_the_first_number_beyond_the_vocabulary(model):
    assert model.n_words == 40
    assert max(model.tokenize("abcdefghijklmnopqrstuvwxyz0123456789 ")) == 39


def test_titles_are_closed_by_the_mark_with_or_without_punctuation_and_by_the_end_of_text(model, monkeypatch):
    assert model.closing("\n") == [1]  # the tiny tokenizer knows no line break
    monkeypatch.setitem(
        model.__dict__, "_words", ["a", "x", "\n", ' "', '"', ".\n", '"\n', " \n\n", "b\n", ',"']
    )
    assert model.closing("\n") == [1, 2, 5, 7]
    assert model.closing('"') == [1, 3, 4, 6, 9]


def test_a_tokenizer_that_cannot_end_a_title_is_refused(tiny_model):
    model = TextModel(tiny_model)
    model._tokenizer.eos_token = None
    with pytest.raises(
        ConfigError, match="a token that begins with '#', or one that ends texts; tiny-llama has"
    ):
        model.closing("#")
