import json

import numpy as np
import pytest
import torch

from tailwise.diagnosis import _comparison_questions as questions_module
from tailwise.diagnosis._comparison_checks import held_out_accuracy, mean_agreement, report_question
from tailwise.diagnosis._comparison_design import comparison_pairs
from tailwise.diagnosis._comparison_questions import CHAT_QUESTIONS, QUESTIONS, Answers, Question, ask
from tailwise.diagnosis._pairwise import compare_pairs
from tailwise.errors import CannotCompareError, ConfigError
from tailwise.recommenders._text_model import TextModel

N_ITEMS = 60
TITLES = [f"item{i}" for i in range(N_ITEMS)]
COUNTS = np.arange(N_ITEMS)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path))
    return tmp_path


class Planted:
    """A model whose tokens are words, and whose answers follow planted strengths.

    The log-odds of the first answer are ``weight · (strength of first − strength of second) + bias``
    plus noise that depends on the whole prompt.
    """

    folder, dtype, depth, start, has_chat_template = None, "planted", None, 0, False

    def __init__(self, *, weight=1.0, bias=0.0, noise=0.0, name="planted"):
        self.fingerprint = name
        self.weight, self.bias, self.noise = weight, bias, noise
        self.words = ["<s>"]
        self.n_prompts = 0

    def tokenize(self, text):
        for word in text.split():
            if word not in self.words:
                self.words.append(word)
        return [self.words.index(word) for word in text.split()]

    def detokenize(self, ids):
        return " ".join(self.words[i] for i in ids)

    def prefix(self, ids):
        return list(ids)

    def strength(self, word):
        digits = "".join(c for c in word if c.isdigit())
        return np.sin(int(digits) * 12.9898) * 2  # nothing to do with counts

    def next_log_probabilities(self, prompts, *, prefix=None):
        found = torch.full((len(prompts), 500), -20.0)
        for row, prompt in enumerate(prompts):
            self.n_prompts += 1
            words = [self.words[i] for i in [*(prefix or []), *prompt]]
            first, second = (word for word in words if "item" in word)
            rng = np.random.default_rng([int(c) for c in " ".join(words).encode()])
            odds = self.weight * (self.strength(first) - self.strength(second)) + self.bias
            odds += self.noise * rng.standard_normal()
            p = 0.9 / (1 + np.exp(-odds))
            for pair in (("A", "B"), ("a", "b"), ("Yes", "No")):
                if pair[0] in self.words:
                    found[row, self.words.index(pair[0])] = np.log(p)
                    found[row, self.words.index(pair[1])] = np.log(0.9 - p)
        return found


def _truth(model):
    return np.array([model.strength(title) for title in TITLES])


def test_a_planted_order_is_recovered_whatever_the_position_bias():
    model = Planted(weight=0.5, bias=1.5, noise=0.3)
    found = compare_pairs(TITLES, COUNTS, model, n_items=N_ITEMS)
    assert np.corrcoef(found.estimate.scores, _truth(model))[0, 1] > 0.95
    assert found.estimate.column_names == ("letters", "yes-no")
    assert all(np.corrcoef(column, _truth(model))[0, 1] > 0.9 for column in found.estimate.columns.T)
    assert found.questions[0].position_bias_nats == pytest.approx(1.5, abs=0.05)


def test_without_noise_the_scores_are_the_planted_strengths():
    model = Planted(weight=1.0)
    found = compare_pairs(TITLES, COUNTS, model, n_items=N_ITEMS)
    slope = np.polyfit(_truth(model), found.estimate.scores, 1)[0]
    assert np.corrcoef(found.estimate.scores, _truth(model))[0, 1] > 0.999
    assert 0.6 < slope < 1.0  # 0.1 prior wins either way shrink 1.0, most where one item always wins
    assert found.flipped_share == 0.0
    assert found.is_informative
    assert found.sentence == "The model's comparisons of pairs are consistent."


def test_a_model_that_answers_by_position_alone_is_found_out():
    found = compare_pairs(TITLES, COUNTS, Planted(weight=0.0, bias=2.0, noise=0.1), n_items=N_ITEMS)
    assert found.flipped_share == 1.0
    assert [question.first_share for question in found.questions] == [1.0, 1.0]
    assert found.answers_by_position
    assert not found.is_informative
    assert "compares pairs by position, not by item: 100 % of its winners" in found.sentence
    assert found.as_dict()["is_informative"] is False


def test_a_model_that_answers_at_random_is_not_informative():
    found = compare_pairs(TITLES, COUNTS, Planted(weight=0.0, noise=1.0), n_items=N_ITEMS)
    assert found.flipped_share == pytest.approx(0.5, abs=0.1)  # 300 pairs x 2: one error is 0.02
    assert found.held_out_accuracy.low < 0.5
    assert not found.is_informative


