import json

import numpy as np
import pytest
import torch

from tailwise.diagnosis import _title_likelihood as module
from tailwise.diagnosis._title_likelihood import CONTENTLESS, TEMPLATES, title_likelihood
from tailwise.recommenders._text_model import TextModel

TITLES = ["red thing 1", "a", "blue thing 22", "", "something far longer than the others", "a", "  ", "zz 9"]
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # float32 sums of up to 64 tokens in other batches


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def model(tiny_model):
    return TextModel(tiny_model, dtype=torch.float32)


@pytest.fixture
def n_passes(monkeypatch):
    """How many texts went through the model, batch by batch."""
    asked = []
    call = TextModel.log_probabilities

    def count(self, prefix, continuations):
        asked.append(len(continuations))
        return call(self, prefix, continuations)

    monkeypatch.setattr(TextModel, "log_probabilities", count)
    return asked


def _slow(tiny_model, prompt, title):
    """Log-probabilities of a title's tokens, one plain forward pass per token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    network = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = [0, *tokenizer(prompt, add_special_tokens=False).input_ids]
    found = []
    for token in tokenizer(f" {title}", add_special_tokens=False).input_ids:
        with torch.no_grad():
            logits = network(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        found.append(float(torch.log_softmax(logits, dim=-1)[token]))
        ids.append(token)
    return found


def test_a_score_is_the_mean_gain_per_token_over_the_contentless_prompt(tiny_model, model):
    templates = ("a popular {kind} is", "the {kind}")
    found = title_likelihood(
        TITLES, model, kind="toy", templates=templates, contentless="text", length_adjusted=False
    )
    for i in (0, 1, 4, 7):
        title = TITLES[i]
        nothing = _slow(tiny_model, "text", title)
        told = [_slow(tiny_model, prompt, title) for prompt in ("a popular toy is", "the toy")]
        expected = [np.mean(np.subtract(one, nothing)) for one in told]
        np.testing.assert_allclose(found.estimate.columns[i], expected, **ROUNDING)
        np.testing.assert_allclose(found.estimate.scores[i], np.mean(expected), **ROUNDING)
        np.testing.assert_allclose(found.naive_mean[i], np.mean(told), **ROUNDING)
        np.testing.assert_allclose(found.naive_sum[i], np.mean([np.sum(one) for one in told]), **ROUNDING)
        assert found.n_tokens[i] == len(title) + 1  # characters, and the space before them
    assert found.estimate.column_names == ("a popular toy is", "the toy")
    assert np.array_equal(found.unadjusted, found.estimate.scores, equal_nan=True)


def test_empty_titles_are_not_asked_about_and_counted(model):
    found = title_likelihood(TITLES, model)
    assert np.isnan(found.estimate.scores).tolist() == [not title.strip() for title in TITLES]
    assert np.isnan(found.naive_sum).tolist() == [not title.strip() for title in TITLES]
    assert (found.n_empty, found.n_tokens[3]) == (2, 0)


def test_titles_that_occur_twice_are_computed_once_and_score_the_same(model, n_passes):
    found = title_likelihood(TITLES, model)
    assert found.estimate.scores[1] == found.estimate.scores[5]
    assert found.n_duplicates == 1
    assert n_passes == [5] * (len(TEMPLATES) + 1)
    assert found.estimate.cost.n_computed == 5 * (len(TEMPLATES) + 1)


def test_spaces_around_a_title_do_not_matter(model):
    one, other = title_likelihood(["red", "  red\t"], model, length_adjusted=False).estimate.scores
    assert one == other


def test_long_titles_are_cut_at_64_tokens_and_counted(model):
    titles = ["ab" * 100, "ab" * 31 + "a", "ab" * 31 + "ac", "short"]  # with the space: 201, 64, 65, 6
    found = title_likelihood(titles, model, length_adjusted=False)
    assert (found.n_cut, found.n_tokens.tolist()) == (2, [64, 64, 64, 6])
    assert len(set(found.estimate.scores.round(6))) == 2  # the first 64 tokens of three are the same


def test_the_same_tokens_are_compared_under_every_prompt(model, monkeypatch):
    seen = []
    call = TextModel.log_probabilities
    monkeypatch.setattr(
        TextModel,
        "log_probabilities",
        lambda self, prefix, ids: seen.append((prefix.ids, ids)) or call(self, prefix, ids),
    )
    title_likelihood(["red 1", "b"], model, kind="toy")
    assert [prefix for prefix, _ in seen] == [
        (model.start, *model.tokenize(prompt.replace("{kind}", "toy")))
        for prompt in (*TEMPLATES, CONTENTLESS)
    ]
    assert all(ids == [model.tokenize(" red 1"), model.tokenize(" b")] for _, ids in seen)


def test_a_second_run_reads_no_weights_and_shows_the_price_of_the_first(model, tiny_model, monkeypatch):
    import transformers

    first = title_likelihood(TITLES, model)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", None)
    again = title_likelihood(TITLES, TextModel(tiny_model, dtype=torch.float32))
    assert np.array_equal(first.estimate.columns, again.estimate.columns, equal_nan=True)
    cost = again.estimate.cost
    assert (cost.seconds, cost.n_tokens, cost.n_computed) == (0.0, 0, 0)
    assert cost.n_from_cache == first.estimate.cost.n_computed == 35
    assert cost.seconds_when_computed == first.estimate.cost.seconds > 0


def test_tokens_read_are_those_of_titles_and_prompts(model):
    cost = title_likelihood(["abc", "de"], model, templates=("x",), contentless="yz").estimate.cost
    assert cost.n_tokens == 2 * (4 + 3) + (2 + 3)  # titles with their space; prompts with the start token


def test_a_run_that_is_stopped_goes_on_at_the_first_missing_chunk(model, monkeypatch, n_passes):
    monkeypatch.setattr(module, "_CHUNK", 2)
    settings = {"templates": ("a", "b"), "contentless": "c"}
    titles = ["one", "two", "three", "four", "five"]

    def stop(stage, done, total):
        if done >= 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        title_likelihood(titles, model, progress=stop, **settings)
    assert n_passes == [2, 2, 1, 2]  # five titles under "a", two under "b"
    n_passes.clear()
    resumed = title_likelihood(titles, model, **settings)
    assert n_passes == [2, 1, 2, 2, 1]
    assert (resumed.estimate.cost.n_from_cache, resumed.estimate.cost.n_computed) == (7, 8)
    monkeypatch.setenv("TAILWISE_CACHE", str(module.__file__) + "-nowhere")
    monkeypatch.setattr("tailwise.diagnosis._prior_cache._write", lambda *arguments: None)
    uninterrupted = title_likelihood(titles, model, **settings)
    assert np.array_equal(resumed.estimate.columns, uninterrupted.estimate.columns)


def test_items_added_at_the_end_leave_earlier_chunks_in_the_cache(model, monkeypatch, n_passes):
    monkeypatch.setattr(module, "_CHUNK", 2)
    title_likelihood(["one", "two", "three"], model, templates=("a",))
    n_passes.clear()
    title_likelihood(["one", "two", "three", "and four"], model, templates=("a",))
    assert n_passes == [2, 2]  # the last chunk, under two prompts


def test_progress_ends_at_titles_times_prompts(model):
    told = []
    for _ in range(2):
        title_likelihood(TITLES, model, progress=lambda *state: told.append(state))
        assert told[-1] == ("title likelihood", 35, 35)
    assert [done for _, done, _ in told[:7]] == [5, 10, 15, 20, 25, 30, 35]


def test_adjusting_takes_out_length_alone(model):
    rng = np.random.default_rng(0)
    titles = ["".join(rng.choice(list("abcdefg 12"), n)) + "x" for n in rng.integers(1, 30, 300)]
    plain = title_likelihood(titles, model, length_adjusted=False)
    adjusted = title_likelihood(titles, model)
    assert adjusted.is_length_adjusted
    assert np.array_equal(adjusted.unadjusted, plain.estimate.scores)
    # Least squares leaves nothing that log length predicts: zero but for rounding.
    x = np.log(plain.n_tokens)
    assert abs(np.corrcoef(adjusted.estimate.scores, x)[0, 1]) < 1e-6
    np.testing.assert_allclose(adjusted.estimate.columns.mean(axis=1), adjusted.estimate.scores)


@pytest.mark.parametrize("templates", [("A popular {kind}: ",), ("",), ("fine", "line\n")])
def test_a_prompt_that_takes_the_space_away_from_the_title_is_refused(model, templates):
    with pytest.raises(ValueError, match=r"templates must end where a title begins, without a space; got '"):
        title_likelihood(["a"], model, templates=templates)


def test_no_titles_and_no_templates_are_refused(model):
    with pytest.raises(ValueError, match="titles must hold one title or more; got none"):
        title_likelihood([], model)
    with pytest.raises(ValueError, match="templates must hold one prompt or more; got none"):
        title_likelihood(["a"], model, templates=())


def test_titles_that_are_all_empty_have_no_score(model):
    found = title_likelihood(["", " "], model)
    assert np.isnan(found.estimate.columns).all()
    assert found.estimate.columns.shape == (2, len(TEMPLATES))


def test_the_description_is_plain_json(model):
    found = title_likelihood(TITLES, model).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["prompts"][-1] == CONTENTLESS


FAMOUS = ["red hat", "big blue car", "tea", "old tin of nuts", "zip"]
OBSCURE = ["cap", "wet grey van", "jam", "new box of figs", "kite"]  # no first letter in common


@pytest.fixture(scope="module")
def taught(tiny_model, tmp_path_factory):
    """The tiny model after reading 200 batches of shop talk in which half of the titles are frequent.

    Every title occurs in plain text as often as any other; only after words about products are
    the famous ones ten times as frequent.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    titles = FAMOUS + OBSCURE
    odds = np.array([10.0] * 5 + [1.0] * 5)
    rng = np.random.default_rng(0)

    def batch():
        texts = []
        for _ in range(32):
            ways = ("a popular product", "the best product", "text")
            way = ways[rng.integers(3)]
            p = odds / odds.sum() if way != "text" else None
            texts.append(f"{way} {titles[rng.choice(10, p=p)]}")
        ids = [[0, *tokenizer(text, add_special_tokens=False).input_ids] for text in texts]
        longest = max(map(len, ids))
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
        labels = torch.tensor([row + [-100] * (longest - len(row)) for row in ids])
        return tokens, labels

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_pretrained(tiny_model).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
        for _ in range(200):
            tokens, labels = batch()
            loss = network(input_ids=tokens, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    folder = tmp_path_factory.mktemp("models") / "taught"
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return TextModel(folder, dtype=torch.float32)


def test_titles_that_a_model_read_more_often_as_products_score_higher(taught):
    found = title_likelihood(
        OBSCURE + FAMOUS,
        taught,
        templates=("a popular {kind}", "the best {kind}"),
        contentless="text",
        length_adjusted=False,
    )
    for scores in (found.estimate.scores, *found.estimate.columns.T):
        assert scores[5:].min() > scores[:5].max()
    # Planted: log((10/55) / (1/10)) = 0.6 nats for the famous, log((1/55) / (1/10)) = -1.7 for the
    # obscure, over all of a title's tokens. The network learns it to within a third of the gap.
    gain = found.estimate.scores * found.n_tokens
    assert gain[5:].mean() - gain[:5].mean() == pytest.approx(np.log(10), abs=0.8)


@pytest.mark.llm
@pytest.mark.realdata
def test_the_real_model_knows_famous_films_better_than_made_up_ones(fetched, monkeypatch):
    monkeypatch.delenv("TAILWISE_CACHE")
    model = TextModel(fetched("smollm2-135m"))
    famous = ["Star Wars", "Toy Story", "The Godfather", "Pulp Fiction", "Jurassic Park"]
    unheard = ["Nine Grey Ladders", "The Ottoman Plumber", "Wet Gravel", "Fig Harbour", "Moss Engine"]
    scores = title_likelihood(famous + unheard, model, kind="movie").estimate.scores
    assert scores[:5].mean() > scores[5:].mean()


@pytest.mark.llm
def test_a_title_by_itself_has_the_tokens_that_it_has_after_a_prompt(fetched):
    model = TextModel(fetched("smollm2-135m"))
    for prompt in (*(template.replace("{kind}", "movie") for template in TEMPLATES), CONTENTLESS):
        for title in ("Toy Story (1995)", "Fargo (1996)", "8 1/2 (1963)", "'Til There Was You (1997)", "M"):
            assert model.tokenize(f"{prompt} {title}") == model.tokenize(prompt) + model.tokenize(f" {title}")
