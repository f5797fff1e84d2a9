"""How much likelier an un-tuned language model finds a title once it is told what it is of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.diagnosis._length_check import without_length
from tailwise.diagnosis._prior_cache import Arrays, PriorCache
from tailwise.diagnosis._prior_estimate import PriorCost, PriorEstimate
from tailwise.recommenders._text_model import TextModel

__all__ = ["CONTENTLESS", "TEMPLATES", "TitleLikelihood", "title_likelihood"]

Floats = NDArray[np.float64]

TEMPLATES = (
    "A popular {kind}:",
    "The best-known {kind} of its sort is",
    "I would like to recommend the {kind}",
    "Title of the {kind}:",
    "Review of the {kind}",
    "This is about a well-known {kind} called",
)
CONTENTLESS = "Text:"  # tells nothing about the kind of what follows

_CHUNK = 256  # titles under one prompt per cached file; a run that is stopped goes on at the next
_MAX_TOKENS = 64  # of a title; the rest is cut off
_RECIPE = "title-likelihood/2"  # raise when what is stored changes


@dataclass(frozen=True, eq=False)
class TitleLikelihood:
    """The likelihood of every title, with and without knowing the kind of item.

    Attributes:
        estimate: Its columns, one per template, are means over the title's tokens of
            log p(token | template, earlier tokens) − log p(token | contentless prompt, earlier
            tokens), in nats per token; its scores are their mean. NaN for empty titles.
        n_tokens: ``[n_items]`` int64; tokens of each title that were read; 0 for empty ones.
        naive_mean: ``[n_items]`` float64; nats per token under the templates alone.
        naive_sum: ``[n_items]`` float64; the same summed over the title's tokens, which
            ranks titles by their length more than by anything else.
        unadjusted: ``[n_items]`` float64; the scores before length was taken out; the scores
            themselves where it was not.
        prompts: The templates with the kind filled in, the contentless prompt last.
        is_length_adjusted: Whether what length predicts of the columns was taken out.
        n_cut: Titles cut off at 64 tokens.
        n_empty: Titles without a single token.
        n_duplicates: Items whose title an earlier item has; computed once.
    """

    estimate: PriorEstimate
    n_tokens: NDArray[np.int64]
    naive_mean: Floats
    naive_sum: Floats
    unadjusted: Floats
    prompts: tuple[str, ...]
    is_length_adjusted: bool
    n_cut: int
    n_empty: int
    n_duplicates: int

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON, without the values of single items."""
        return {
            "prompts": list(self.prompts),
            "unit": "nats per token",
            "is_length_adjusted": self.is_length_adjusted,
            "most_tokens": _MAX_TOKENS,
            "n_cut": self.n_cut,
            "n_empty": self.n_empty,
            "n_duplicates": self.n_duplicates,
        }


