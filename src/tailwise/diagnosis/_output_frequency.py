"""How often an un-tuned language model recommends each item, if it may name nothing else."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tailwise.diagnosis._output_draws import Asked, OutputDraws, sample_users
from tailwise.diagnosis._prior_estimate import PriorCost, PriorEstimate
from tailwise.diagnosis._rank_correlation import rank_correlation
from tailwise.diagnosis._recommendation_prompts import (
    RECOMMENDATION_PROMPTS,
    RecommendationPrompt,
    tokens_in_place,
)
from tailwise.diagnosis._uncertain import Uncertain
from tailwise.recommenders._text_model import TextModel

__all__ = ["OutputFrequency", "measure_output_frequency"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SMOOTHING = 0.5  # draws given to every item beforehand


@dataclass(frozen=True, eq=False)
class OutputFrequency:
    """How often each item was recommended, per prompt.

    Attributes:
        estimate: Scores log((draws + a)/(n + a·n_items)), a = 0.5: draws are *expected* ones over
            all prompts, n those in which the item was not excluded, n_items the items with a
            title. Columns: the same of each prompt alone. NaN for items without a title.
        expected_draws: ``[n_items, n_prompts]`` float64.
        open_draws: ``[n_items, n_prompts]`` int64; draws in which the item was not excluded.
        draws: ``[n_items, n_prompts]`` int64; items actually drawn, from the same probabilities.
        n_tokens: ``[n_items]`` int64; of each title; 0 for empty ones.
        n_users: Whose histories were asked about.
        n_questions: Prompts that were filled: one per user, but one of each at least.
        samples_per_user: How many titles each was recommended, per question.
        n_shown: Titles of a history in its prompt, at most.
        is_seen_excluded: Whether users could be recommended what they had.
        kind: What the prompts call an item.
        n_empty: Items without a title.
        n_sharing: Items whose title another item has too; they share its draws evenly.
        length: Spearman's correlation of the scores with ``n_tokens``, over items: far from
            zero, length would pass for popularity.
    """

    estimate: PriorEstimate
    expected_draws: Floats
    open_draws: Ints
    draws: Ints
    n_tokens: Ints
    n_users: int
    n_questions: int
    samples_per_user: int
    n_shown: int
    is_seen_excluded: bool
    kind: str
    n_empty: int
    n_sharing: int
    length: Uncertain

    @property
    def n_draws(self) -> int:
        """Number of titles drawn, over all questions."""
        return self.n_questions * self.samples_per_user

    @property
    def n_items_drawn(self) -> int:
        """Number of different items among the titles drawn."""
        return int((self.draws.sum(axis=1) > 0).sum())

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON, without those of single items."""
        return {
            "prompts": list(self.estimate.column_names),
            "kind": self.kind,
            "n_users": self.n_users,
            "n_questions": self.n_questions,
            "samples_per_user": self.samples_per_user,
            "n_draws": self.n_draws,
            "n_items_drawn": self.n_items_drawn,
            "n_shown": self.n_shown,
            "is_seen_excluded": self.is_seen_excluded,
            "temperature": 1.0,
            "smoothing": _SMOOTHING,
            "n_empty": self.n_empty,
            "n_sharing": self.n_sharing,
            "spearman_with_length": self.length.as_dict(),
        }


