import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tailwise.diagnosis import _output_draws, _title_draws
from tailwise.diagnosis._output_frequency import OutputFrequency, measure_output_frequency
from tailwise.diagnosis._recommendation_prompts import (
    RECOMMENDATION_PROMPTS,
    RecommendationPrompt,
    tokens_in_place,
)
from tailwise.diagnosis._title_draws import spread_draws, thin
from tailwise.recommenders import _text_model
from tailwise.recommenders._text_model import TextModel
from tailwise.recommenders._title_trie import TitleTrie

# Probabilities from float32 logits near 10 that were summed in another order.
ROUNDING = {"rtol": 1e-3, "atol": 1e-6}
TITLES = ["red", "red thing", "blue", "red", "redder", "b", "blue thing 2", "bat", "zoo 7", "red thing 12"]
HISTORIES = [[0, 2], [5], [6, 7, 8], [1, 0, 9], [4], [3, 3, 2], [8, 1], [9], [2, 7], [0, 1, 2, 3, 4, 5, 6, 7]]
PROMPTS = (
    RecommendationPrompt("line", "liked\n{titles}\nnext {kind}:", "{title}", "\n"),
    RecommendationPrompt("quoted", 'after {titles} comes "', '"{title}"', " "),
)
SEEDS = [[0, 0]]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path / "cache"))
    # bfloat16 would blur parity with plain forward passes.
    monkeypatch.setattr(_text_model, "choose_dtype", lambda requested, device: torch.float32)


@pytest.fixture(scope="module")
def model(tiny_model):
    return TextModel(tiny_model, dtype=torch.float32)


@pytest.fixture(scope="module")
def trie(model):
    return TitleTrie([model.tokenize(title) for title in TITLES], model.n_words)


