"""Asking a language model which of two items is better known, in both orders."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailwise.diagnosis._prior_cache import Arrays, PriorCache
from tailwise.diagnosis._prior_estimate import PriorCost
from tailwise.errors import CannotCompareError
from tailwise.recommenders._text_model import TextModel

__all__ = ["CHAT_QUESTIONS", "QUESTIONS", "Answers", "Question", "ask"]

Floats = NDArray[np.float64]
_CHUNK = 100  # pairs per cached file, both orders; a run that is stopped goes on at the next
_MAX_TOKENS = 64  # of a title
_RECIPE = "pairwise/2"  # raise when what is stored changes
_PLACES = re.compile(r"(\{kind\}|\{first\}|\{second\})")


@dataclass(frozen=True)
class Question:
    """One way to ask which of two items is better known.

    Attributes:
        name: Of the way.
        text: With ``{kind}``, ``{first}`` and ``{second}``; ends where the answer begins.
        answers: Texts for "the first" and "the second", with a space before them where the text
            ends without one. What is looked at is the first token in which they differ.
        is_chat: Whether the text is put to the model as a user's message.
    """

    name: str
    text: str
    answers: tuple[str, str]
    is_chat: bool = False


QUESTIONS = (
    Question(
        "letters",
        "Which {kind} is better known?\n(a) {first}\n(b) {second}\nAnswer: (",
        ("a", "b"),
    ),
    Question(
        "yes-no",
        'Question: Is the {kind} "{first}" better known than the {kind} "{second}"?\nAnswer:',
        (" Yes", " No"),
    ),
)
CHAT_QUESTIONS = (
    Question(
        "letters-chat",
        "Which {kind} is better known?\nA: {first}\nB: {second}\nAnswer with A or B only.",
        ("A", "B"),
        is_chat=True,
    ),
    Question(
        "yes-no-chat",
        'Is the {kind} "{first}" better known than the {kind} "{second}"? Answer yes or no.',
        ("Yes", "No"),
        is_chat=True,
    ),
)


@dataclass(frozen=True, eq=False)
class Answers:
    """What one question found.

    Attributes:
        question: What was asked.
        margins: ``[n_pairs, 2]`` float64; log p("the first") − log p("the second") with the
            pair in its order, and the same with the pair turned around, both in nats.
        answer_shares: ``[n_pairs, 2]`` float64; probability that the next token is one of the
            two answers at all.
    """

    question: Question
    margins: Floats
    answer_shares: Floats


def ask(
    question: Question,
    titles: Sequence[str],
    pairs: NDArray[np.int64],
    model: TextModel,
    *,
    kind: str = "product",
    progress: Callable[[int], None] | None = None,
) -> tuple[Answers, PriorCost]:
    """Put one question for every pair, in both orders.

    The text before the first title is read once. Results are kept in the user's cache, 100 pairs at
    a time.

    Args:
        question: How to ask.
        titles: ``[n_items]``.
        pairs: ``[n_pairs, 2]``; positions in ``titles``.
        model: Un-tuned.
        kind: A noun for an item.
        progress: Called with the number of pairs that were answered since the last call.

    Raises:
        CannotCompareError: the model's tokenizer cannot tell the answers of the question apart.
        ConfigError: the question is a chat and the model has no chat template.
    """
    begun, answers = _answer_tokens(question, model)
    cache = PriorCache(
        model.fingerprint,
        _RECIPE,
        {
            "dtype": str(model.dtype),
            "depth": model.depth,
            "max_tokens": _MAX_TOKENS,
            "text": question.text,
            "answers": list(question.answers),
            "is_chat": question.is_chat,
            "kind": kind,
        },
    )
    short = [_cut(title.strip(), model) for title in titles]
    cost = PriorCost()
    found: list[Floats] = []
    for begin in range(0, len(pairs), _CHUNK):
        texts = [(short[first], short[second]) for first, second in pairs[begin : begin + _CHUNK]]

        def compute(texts: list[tuple[str, str]] = texts) -> tuple[Arrays, int]:
            ordered = [pair for first, second in texts for pair in ((first, second), (second, first))]
            prompts = [[*_prompt(question, *pair, kind, model), *begun] for pair in ordered]
            values, n_tokens = _next(prompts, answers, model)
            return {"log_probabilities": values}, n_tokens

        arrays, spent = cache.get([list(pair) for pair in texts], compute, n_answers=2 * len(texts))
        found.append(arrays["log_probabilities"].reshape(-1, 2, 2))  # [pairs, orders, answers]
        cost += spent
        if progress:
            progress(len(texts))
    values = np.concatenate(found)
    return Answers(question, values[..., 0] - values[..., 1], np.exp(values).sum(axis=-1)), cost


def _answer_tokens(question: Question, model: TextModel) -> tuple[list[int], list[int]]:
    """Return the tokens that both answers begin with, a space say, and the first that differs."""
    first, second = (model.tokenize(answer) for answer in question.answers)
    for i, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return first[:i], [one, other]
    raise CannotCompareError(
        f"answers of the question {question.name!r} must differ in a token; got {question.answers}, which "
        f"the tokenizer of {model.folder.name} turns into {first} and {second}.\n  Word them differently."
    )


def _cut(title: str, model: TextModel) -> str:
    """Return a title as it is, or the text of its first 64 tokens."""
    ids = model.tokenize(title)
    return title if len(ids) <= _MAX_TOKENS else model.detokenize(ids[:_MAX_TOKENS]).strip()


def _prompt(question: Question, first: str, second: str, kind: str, model: TextModel) -> list[int]:
    """Return the tokens up to where the answer begins."""
    # In one pass, so that a title which holds "{second}" stays what it is.
    parts = {"{kind}": kind, "{first}": first, "{second}": second}
    text = "".join(parts.get(piece, piece) for piece in _PLACES.split(question.text))
    return model.chat(text) if question.is_chat else [model.start, *model.tokenize(text)]


def _next(prompts: Sequence[Sequence[int]], answers: Sequence[int], model: TextModel) -> tuple[Floats, int]:
    """Log-probabilities of the answers after each prompt, ``[n_prompts, 2]``, and the tokens read."""
    shared = 0
    shortest = min(map(len, prompts))
    while shared < shortest - 1 and len({prompt[shared] for prompt in prompts}) == 1:
        shared += 1
    rests = [prompt[shared:] for prompt in prompts]
    prefix = model.prefix(prompts[0][:shared]) if shared else None
    values = model.next_log_probabilities(rests, prefix=prefix)[:, list(answers)]
    return values.numpy().astype(np.float64), shared + sum(map(len, rests))