def measure_output_frequency(
    titles: Sequence[str],
    histories: Sequence[ArrayLike],
    model: Path | TextModel,
    *,
    kind: str = "product",
    prompts: Sequence[RecommendationPrompt] = RECOMMENDATION_PROMPTS,
    n_users: int = 240,
    samples_per_user: int = 64,
    n_shown: int = 3,
    exclude_seen: bool = True,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> OutputFrequency:
    """Let a language model recommend titles of the catalogue to real users, and count.

    Each user of a sample is dealt one prompt, filled with the user's last titles, oldest first. From its
    probabilities titles are drawn token by token; at every node of the trie of all titles
    they are restricted to tokens that go on with a title, and made to add up to one. So
    nothing but titles is ever said, and a title of many tokens is not punished for them: where the
    others have parted, its further tokens are certain. What is counted is the expectation
    of the draws as far as it could be computed (:func:`spread_draws`).

    Temperature is 1 and nothing is cut off (no top-p): what is asked is what the model holds likely, and
    sharper sampling would only hide how unlikely the rare items are.

    Excluding what a user has seen takes popular items out of more prompts than rare ones; so an item's
    draws are held against those that it could have had. Users are dealt to prompts without
    overlap, so that the agreement of the columns owes nothing to shared users; only where there are
    fewer of them than prompts, the same users are asked again under the others.

    Results are kept in the user's cache, up to 16 users under one prompt at a time; on the CPU, the
    same arguments give the same bits, whatever came from there.

    Args:
        titles: Of all items, in the order of the catalogue; an empty one is never drawn.
        histories: Per user: items, oldest first. Those without a title to show, or with
            nothing left to recommend, are passed over.
        model: Un-tuned; its folder from :func:`resolve_language_model`, or the model itself, where several
            estimators share one.
        kind: A noun for an item: "movie", "product".
        prompts: How to ask.
        n_users: Size of the sample, >= 1; all, where there are fewer.
        samples_per_user: >= 1.
        n_shown: Titles in a prompt, at most, >= 1.
        exclude_seen: Whether users are not recommended what is in their history.
        seed: Of the sample and the draws.
        device: Where a model that is given as a folder runs; the CPU by default.
        progress: Called with ("output frequency", questions done, in all).

    Raises:
        ValueError: a setting is out of range, a history names no item of the catalogue, no
            history has a title, or there are fewer than two titles.

    Example (``smollm2`` is a folder)::

        found = measure_output_frequency(titles, training_histories(split)[1], smollm2, kind="movie")
        found.estimate.scores
    """
    _check(titles, prompts, n_users=n_users, samples_per_user=samples_per_user, n_shown=n_shown)
    if isinstance(model, TextModel):
        if device is not None:
            raise ValueError(
                f"device must be None beside a model that has one; got {device!r}, and the model is on "
                f"{model.device}.\n  Give the model's folder, or the model alone."
            )
    else:
        model = TextModel(model, device=device)
    clean = [" ".join(title.split()) for title in titles]
    is_titled = np.array([bool(title) for title in clean])
    users = sample_users(histories, is_titled, n_users, exclude_seen=exclude_seen, seed=seed)
    dealt = [
        users[i :: len(prompts)] if i < users.size else users[[i % users.size]] for i in range(len(prompts))
    ]
    n_questions = sum(of_prompt.size for of_prompt in dealt)
    shape = (len(clean), len(prompts))
    expected, open_draws, draws = np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    cost, done = PriorCost(), 0
    tokens = {False: tokens_in_place(clean, model, is_quoted=False)}
    for column, (prompt, of_prompt) in enumerate(zip(prompts, dealt, strict=True)):
        if prompt.is_quoted not in tokens:
            tokens[prompt.is_quoted] = tokens_in_place(clean, model, is_quoted=prompt.is_quoted)
        drawing = OutputDraws(model, prompt, tokens[prompt.is_quoted], samples_per_user, seed)
        for user in of_prompt:
            seen = np.asarray(histories[user], dtype=np.int64)
            shown = [clean[item] for item in seen[is_titled[seen]][-n_shown:]]
            excluded = np.unique(seen) if exclude_seen else seen[:0]
            ids = [model.start, *model.tokenize(prompt.fill(shown, kind=kind))]
            drawing.add(Asked(int(user), ids, excluded[is_titled[excluded]].tolist()))
            open_draws[:, column] += samples_per_user
            open_draws[excluded, column] -= samples_per_user
        for n_asked, found, spent in drawing.draw():
            expected[found["items"], column] += found["expected"]
            draws[found["items"], column] += found["draws"]
            cost += spent
            done += n_asked
            if progress:
                progress("output frequency", done, n_questions)

    def score(drawn: Floats, n: Ints) -> Floats:
        a = _SMOOTHING
        return np.where(is_titled, np.log((drawn + a) / (n + a * is_titled.sum())), np.nan)

    columns = np.column_stack([score(*pair) for pair in zip(expected.T, open_draws.T, strict=True)])
    scores = score(expected.sum(axis=1), open_draws.sum(axis=1))
    n_tokens = np.array([len(ids) if title else 0 for ids, title in zip(tokens[False], clean, strict=True)])
    times = Counter(map(tuple, tokens[False]))
    return OutputFrequency(
        estimate=PriorEstimate("output-frequency", scores, columns, tuple(p.name for p in prompts), cost),
        expected_draws=expected,
        open_draws=np.where(is_titled[:, None], open_draws, 0),
        draws=draws,
        n_tokens=n_tokens,
        n_users=len(users),
        n_questions=n_questions,
        samples_per_user=samples_per_user,
        n_shown=n_shown,
        is_seen_excluded=exclude_seen,
        kind=kind,
        n_empty=int((~is_titled).sum()),
        n_sharing=sum(
            times[tuple(ids)] > 1 for ids, title in zip(tokens[False], clean, strict=True) if title
        ),
        length=rank_correlation(scores, n_tokens, seed=seed),
    )


def _check(titles: Sequence[str], prompts: Sequence[RecommendationPrompt], **settings: int) -> None:
    """Refuse settings out of range."""
    for name, value in settings.items():
        if value < 1:
            raise ValueError(f"{name} must be >= 1; got {value}.\n  The default is a start.")
    if not prompts or len({prompt.name for prompt in prompts}) < len(prompts):
        raise ValueError(
            f"prompts must be one or more of different names; got {[prompt.name for prompt in prompts]}.\n"
            "  RECOMMENDATION_PROMPTS has six."
        )
    n_titled = sum(bool(title.strip()) for title in titles)
    if n_titled < 2:
        raise ValueError(
            f"titles must hold two titles or more; got {n_titled} among {len(titles)} items.\n"
            "  A catalogue of one leaves nothing to choose."
        )
