"""The best items for a batch of questions: what an engine's thread does."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailwise.recommenders import (
    IncrementalReader,
    ItemTokenRecommender,
    Recommender,
    SpanRecommender,
    top_items,
)
from tailwise.serving._engine_settings import EngineSettings
from tailwise.serving._item_matrix import ItemMatrix
from tailwise.serving._user_states import UserStates

__all__ = ["Question", "Ranked", "Ranker"]

Spans = Callable[[int], Iterator[tuple[int, Tensor]]]


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of a model, in its own indices.

    Attributes:
        history: ``[n >= 1]`` item indices, oldest first.
        n: Items wanted, in 1..n_items.
        user_id: Under whom the history's state is kept; None: nowhere.
        hidden: Item indices that may not be listed.
        mask: ``[n_items]`` bool; items that may. None: all.
        is_like: Ask for items whose vectors resemble that of the history's last item.
    """

    history: NDArray[np.int64]
    n: int
    user_id: str | None = None
    hidden: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    mask: NDArray[np.bool_] | None = None
    is_like: bool = False


@dataclass(frozen=True)
class Ranked:
    """The best items that a question allows, best first, equal scores by index.

    Attributes:
        items: Item indices; fewer than ``n`` where fewer may be listed.
        scores: Of them, float32.
    """

    items: list[int]
    scores: list[float]


class Ranker:
    """Answers questions with a recommender: through vectors where it has them, else through its scores.

    Args:
        recommender: Of the catalogue.
        settings: Precision and memory.

    Raises:
        ConfigError: a setting does not suit the recommender.
    """

    def __init__(self, recommender: Recommender, settings: EngineSettings) -> None:
        self._recommender = recommender
        self.states: UserStates | None = None
        self.matrix: ItemMatrix | None = None
        if isinstance(recommender, ItemTokenRecommender):
            self.states = UserStates(
                IncrementalReader(recommender),
                max_bytes=int(settings.state_cache_mb * 1e6),
                window_hop=settings.window_hop,
            )
            self.matrix = ItemMatrix(
                recommender.item_vectors, recommender.n_items, settings.item_dtype, recommender.device
            )

    @property
    def has_vectors(self) -> bool:
        """Whether items have vectors."""
        return self.matrix is not None

    def n_to_read(self, question: Question) -> int:
        """Items of the question's history that would have to go through a backbone now."""
        if self.states is None:  # of those without vectors, the ones with a backbone are modules
            return len(question.history) if isinstance(self._recommender, torch.nn.Module) else 0
        return 0 if question.is_like else self.states.n_to_read(question.user_id, question.history)

    def answer(self, questions: Sequence[Question]) -> list[Ranked]:
        """Answer each question; all of them together or not at all.

        Raises:
            DataError: a score is NaN or ``+inf``.
            ValueError: a question for similar items, and items have no vectors.
        """
        ranked: dict[int, Ranked] = {}
        for is_like in (False, True):
            rows = [row for row, question in enumerate(questions) if question.is_like == is_like]
            if rows:
                own = [questions[row] for row in rows]
                ranked |= zip(rows, self._best(own, is_like), strict=True)
        return [ranked[row] for row in range(len(questions))]

    @torch.no_grad()
    def _best(self, questions: list[Question], is_like: bool) -> list[Ranked]:
        matrix, n = self.matrix, max(question.n for question in questions)
        if matrix is None or self.states is None:
            if is_like:
                raise ValueError("items must have vectors to be compared; got a recommender without.")
            items, scores = self._top(self._scored_spans(questions), questions, n)
            return _as_ranked(items, scores, questions)
        if is_like:
            queries = matrix.unit(torch.tensor([int(question.history[-1]) for question in questions]))
        else:
            queries = self.states.queries([q.user_id for q in questions], [q.history for q in questions])
        spans: Spans = lambda size: matrix.by_span(queries, size, cosine=is_like)  # noqa: E731
        if not matrix.is_rough:
            return _as_ranked(*self._top(spans, questions, n), questions)
        rough, _ = self._top(spans, questions, min(2 * n + 32, matrix.n_items))
        candidates = rough.sort(dim=1).values  # by index, which orders equal scores
        exact = matrix.exact(queries, candidates.clamp_min(0), cosine=is_like)
        exact = exact.masked_fill(candidates < 0, -torch.inf)
        scores, order = exact.sort(dim=1, descending=True, stable=True)
        items = candidates.gather(1, order).masked_fill(scores == -torch.inf, -1)
        return _as_ranked(items[:, :n], scores[:, :n], questions)

    def _top(self, spans: Spans, questions: list[Question], n: int) -> tuple[Tensor, Tensor]:
        allowed = _Allowed(self._recommender.n_items, spans, [question.mask for question in questions])
        return top_items(allowed, [question.hidden for question in questions], n)

    def _scored_spans(self, questions: list[Question]) -> Spans:
        histories = [question.history for question in questions]
        recommender = self._recommender
        if isinstance(recommender, SpanRecommender):
            return lambda size: recommender.scores_by_span(histories, size)
        return lambda _: iter([(0, recommender.scores(histories).clone())])


class _Allowed:
    """Scores span by span, -inf where an item may not be listed: what ``top_items`` reads."""

    def __init__(self, n_items: int, spans: Spans, masks: Sequence[NDArray[np.bool_] | None]) -> None:
        self.n_items = n_items
        self._spans = spans
        self._rows_of: dict[int, list[int]] = {}  # one mask is shared by all who filter alike
        self._masks: dict[int, NDArray[np.bool_]] = {}
        for row, mask in enumerate(masks):
            if mask is not None:
                self._masks[id(mask)] = mask
                self._rows_of.setdefault(id(mask), []).append(row)

    def scores(self, histories: Sequence[object]) -> Tensor:
        """All of them at once."""
        return torch.cat([scores for _, scores in self.scores_by_span(histories, self.n_items)], dim=1)

    def scores_by_span(self, histories: Sequence[object], items_at_once: int) -> Iterator[tuple[int, Tensor]]:
        """The histories are those of the question already."""
        for first, scores in self._spans(items_at_once):
            for key, mask in self._masks.items():
                barred = torch.from_numpy(~mask[first : first + scores.shape[1]]).to(scores.device)
                for row in self._rows_of[key]:
                    scores[row].masked_fill_(barred, -torch.inf)
            yield first, scores


def _as_ranked(items: Tensor, scores: Tensor, questions: list[Question]) -> list[Ranked]:
    answers = []
    for own, values, question in zip(items.tolist(), scores.tolist(), questions, strict=True):
        n = min(question.n, sum(item >= 0 for item in own))  # -1 stands behind all that may be listed
        answers.append(Ranked(own[:n], values[:n]))
    return answers