def test_questions_that_contradict_each_other_are_not_informative():
    model = Planted(weight=1.0)
    opposite = Question("opposite", "Of {first} and {second} the less known is", ("b", "a"))
    found = compare_pairs(TITLES, COUNTS, model, n_items=N_ITEMS, questions=(QUESTIONS[0], opposite))
    assert found.agreement.value < -0.9
    assert not found.answers_by_position
    assert not found.is_informative
    assert "contradict each other" in found.sentence


def test_items_outside_the_sample_have_no_score_and_equal_titles_are_asked_about_once():
    titles = [*TITLES, "item3", "", "  "]
    counts = np.concatenate([COUNTS, [70, 80, 90]])
    found = compare_pairs(titles, counts, Planted(), n_items=20)
    asked = np.flatnonzero(np.isfinite(found.estimate.scores))
    assert len(asked) == 20 == found.estimate.n_asked
    assert asked.max() < N_ITEMS
    assert np.array_equal(np.isfinite(found.errors), np.isfinite(found.estimate.scores))
    assert found.estimate.scores[asked].mean() == pytest.approx(0, abs=1e-9)


def test_a_second_run_asks_nothing_and_a_stopped_one_goes_on(monkeypatch):
    monkeypatch.setattr(questions_module, "_CHUNK", 50)
    model = Planted()

    def stop(stage, done, total):
        assert (stage, total) == ("pairwise comparison", 2 * len(comparison_pairs(N_ITEMS)))
        if done >= 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_pairs(TITLES, COUNTS, model, n_items=N_ITEMS, progress=stop)
    assert model.n_prompts == 200  # 100 pairs, both orders
    told = []
    found = compare_pairs(TITLES, COUNTS, model, n_items=N_ITEMS, progress=lambda *state: told.append(state))
    n_answers = 4 * len(comparison_pairs(N_ITEMS))
    assert model.n_prompts == n_answers
    assert told[-1][1] == told[-1][2] == n_answers // 2
    assert (found.estimate.cost.n_from_cache, found.estimate.cost.n_computed) == (200, n_answers - 200)
    again = compare_pairs(TITLES, COUNTS, model, n_items=N_ITEMS)
    assert model.n_prompts == n_answers
    assert np.array_equal(again.estimate.scores, found.estimate.scores, equal_nan=True)
    assert again.estimate.cost.seconds == 0.0


def test_too_few_titles_and_no_question_are_refused():
    with pytest.raises(CannotCompareError, match=r"titles must hold 10 different ones .*; got 9 among 9"):
        compare_pairs(TITLES[:9], COUNTS[:9], Planted())
    with pytest.raises(ValueError, match="n_items must be >= 10; got 5"):
        compare_pairs(TITLES, COUNTS, Planted(), n_items=5)
    with pytest.raises(ValueError, match="questions must hold one or more; got none"):
        compare_pairs(TITLES, COUNTS, Planted(), questions=())


def test_the_result_is_plain_json():
    found = compare_pairs(TITLES, COUNTS, Planted(), n_items=20).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


# Asking


@pytest.fixture(scope="module")
def tiny(tiny_model):
    return TextModel(tiny_model, dtype=torch.float32)


def _plain_margin(model, question, first, second, kind):
    """One plain prompt, no shared beginning, no batch."""
    text = question.text.replace("{kind}", kind).replace("{first}", first).replace("{second}", second)
    found = model.next_log_probabilities([[model.start, *model.tokenize(text)]])[0].numpy()
    one, other = (model.tokenize(answer)[0] for answer in question.answers)
    return float(found[one] - found[other]), float(np.exp(found[one]) + np.exp(found[other]))


def test_margins_equal_those_of_plain_prompts_in_both_orders(tiny):
    question = Question("q", "which {kind} {first} or {second}", ("x", "y"))
    titles, pairs = ["red", "blue one", "z"], np.array([[0, 1], [2, 0], [1, 2]])
    found, cost = ask(question, titles, pairs, tiny, kind="toy")
    for row, (i, j) in enumerate(pairs):
        for order, pair in enumerate(((i, j), (j, i))):
            margin, share = _plain_margin(tiny, question, *(titles[k] for k in pair), "toy")
            # Float32 in other batches and with a shared beginning.
            assert found.margins[row, order] == pytest.approx(margin, abs=1e-4)
            assert found.answer_shares[row, order] == pytest.approx(share, abs=1e-5)
    assert cost.n_computed == 6


def test_a_title_that_looks_like_a_place_for_another_stays_as_it_is():
    prompts = []

    class Noted(Planted):
        def next_log_probabilities(self, rests, *, prefix=None):
            prompts.extend(self.detokenize([*(prefix or []), *rest]) for rest in rests)
            return torch.zeros(len(rests), 500)

    question = Question("q", "{first} or {second} ?", ("A", "B"))
    ask(question, ["{second}", "{kind}"], np.array([[0, 1]]), Noted())
    assert prompts == ["<s> {second} or {kind} ?", "<s> {kind} or {second} ?"]


