import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tailwise.errors import ConfigError
from tailwise.recommenders import _text_model as module
from tailwise.recommenders._text_model import TextModel

# The same operations in float32, in other shapes: a few units in the last place of logits near 10.
ROUNDING = {"rtol": 1e-4, "atol": 1e-4}
TITLES = ["red thing 1", "a", "", "blue", "something with a far longer title than the others 77", "blue"]


@pytest.fixture(scope="module")
def model(tiny_model):
    return TextModel(tiny_model, dtype=torch.float32)


@pytest.fixture(scope="module")
def plain(tiny_model):
    """Log-probabilities after every position of one text, without cache, batch or padding."""
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(tiny_model)

    @torch.no_grad()
    def run(ids):
        return torch.log_softmax(whole(input_ids=torch.tensor([ids]), use_cache=False).logits[0], dim=-1)

    return run


@pytest.fixture(params=[3, 40, 512])
def tokens_per_pass(request, monkeypatch):
    monkeypatch.setattr(module, "_TOKENS_PER_PASS", request.param)


def _prompt(model, text="a thing called"):
    return [model.start, *model.tokenize(text)]


def test_tokens_have_no_special_ones_and_go_back_to_the_text(model):
    assert model.tokenize("red 1") == [20, 7, 6, 39, 30]  # <s>, </s>, <unk>, then a..z, 0..9, space
    assert model.start == 0
    assert model.detokenize(model.tokenize("ab")).replace(" ", "") == "ab"


@pytest.mark.usefixtures("tokens_per_pass")
def test_log_probabilities_equal_a_plain_forward_pass_of_each_text(model, plain):
    prompt = _prompt(model)
    continuations = [model.tokenize(title) for title in TITLES]
    found = model.log_probabilities(model.prefix(prompt), continuations)
    assert [(len(row), row.dtype) for row in found] == [(len(title), np.float32) for title in TITLES]
    for row, ids in zip(found, continuations, strict=True):
        after = plain([*prompt, *ids])
        expected = [float(after[len(prompt) - 1 + i, token]) for i, token in enumerate(ids)]
        assert_close(torch.from_numpy(row), torch.tensor(expected, dtype=torch.float32), **ROUNDING)


def test_a_prefix_is_not_changed_by_its_use(model):
    prefix = model.prefix(_prompt(model))
    ids = [model.tokenize(title) for title in TITLES]
    first = model.log_probabilities(prefix, ids)
    model.next_log_probabilities([[5, 6], [7]], prefix=prefix)
    model.decoding(prefix, 2).step([4, 5])
    again = model.log_probabilities(prefix, ids)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_prefix_knows_what_follows_it(model, plain):
    prompt = _prompt(model)
    prefix = model.prefix(prompt)
    assert prefix.ids == tuple(prompt)
    assert_close(prefix.log_probabilities, plain(prompt)[-1], **ROUNDING)


@pytest.mark.usefixtures("tokens_per_pass")
def test_next_log_probabilities_of_prompts_of_other_lengths_equal_a_plain_forward_pass(model, plain):
    prompts = [_prompt(model, text) for text in ("abc", "", "red thing number 12", "xyz", "a b c d e f")]
    found = model.next_log_probabilities(prompts)
    assert found.dtype == torch.float32
    for row, prompt in zip(found, prompts, strict=True):
        assert_close(row, plain(prompt)[-1], **ROUNDING)


@pytest.mark.usefixtures("tokens_per_pass")
def test_a_shared_beginning_changes_nothing_in_next_log_probabilities(model):
    shared, rests = _prompt(model, "which is better "), [model.tokenize(t) for t in ("ab", "cdefg", "h")]
    together = model.next_log_probabilities(rests, prefix=model.prefix(shared))
    assert_close(together, model.next_log_probabilities([[*shared, *rest] for rest in rests]), **ROUNDING)


def test_decoding_a_token_at_a_time_equals_a_plain_forward_pass(model, plain):
    prompt = _prompt(model)
    decoding = model.decoding(model.prefix(prompt), 3)
    assert decoding.log_probabilities.shape == (3, 40)
    decoding.step([4, 5, 6])
    decoding.select([2, 0])  # the second row ends
    decoding.step([7, 8])
    decoding.select([0, 0, 1])  # and one splits in two
    found = decoding.step([9, 10, 11])
    for row, ids in zip(found, ([6, 7, 9], [6, 7, 10], [4, 8, 11]), strict=True):
        assert_close(row, plain([*prompt, *ids])[-1], **ROUNDING)