@pytest.fixture
def planted(tiny_model, tmp_path):
    """A model that says z, then q, then t more readily than anything else, whatever came before."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    with torch.no_grad():
        network.model.embed_tokens.weight[:, 0] = 20.0  # one direction that every state has
        network.lm_head.weight[:, 0] = 0.0
        for character, preference in (("z", 1.5), ("q", 1.0), ("t", 0.5)):
            network.lm_head.weight[tokenizer.convert_tokens_to_ids(character), 0] = preference
    network.save_pretrained(tmp_path / "planted")
    tokenizer.save_pretrained(tmp_path / "planted")
    return tmp_path / "planted"


def spread(model, trie, prompts, excluded=None, *, n_draws=1, seeds=None):
    return spread_draws(
        model,
        trie,
        prompts,
        [[]] * len(prompts) if excluded is None else excluded,
        closing=model.closing("\n"),
        n_draws=n_draws,
        seeds=[[0, i] for i in range(len(prompts))] if seeds is None else seeds,
    )


def enumerate_titles(model, prompt, excluded=()):
    """Probability of each item of TITLES by walking nested prefixes, one plain call per prefix."""
    ids = [[*model.tokenize(title), "end"] for title in TITLES]
    shares = np.zeros(len(TITLES))

    def go(said, mass):
        below = [i for i in range(len(TITLES)) if i not in excluded and ids[i][: len(said)] == said]
        if said and said[-1] == "end":
            shares[below] = mass / len(below)
            return
        after = model.next_log_probabilities([[*prompt, *said]])[0].exp().double()
        follows = sorted({ids[i][len(said)] for i in below}, key=str)
        chances = [float(after[model.closing("\n")].sum() if t == "end" else after[t]) for t in follows]
        for token, chance in zip(follows, chances, strict=True):
            go([*said, token], mass * chance / sum(chances))

    go([], 1.0)
    return shares


def measure(folder, *, titles=TITLES, histories=HISTORIES, prompts=PROMPTS, **settings):
    settings = {"n_users": 8, "samples_per_user": 4, "n_shown": 2} | settings
    return measure_output_frequency(titles, histories, folder, prompts=prompts, **settings)


def bits(found):
    e = found.estimate
    return [a.tobytes() for a in (e.scores, e.columns, found.expected_draws, found.open_draws, found.draws)]


# ---- thinning


masses = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=12)


@settings(max_examples=80, deadline=None)
@given(masses, st.integers(1, 14), st.floats(0, 1, exclude_max=True))
def test_thinning_keeps_the_sum_and_no_more_than_told(values, n_kept, lot):
    mass = np.array(values)
    kept, left = thin(mass, n_kept, lot)
    assert len(kept) <= n_kept
    assert (np.diff(kept) > 0).all()
    assert (left > 0).all()
    assert (left >= mass[kept] * (1 - 1e-9)).all()  # kept as it is, or raised
    assert_allclose(left.sum(), mass.sum(), rtol=1e-9)


def test_a_lot_that_rounds_to_one_keeps_the_last_mass_that_there_is():
    kept, left = thin(np.array([1.0, 1.0, 1.0, 0.0]), 2, np.nextafter(1.0, 0.0))
    assert kept.tolist() == [1, 2]
    assert_allclose(left, [1.5, 1.5])


@settings(max_examples=40, deadline=None)
@given(masses, st.integers(1, 6))
def test_thinning_is_right_on_average(values, n_kept):
    mass, n_lots = np.array(values), 400
    mean = np.zeros(mass.size)
    for lot in (np.arange(n_lots) + 0.5) / n_lots:
        kept, left = thin(mass, n_kept, lot)
        mean[kept] += left / n_lots
    # Each mass is a step function of the lot with two jumps of the threshold's height at most.
    assert_allclose(mean, mass, atol=2 * max(mass.sum(), 1e-9) / n_lots)


def test_thinning_leaves_large_masses_alone_and_evens_out_small_ones():
    kept, left = thin(np.array([0.05, 0.5, 0.05, 0.3, 0.1]), 3, lot=0.99)
    assert kept.tolist() == [1, 3, 4]
    assert_allclose(left, [0.5, 0.3, 0.2])


# ---- draws


@pytest.mark.parametrize("excluded", [[], [0], [0, 3], [1, 4, 9], [2, 5, 6, 7, 8]])
def test_many_draws_are_the_exact_probabilities(model, trie, excluded):
    prompts = [[0, *model.tokenize(text)] for text in ("a good thing ", "next")]
    shares, _ = spread(model, trie, prompts, [excluded, []], n_draws=100)
    assert_allclose(shares[0], enumerate_titles(model, prompts[0], excluded), **ROUNDING)
    assert_allclose(shares[1], enumerate_titles(model, prompts[1]), **ROUNDING)


@pytest.mark.parametrize("n_draws", [1, 2, 3])
def test_few_draws_are_the_exact_probabilities_on_average(model, trie, n_draws):
    prompt, n = [0, *model.tokenize("a good thing ")], 600
    shares, _ = spread(model, trie, [prompt] * n, n_draws=n_draws)
    exact = enumerate_titles(model, prompt)
    errors = shares.std(axis=0) / np.sqrt(n)
    assert errors.max() > 1e-3  # something was left to chance
    # Ten items, four standard errors: 0.06 % of seeds would fail by chance.
    assert (abs(shares.mean(axis=0) - exact) < 4 * errors + 1e-6).all()


def test_a_few_draws_of_shared_steps_are_nearer_than_as_many_independent_walks(model, trie):
    prompt, n = [0, *model.tokenize("a good thing ")], 200
    exact = enumerate_titles(model, prompt)
    shares, _ = spread(model, trie, [prompt] * n, n_draws=2)
    of_walks = np.sum(exact * (1 - exact)) / 2  # variance of two independent draws, summed over items
    assert ((shares - exact) ** 2).sum(axis=1).mean() < 0.5 * of_walks


def test_equal_titles_share_evenly_and_those_that_remain_take_what_an_excluded_one_leaves(model, trie):
    prompt = [0, *model.tokenize("next")]
    (both, one), _ = spread(model, trie, [prompt] * 2, [[], [0]], n_draws=100)
    assert both[0] == both[3] > 0
    assert one[0] == 0
    assert one[3] == pytest.approx(2 * both[3], rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, len(TITLES) - 1), max_size=len(TITLES) - 1), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(0, 1000),
)
def test_only_allowed_items_are_ever_drawn(model, trie, excluded, n_draws, seed):
    prompts = [[0, 5 + i] for i in range(len(excluded))]
    seeds = [[seed, i] for i in range(len(excluded))]
    shares, _ = spread(model, trie, prompts, [sorted(row) for row in excluded], n_draws=n_draws, seeds=seeds)
    assert_allclose(shares.sum(axis=1), 1, rtol=1e-9)
    for row, of_row in zip(shares, excluded, strict=True):
        assert (row >= 0).all()
        assert not row[sorted(of_row)].any()


def test_a_prompt_does_not_depend_on_its_neighbours(model, trie):
    prompts, excluded = [[0, 5, 6], [0, 5, 7, 8], [0, 9]], [[0], [], [1, 2]]
    together, _ = spread(model, trie, prompts, excluded, n_draws=2)
    alone, _ = spread(model, trie, prompts[1:2], excluded[1:2], n_draws=2, seeds=[[0, 1]])
    assert_allclose(together[1], alone[0], **ROUNDING)


def test_no_token_is_read_where_nothing_is_left_to_choose(model):
    trie = TitleTrie([model.tokenize(title) for title in ("red thing", "blue", "blue")], model.n_words)
    shares, n_tokens = spread(model, trie, [[0, 5]], n_draws=10)
    assert n_tokens == 2  # the prompt alone: r or b decides
    assert shares[0, 1] == shares[0, 2]


def test_the_end_of_a_title_gets_what_the_model_gives_all_its_closing_tokens():
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]]))
    parents, tokens = np.array([0, 0, 1]), np.array([2, 99, 99])
    chances = _title_draws._chances(logits, parents, tokens, [0, 1], 99)
    assert_allclose(chances, [0.5, 0.5, 1.0], rtol=1e-6)


# ---- the estimate


def test_titles_that_the_model_prefers_come_out_on_top(planted):
    titles = ["ab", "zq", "ha", "tt", "qt", "c 9", "bb"]
    found = measure(planted, titles=titles, histories=[[0], [2], [5], [0, 2], [2, 5], [5, 0]], n_users=6)
    best = np.argsort(-found.estimate.scores)
    assert [titles[i] for i in best[:3]] == ["zq", "qt", "tt"]
    for column in found.estimate.columns.T:
        assert np.argmax(column) == 1


def test_scores_and_columns_follow_the_formula(tiny_model):
    found = measure(tiny_model)
    drawn, n, items = found.expected_draws, found.open_draws, len(TITLES)
    assert_allclose(found.estimate.columns, np.log((drawn + 0.5) / (n + 0.5 * items)))
    assert_allclose(found.estimate.scores, np.log((drawn.sum(1) + 0.5) / (n.sum(1) + 0.5 * items)))
    assert found.estimate.name == "output-frequency"
    assert found.estimate.column_names == ("line", "quoted")
    assert_allclose(drawn.sum(axis=0), [16, 16])  # 4 users each, 4 draws per user
    assert found.draws.sum(axis=0).tolist() == [16, 16]
    assert (found.n_users, found.n_questions, found.n_draws) == (8, 8, 32)
    assert found.n_items_drawn == int((found.draws.sum(axis=1) > 0).sum()) > 1


def test_items_count_only_the_draws_that_they_could_have_had(tiny_model):
    histories = [[0, 2], [0, 5, 5], [2, 0], [0]]
    found = measure(tiny_model, histories=histories, n_users=4)
    assert not found.draws[0].any()
    assert not found.expected_draws[0].any()
    assert found.open_draws.sum(axis=1)[[0, 1, 2, 5]].tolist() == [0, 16, 8, 12]
    # Nothing is known of item 0, so it gets what smoothing gives everyone.
    assert found.estimate.scores[0] == pytest.approx(np.log(1 / len(TITLES)))


def test_a_seen_item_can_be_drawn_where_that_is_wanted(tiny_model):
    found = measure(tiny_model, histories=[[0, 2]] * 4, n_users=4, exclude_seen=False)
    assert (found.open_draws == 8).all()
    assert (found.expected_draws[[0, 2]] > 0).all()


def test_draws_follow_the_expected_ones(tiny_model):
    found = measure(tiny_model, samples_per_user=400)
    # Multinomial draws of 3,200: five standard errors.
    expected = found.expected_draws.sum(axis=1)
    assert (abs(found.draws.sum(axis=1) - expected) < 5 * np.sqrt(expected + 1)).all()


def test_items_without_a_title_are_never_drawn_and_have_no_score(tiny_model):
    titles = [*TITLES[:4], "  ", *TITLES[4:], ""]
    found = measure(
        tiny_model, titles=titles, histories=[[4, 1], [2], [10, 4], [0], [3, 11], [11]], n_users=6
    )
    assert np.isnan(found.estimate.scores).nonzero()[0].tolist() == [4, 11]
    assert np.isnan(found.estimate.columns[[4, 11]]).all()
    assert not found.expected_draws[[4, 11]].any()
    assert not found.open_draws[[4, 11]].any()
    assert found.n_tokens[[4, 11]].tolist() == [0, 0]
    assert (found.n_empty, found.n_sharing) == (2, 2)
    assert found.n_users == 5  # the last one has no title to show


def test_a_user_who_has_everything_is_passed_over(tiny_model):
    everything = list(range(len(TITLES)))
    found = measure(tiny_model, histories=[everything, [1], everything, [2], []])
    assert found.n_users == 2
    assert measure(tiny_model, histories=[everything, [1]], exclude_seen=False).n_users == 2


def test_each_user_is_asked_once_and_a_larger_sample_begins_alike(tiny_model, monkeypatch):
    asked = []
    add = _output_draws.OutputDraws.add
    monkeypatch.setattr(
        _output_draws.OutputDraws, "add", lambda self, one: (asked.append(one.user), add(self, one))[1]
    )
    measure(tiny_model, n_users=10)
    all_users = [*asked]
    asked.clear()
    measure(tiny_model, n_users=6)
    assert sorted(all_users) == list(range(10))
    assert asked == [*all_users[:3], *all_users[5:8]]


def test_every_user_has_lots_of_their_own(tiny_model, monkeypatch):
    seeds = []

    def remember(*arguments, **settings):
        seeds.extend(tuple(seed) for seed in settings["seeds"])
        return spread_draws(*arguments, **settings)

    monkeypatch.setattr(_output_draws, "spread_draws", remember)
    measure(tiny_model, n_users=10, seed=3)
    assert sorted(seeds) == [(3, user, 0) for user in range(10)]


def test_users_of_equal_histories_draw_each_for_themselves(tiny_model):
    # So many draws that shares are exact and equal; were the lots too, every count would be even.
    found = measure(tiny_model, histories=[[0, 2]] * 2, n_users=2, prompts=PROMPTS[:1], samples_per_user=50)
    assert (found.draws % 2).any()


def test_each_prompts_titles_are_closed_by_its_own_mark(tiny_model, monkeypatch):
    marks, closing = [], TextModel.closing
    monkeypatch.setattr(TextModel, "closing", lambda self, mark: (marks.append(mark), closing(self, mark))[1])
    measure(tiny_model)
    assert marks == ["\n", '"']


def test_where_users_are_fewer_than_prompts_they_are_asked_again(tiny_model):
    prompts = (*PROMPTS, RecommendationPrompt("third", "{titles} then", "{title}", ", "))
    found = measure(tiny_model, prompts=prompts, n_users=2)
    assert (found.n_users, found.n_questions, found.n_draws) == (2, 3, 12)
    assert_allclose(found.expected_draws.sum(axis=0), [4, 4, 4])
    assert_allclose(measure(tiny_model, prompts=prompts, n_users=9).expected_draws.sum(axis=0), [12, 12, 12])
    found = measure(tiny_model, prompts=prompts, histories=[[0, 2]], n_users=2)
    assert (found.n_users, found.n_questions) == (1, 3)


def test_the_last_titles_are_shown_oldest_first(tiny_model, monkeypatch):
    shown = []
    fill = RecommendationPrompt.fill
    monkeypatch.setattr(
        RecommendationPrompt,
        "fill",
        lambda self, titles, kind: (shown.append(titles), fill(self, titles, kind=kind))[1],
    )
    measure(tiny_model, histories=[[0, 8, 2, 5]] * 2, n_users=2, n_shown=3)
    assert shown == [["zoo 7", "blue", "b"]] * 2


def test_the_length_of_titles_is_held_against_the_scores(tiny_model):
    found = measure(tiny_model)
    assert found.n_tokens.tolist() == [1 + len(title) for title in TITLES]  # a character each, and the space
    from scipy.stats import spearmanr

    assert found.length.value == pytest.approx(spearmanr(found.estimate.scores, found.n_tokens)[0])


def test_plain_values_for_json_name_what_was_done(tiny_model):
    found = measure(tiny_model, kind="film")
    plain = json.loads(json.dumps(found.as_dict()))
    assert plain["prompts"] == ["line", "quoted"]
    assert (plain["kind"], plain["n_draws"], plain["smoothing"], plain["temperature"]) == (
        "film",
        32,
        0.5,
        1.0,
    )
    assert plain["spearman_with_length"]["value"] == found.length.value


# ---- the same again, and again


def test_the_seed_decides_everything(tiny_model, tmp_path, monkeypatch):
    first = measure(tiny_model)
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path / "another"))
    assert bits(measure(tiny_model)) == bits(first)
    assert bits(measure(tiny_model, seed=1)) != bits(first)


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(_output_draws, "_USERS_PER_CHUNK", 2)
    computed = []
    compute = _output_draws.OutputDraws._compute

    def count(self, chunk):
        computed.append(len(chunk))
        return compute(self, chunk)

    monkeypatch.setattr(_output_draws.OutputDraws, "_compute", count)

    def stop(stage, done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(tiny_model, progress=stop)
    assert computed == [2, 2]
    resumed = measure(tiny_model)
    assert computed == [2, 2, 2, 2]
    assert resumed.estimate.cost.n_from_cache == resumed.estimate.cost.n_computed == 16
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path / "another"))
    assert bits(measure(tiny_model)) == bits(resumed)


def test_a_model_stands_for_its_folder_and_keeps_its_device(tiny_model, model):
    assert bits(measure(model)) == bits(measure(tiny_model))
    with pytest.raises(ValueError, match="device must be None beside a model that has one; got 'cpu'"):
        measure(model, device="cpu")


def test_a_second_call_loads_no_model(tiny_model, monkeypatch):
    import transformers

    first = measure(tiny_model)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", None)
    again = measure(tiny_model)
    assert bits(again) == bits(first)
    assert again.estimate.cost.n_tokens == again.estimate.cost.seconds == 0
    assert again.estimate.cost.seconds_when_computed == pytest.approx(first.estimate.cost.seconds)


@pytest.mark.parametrize(
    "change",
    [
        {"titles": ["read", *TITLES[1:]]},
        {"titles": [*TITLES[:-1], "never shown"], "histories": HISTORIES[:3]},
        {"samples_per_user": 5},
        {"seed": 1, "histories": HISTORIES[:1]},
        {"kind": "film"},
        {"n_shown": 1},
        {"exclude_seen": False},
        {"prompts": (RecommendationPrompt("line", "liked\n{titles}\nthen:", "{title}", "\n"),)},
    ],
)
def test_whatever_changes_the_draws_is_not_taken_from_the_cache(tiny_model, change):
    line = {"prompts": PROMPTS[:1]} | {name: change[name] for name in ("histories",) if name in change}
    measure(tiny_model, **line)
    assert measure(tiny_model, **(line | change)).estimate.cost.n_computed > 0


def test_more_users_leave_whole_chunks_as_they_are(tiny_model, monkeypatch):
    monkeypatch.setattr(_output_draws, "_USERS_PER_CHUNK", 2)
    measure(tiny_model, n_users=4)
    assert measure(tiny_model, n_users=8).estimate.cost.n_from_cache == 4 * 4


def test_long_prompts_share_a_chunk_with_fewer_others(tiny_model, monkeypatch):
    chunks = []
    compute = _output_draws.OutputDraws._compute
    monkeypatch.setattr(
        _output_draws.OutputDraws,
        "_compute",
        lambda self, chunk: (chunks.append(chunk), compute(self, chunk))[1],
    )
    monkeypatch.setattr(_output_draws, "_TOKENS_PER_CHUNK", 60)
    measure(tiny_model)
    assert max(len(chunk) for chunk in chunks) > 1
    assert all(len(chunk) == 1 or sum(len(one.ids) for one in chunk) <= 60 for chunk in chunks)


def test_progress_counts_users_up_to_their_number(tiny_model):
    told = []
    measure(tiny_model, progress=lambda *what: told.append(what))
    assert told == [("output frequency", 4, 8), ("output frequency", 8, 8)]


# ---- prompts


@pytest.mark.parametrize("prompt", RECOMMENDATION_PROMPTS, ids=lambda prompt: prompt.name)
def test_a_prompt_ends_where_a_title_begins_and_shows_how_titles_end(prompt):
    text = prompt.fill(["Emma", "Persuasion"], kind="novel")
    assert text.index("Emma") < text.index("Persuasion")
    assert "novel" in text
    assert "{" not in text
    assert not text[-1].isspace()
    mark = '"' if prompt.is_quoted else "\n"
    assert f"Emma{mark}" in text
    assert f"Persuasion{mark}" in text


def test_there_are_five_prompts_or_more_of_both_kinds():
    assert len(RECOMMENDATION_PROMPTS) >= 5
    assert len({prompt.name for prompt in RECOMMENDATION_PROMPTS}) == len(RECOMMENDATION_PROMPTS)
    assert {prompt.is_quoted for prompt in RECOMMENDATION_PROMPTS} == {True, False}


def test_a_title_with_braces_stays_what_it_is_and_a_long_one_is_cut_off():
    prompt = RecommendationPrompt("p", "{kind}: {titles}; {number}:", "{number} {title}", ", ")
    assert (
        prompt.fill(["{kind} {number}", "ab" * 60], kind="x")
        == f"x: 1 {{kind}} {{number}}, 2 {'ab' * 50}; 3:"
    )


def test_titles_have_the_tokens_that_they_have_in_a_prompt(model, monkeypatch):
    assert tokens_in_place(["ab", ""], model, is_quoted=False) == [model.tokenize(" ab"), []]
    assert tokens_in_place(["ab"], model, is_quoted=True) == [model.tokenize("ab")]
    # A tokenizer that joins the quotation mark and an "a" behind it; the title then stands alone.
    joined = {'"': [50], '"ab': [51, 4], "ab": [3, 4], '"b': [50, 4]}
    monkeypatch.setattr(model, "tokenize", joined.__getitem__, raising=False)
    assert tokens_in_place(["ab", "b"], model, is_quoted=True) == [[3, 4], [4]]


# ---- refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_users": 0}, "n_users must be >= 1; got 0"),
        ({"samples_per_user": 0}, "samples_per_user must be >= 1; got 0"),
        ({"n_shown": 0}, "n_shown must be >= 1; got 0"),
        ({"prompts": ()}, "prompts must be one or more of different names; got []"),
        ({"prompts": PROMPTS[:1] * 2}, "got ['line', 'line']"),
        (
            {"titles": ["a", " "], "histories": [[0]] * 4},
            "titles must hold two titles or more; got 1 among 2 items",
        ),
        ({"histories": [[1], [0, 10]]}, "histories must hold items in 0..9; got 10 in history 1"),
        ({"histories": [[-1], [0]]}, "histories must hold items in 0..9; got -1 in history 0"),
        ({"histories": [[], list(range(10))]}, "something left to recommend; got 2 histories and none"),
    ],
)
def test_what_cannot_be_measured_is_refused(tiny_model, change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        measure(tiny_model, **change)


@pytest.mark.llm
@pytest.mark.realdata
def test_the_real_model_recommends_known_films_more_often_than_obscure_ones(fetched, monkeypatch):
    monkeypatch.delenv("TAILWISE_CACHE")
    folder = fetched("smollm2-135m")
    known = ["The Godfather (1972)", "The Lion King (1994)", "Toy Story (1995)", "Titanic (1997)"]
    obscure = ["Kika (1993)", "Mina Tannenbaum (1994)", "Bhaji on the Beach (1993)", "The Stupids (1996)"]
    found = measure_output_frequency(
        [*known, *obscure], [[i, 4 + i] for i in range(4)] * 3, folder, kind="movie", n_users=12
    )
    assert isinstance(found, OutputFrequency)
    assert found.estimate.scores[:4].mean() > found.estimate.scores[4:].mean()