def test_a_long_title_is_cut_in_the_question(tiny):
    question = Question("q", "{first} {second}", ("x", "y"))
    titles = ["a" * 64, "a" * 65, "b"]
    found, _ = ask(question, titles[:1] + titles[2:], np.array([[0, 1]]), tiny)
    margin, _ = _plain_margin(tiny, question, titles[0], "b", "toy")
    assert found.margins[0, 0] == pytest.approx(margin, abs=1e-4)
    seen = []
    spy = Planted()
    spy.next_log_probabilities = lambda rests, *, prefix=None: (
        seen.extend(len(rest) + len(prefix or []) for rest in rests) or torch.zeros(len(rests), 500)
    )
    ask(Question("q", "{first} or {second} ?", ("A", "B")), ["word " * 80, "b"], np.array([[0, 1]]), spy)
    assert seen == [1 + 64 + 3, 1 + 64 + 3]


def test_tokens_that_both_answers_begin_with_go_with_the_prompt(tiny):
    titles, pairs = ["red", "blue"], np.array([[0, 1]])
    apart, together = (
        ask(Question("q", text, answers), titles, pairs, tiny)[0]
        for text, answers in (("{first} {second} fi", ("r", "f")), ("{first} {second}", (" first", " fifth")))
    )
    same = ask(Question("q", "{first} {second} fi", ("rst", "fth")), titles, pairs, tiny)[0]
    np.testing.assert_allclose(same.margins, apart.margins, atol=1e-5)
    np.testing.assert_allclose(together.margins, apart.margins, atol=1e-5)


@pytest.mark.parametrize("answers", [("same", "same"), ("A", "B"), ("on", "one")])
def test_answers_that_the_tokenizer_cannot_tell_apart_are_refused(tiny, answers):
    question = Question("q", "{first} {second}", answers)  # "A" and "B" are unknown to the tiny tokenizer
    with pytest.raises(
        CannotCompareError, match=f"answers of the question 'q' must differ in a token; .*{answers[1]}"
    ):
        ask(question, ["a", "b"], np.array([[0, 1]]), tiny)


def test_chat_questions_need_a_chat_template(tiny):
    question = Question("q", "{first} {second}", ("x", "y"), is_chat=True)
    with pytest.raises(ConfigError, match="model must have a chat template"):
        ask(question, ["a", "b"], np.array([[0, 1]]), tiny)


def test_every_question_names_both_items_and_the_kind_and_has_a_name_of_its_own():
    every = QUESTIONS + CHAT_QUESTIONS
    assert all(place in q.text for q in every for place in ("{kind}", "{first}", "{second}"))
    assert len({question.name for question in every}) == len(every)
    assert [question.is_chat for question in every] == [False, False, True, True]


# Checks


def test_a_report_counts_flips_bias_and_what_is_left_by_hand():
    margins = np.array([[2.0, 1.0], [1.0, -3.0], [-1.0, 1.0], [-1.0, -1.0]])  # flips, no, no, flips
    found = report_question(Answers(QUESTIONS[0], margins, np.full((4, 2), 0.5)))
    assert (found.flipped_share, found.first_share, found.n_pairs) == (0.5, 0.5, 4)
    assert found.position_bias_nats == pytest.approx(-1 / 8)
    assert found.item_margin_nats == pytest.approx(np.std([0.5, 2.0, -1.0, 0.0]))
    assert found.answer_share == 0.5


def test_pairs_are_foreseen_when_margins_are_transitive_and_not_when_they_are_noise():
    pairs = comparison_pairs(80, seed=0)
    rng = np.random.default_rng(0)
    strength = rng.standard_normal(80)
    told = held_out_accuracy(pairs, strength[pairs[:, 0]] - strength[pairs[:, 1]], 80)
    noise = held_out_accuracy(pairs, rng.standard_normal(len(pairs)), 80)
    assert told.low > 0.9
    assert noise.low < 0.5 < noise.high + 0.05
    assert noise.high - noise.low == pytest.approx(2 * 1.96 * 0.5 / len(pairs) ** 0.5, rel=0.02)  # Wilson's


def test_agreement_of_a_single_question_is_not_defined():
    assert mean_agreement(np.zeros((9, 1))) is None
    x = np.arange(9.0)
    assert mean_agreement(np.column_stack([x, x**3])).value == pytest.approx(1.0)
    three = mean_agreement(np.column_stack([x, x, -x]))
    assert three.value == pytest.approx(-1 / 3)


@pytest.mark.llm
def test_answers_of_the_questions_are_one_token_each(fetched):
    model = TextModel(fetched("smollm2-135m"))
    for question in QUESTIONS + CHAT_QUESTIONS:
        assert [len(model.tokenize(answer)) for answer in question.answers] == [1, 1]