def title_likelihood(
    titles: Sequence[str],
    model: TextModel,
    *,
    kind: str = "product",
    templates: Sequence[str] = TEMPLATES,
    contentless: str = CONTENTLESS,
    length_adjusted: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> TitleLikelihood:
    """Ask for every title how likely it is, under several prompts that name the kind of item.

    The seam: a prompt ends without a space, and a title is turned into tokens by itself, with one
    space before it. So a title has the same tokens under every prompt, and every difference is
    between probabilities of the same tokens. Each prompt is read once; titles that occur
    more than once are too. Results are kept in the user's cache, 256 titles at a time.

    Args:
        titles: Of all items, in the order of the catalogue; any may be empty.
        model: Un-tuned.
        kind: A noun for an item: "movie", "product".
        templates: Prompts with ``{kind}``; each must end where a title would begin.
        contentless: The prompt to compare with, the same for all.
        length_adjusted: Take out of each column what the number of title tokens predicts of it
            (:func:`without_length`); docs/decisions/0010-prior-estimators.md says why.
        progress: Called with ("title likelihood", titles × prompts done, in all).

    Raises:
        ValueError: there is no title or template, or a prompt ends with a space.

    Example (``model`` is a :class:`TextModel`)::

        title_likelihood(["Toy Story (1995)", "Fargo (1996)"], model, kind="movie").estimate.scores
    """
    prompts = _prompts(templates, contentless, kind)
    if not len(titles):
        raise ValueError("titles must hold one title or more; got none.\n  Pass those of the catalogue.")
    # In the catalogue's order, so that items added at its end leave the chunks before them as they are.
    different = [title for title in dict.fromkeys(title.strip() for title in titles) if title]
    position = {title: i for i, title in enumerate(different)}
    of_item = np.array([position.get(title.strip(), -1) for title in titles])  # [n_items]
    ids, n_cut = _tokens(different, of_item, model)
    sums, cost = _sums(different, ids, prompts, model, progress)  # [n_different, n_prompts]
    lengths = np.array([len(of_title) for of_title in ids], dtype=np.float64)
    is_empty = of_item < 0
    n_tokens = np.where(is_empty, 0, np.append(lengths, 0)[of_item]).astype(np.int64)

    def per_item(values: Floats) -> Floats:
        unknown = np.full((1, *values.shape[1:]), np.nan)
        found: Floats = np.concatenate([values, unknown])[of_item]  # position -1 is the unknown
        return found

    per_token = sums / lengths[:, None] if different else sums
    columns = per_item(per_token[:, :-1] - per_token[:, -1:])
    unadjusted = columns.mean(axis=1)
    if length_adjusted:
        columns = np.column_stack([without_length(column, n_tokens) for column in columns.T])
    return TitleLikelihood(
        estimate=PriorEstimate("title-likelihood", columns.mean(axis=1), columns, tuple(prompts[:-1]), cost),
        n_tokens=n_tokens,
        naive_mean=per_item(per_token[:, :-1].mean(axis=1)),
        naive_sum=per_item(sums[:, :-1].mean(axis=1)),
        unadjusted=unadjusted,
        prompts=prompts,
        is_length_adjusted=length_adjusted,
        n_cut=n_cut,
        n_empty=int(is_empty.sum()),
        n_duplicates=int((~is_empty).sum()) - len(different),
    )


def _prompts(templates: Sequence[str], contentless: str, kind: str) -> tuple[str, ...]:
    """Fill in the kind; check that every prompt leaves the space to the title."""
    if not templates:
        raise ValueError("templates must hold one prompt or more; got none.\n  TEMPLATES has six.")
    prompts = (*(template.replace("{kind}", kind) for template in templates), contentless)
    for prompt in prompts:
        if not prompt or prompt[-1].isspace():
            raise ValueError(
                f"templates must end where a title begins, without a space; got {prompt!r}.\n"
                "  The space goes with the title, so that it has the same tokens under every prompt."
            )
    return prompts


def _tokens(
    different: Sequence[str], of_item: NDArray[np.int64], model: TextModel
) -> tuple[list[list[int]], int]:
    """Return the tokens of each title, cut off, and how many items were cut off."""
    whole = [model.tokenize(f" {title}") for title in different]
    is_long = np.array([*(len(ids) > _MAX_TOKENS for ids in whole), False])
    return [ids[:_MAX_TOKENS] for ids in whole], int(is_long[of_item].sum())


def _sums(
    titles: Sequence[str],
    ids: Sequence[Sequence[int]],
    prompts: Sequence[str],
    model: TextModel,
    progress: Callable[[str, int, int], None] | None,
) -> tuple[Floats, PriorCost]:
    """Sum the log-probabilities of each title's tokens: ``[n_titles, n_prompts]``."""
    cache = PriorCache(
        model.fingerprint,
        _RECIPE,
        {"dtype": str(model.dtype), "depth": model.depth, "max_tokens": _MAX_TOKENS},
    )
    sums = np.empty((len(titles), len(prompts)))
    cost, done = PriorCost(), 0
    for column, prompt in enumerate(prompts):
        asked = _Asked(model, prompt)
        for begin in range(0, len(titles), _CHUNK):
            chunk = slice(begin, begin + _CHUNK)
            found, spent = cache.get(
                {"prompt": prompt, "titles": list(titles[chunk])},
                lambda asked=asked, chunk=chunk: asked(ids[chunk]),  # type: ignore[misc]
                n_answers=len(titles[chunk]),
            )
            sums[chunk, column] = found["sums"]
            cost += spent
            done += len(titles[chunk])
            if progress:
                progress("title likelihood", done, len(titles) * len(prompts))
    return sums, cost


class _Asked:
    """A prompt that the model reads when the first chunk of titles needs it, and then never again."""

    def __init__(self, model: TextModel, prompt: str) -> None:
        self._model = model
        self._ids = [model.start, *model.tokenize(prompt)]
        self._prefix: Any = None

    def __call__(self, ids: Sequence[Sequence[int]]) -> tuple[Arrays, int]:
        n_tokens = sum(map(len, ids))
        if self._prefix is None:
            self._prefix = self._model.prefix(self._ids)
            n_tokens += len(self._ids)
        found = self._model.log_probabilities(self._prefix, ids)
        return {"sums": np.array([of_title.sum(dtype=np.float64) for of_title in found])}, n_tokens