def test_selected_rows_know_what_follows_them(model):
    decoding = model.decoding(model.prefix(_prompt(model)), 3)
    after = decoding.step([4, 5, 6])
    decoding.select([2, 1])
    assert torch.equal(decoding.log_probabilities, after[[2, 1]])


def test_a_step_with_a_wrong_number_of_tokens_is_refused(model):
    decoding = model.decoding(model.prefix([0]), 2)
    with pytest.raises(ValueError, match="tokens must be one per row, 2; got 3"):
        decoding.step([1, 2, 3])


def test_probabilities_add_up_to_one_and_the_head_is_the_models_own(model):
    for row in model.next_log_probabilities([[0, 5], [0]]):
        assert float(row.exp().sum()) == pytest.approx(1.0, abs=1e-5)  # float32 sum of 40 numbers


def test_bfloat16_differs_from_float32_by_its_rounding_alone(tiny_model, model):
    coarse = TextModel(tiny_model, dtype=torch.bfloat16)
    ids = [model.tokenize(TITLES[0])]
    (one,), (other,) = (m.log_probabilities(m.prefix([0]), ids) for m in (model, coarse))
    assert one.dtype == other.dtype == np.float32
    assert_close(torch.from_numpy(one), torch.from_numpy(other), rtol=0.1, atol=0.1)  # 8 bits, 3 layers
    assert not np.array_equal(one, other)


def test_the_head_is_float32_and_the_layers_before_it_are_not(tiny_model):
    from transformers import AutoModelForCausalLM

    coarse = TextModel(tiny_model, dtype=torch.bfloat16)
    whole = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    with torch.no_grad():
        states = whole.model(torch.tensor([[0, 5, 9]]), use_cache=False).last_hidden_state[0, -1].float()
        expected = torch.log_softmax(states @ whole.lm_head.weight.float().T, dim=-1)
    assert_close(coarse.next_log_probabilities([[0, 5, 9]])[0], expected, **ROUNDING)
    (found,) = coarse.log_probabilities(coarse.prefix([0, 5, 9]), [[7]])
    assert found[0] == pytest.approx(float(expected[7]), abs=0.02)  # a cache rounds states in another order
    assert {p.dtype for p in coarse._model.model.parameters()} == {torch.bfloat16}


def test_a_head_that_shares_the_embeddings_leaves_them_as_they_are(tiny_model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tied = AutoModelForCausalLM.from_pretrained(tiny_model)
    tied.config.tie_word_embeddings = True
    tied.tie_weights()
    tied.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    model = TextModel(tmp_path, dtype=torch.bfloat16)
    assert model._model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert model._model.get_output_embeddings().weight.dtype == torch.float32
    plain = TextModel(tmp_path, dtype=torch.float32)
    one, other = (m.next_log_probabilities([[0, 5]]) for m in (model, plain))
    assert_close(one, other, rtol=0.1, atol=0.1)  # 8 bits, 3 layers


def test_weights_are_frozen_and_read_only_when_needed(tiny_model, monkeypatch):
    import transformers

    model = TextModel(tiny_model, dtype=torch.float32)
    with monkeypatch.context() as patched:
        patched.setattr(transformers.AutoModelForCausalLM, "from_pretrained", None)
        assert len(model.tokenize("abc")) == 3
        assert model.fingerprint
    model.prefix([0])
    assert not model._model.training
    assert {parameter.requires_grad for parameter in model._model.parameters()} == {False}


def test_depth_keeps_the_first_layers(tiny_model):
    assert len(TextModel(tiny_model, depth=2)._model.model.layers) == 2


@pytest.mark.parametrize("depth", [0, 4])
def test_a_depth_that_the_model_does_not_have_is_refused(tiny_model, depth):
    with pytest.raises(ConfigError, match=rf"depth must be in 1\.\.3, the layers of tiny-llama; got {depth}"):
        TextModel(tiny_model, depth=depth)


def test_empty_prompts_are_refused(model):
    with pytest.raises(ValueError, match="ids must hold one token or more; got none"):
        model.prefix([])
    with pytest.raises(ValueError, match=r"prompts must hold one token or more each; got lengths \[1, 0\]"):
        model.next_log_probabilities([[3], []])


def test_a_chat_without_a_template_is_refused_and_with_one_follows_it(tiny_model):
    model = TextModel(tiny_model)
    assert not model.has_chat_template
    with pytest.raises(ConfigError, match="model must have a chat template; tiny-llama has none"):
        model.chat("hello")
    model._tokenizer.chat_template = "{% for m in messages %}q {{ m['content'] }} a{% endfor %}"
    assert model.chat("red") == model.tokenize("q red a")
