"""One model behind a queue: queries in, lists out, whatever happens to the model."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tailwise.errors import DataError
from tailwise.serving._batcher import Batcher, EngineClosedError, OverloadedError
from tailwise.serving._drill import Drill
from tailwise.serving._engine_settings import EngineSettings
from tailwise.serving._exploration import draw_list
from tailwise.serving._popular import PopularItems
from tailwise.serving._ranker import Question, Ranked, Ranker
from tailwise.serving._records import Answer, Filters, Query, Slot
from tailwise.serving._served_catalogue import ServedCatalogue
from tailwise.serving._served_model import ServedModel
from tailwise.serving._warm_up import warm_up

__all__ = ["Engine", "EngineState"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineState:
    """What an engine has done and holds, for metrics; counts are since its start.

    Attributes:
        n_waiting: Requests in the queue now.
        n_requests: Queries that came, refused ones included.
        n_answered: Questions that the model answered.
        n_refused: Queries refused because the queue was full.
        n_skipped: Questions whose time was up, or whose asker had gone, before their turn.
        n_batches: Times that the model was asked.
        last_batch: Questions of the last one.
        fallbacks: Most-popular lists by reason.
        cache: Histories by what was kept of them: ``unchanged`` (nothing to read), ``grown`` (new items
            to read), ``anew`` (all to read).
        n_items_read: Items that went through the backbone.
        n_queries_kept: Users whose vector is kept.
        n_readings_kept: Users whose keys and values are kept.
        state_bytes: Of what is kept of users.
        item_bytes: Of item vectors.
    """

    n_waiting: int
    n_requests: int
    n_answered: int
    n_refused: int
    n_skipped: int
    n_batches: int
    last_batch: int
    fallbacks: Mapping[str, int]
    cache: Mapping[str, int]
    n_items_read: int
    n_queries_kept: int
    n_readings_kept: int
    state_bytes: int
    item_bytes: int


class Engine:
    """Answers queries with one model, many at once; see docs/serving-engine.md.

    A query always gets a list, unless it is refused at the door: where the model is too slow or fails, or
    knows nothing of the history, it is that of the most popular items, marked with the reason.

    Making one takes as long as making the vectors of all items: do it in a thread of its own.

    Args:
        model: What answers. Its recommender is the engine's from now on.
        settings: See :class:`EngineSettings`.
        drill: What the model does wrong on purpose; None: nothing.

    Raises:
        ConfigError: a setting does not suit the model.
    """

    def __init__(
        self, model: ServedModel, settings: EngineSettings | None = None, *, drill: Drill | None = None
    ) -> None:
        self._model = model
        self.settings = settings or EngineSettings()
        self.drill = drill
        self._popular = PopularItems(model.catalogue.counts)
        self._ranker = Ranker(model.recommender, self.settings)
        self._batcher = Batcher[Question, Ranked](
            self._ranker.answer if drill is None else drill.slowed(self._ranker.answer),
            max_batch=self.settings.max_batch,
            weigh=self._ranker.n_to_read,
            max_weight=self.settings.max_batch_items,
            max_wait_ms=self.settings.max_wait_ms,
            queue_limit=self.settings.queue_limit,
            prepare=lambda: warm_up(self._ranker, model.recommender.n_items, self.settings),
            name=f"engine-{model.name}",
        )
        self._n_requests = 0
        self._fallbacks: Counter[str] = Counter()

    @property
    def model(self) -> ServedModel:
        """What answers, with the catalogue as it is now."""
        return self._model

    async def start(self) -> None:
        """Start the engine's thread and warm it up: the first request is as quick as any.

        Raises:
            Exception: what the model raised when it was asked.
        """
        await self._batcher.start()

    async def close(self, drain_s: float = 10.0) -> None:
        """Take no more queries; answer those that wait.

        Args:
            drain_s: Time for that; what still waits then gets the most popular items
                (reason ``time-limit``).
        """
        await self._batcher.close(drain_s)

    async def kept_users(self) -> list[str]:
        """Return the users of whom something is kept; none once the engine is closed."""
        states = self._ranker.states
        if states is None:
            return []
        try:
            return await self._batcher.call(states.users)
        except EngineClosedError:
            return []

    async def forget(self, user_ids: Sequence[str]) -> None:
        """Drop what is kept of users, such as those whose data were deleted; the next query reads all anew.

        What a batch that runs now keeps is dropped too. A query that still waits leaves its state once it is
        answered: whoever must be sure forgets again when its time is up.
        """
        states = self._ranker.states
        if states is not None:
            with suppress(EngineClosedError):  # it goes, with all that it keeps
                await self._batcher.call(lambda: states.forget(user_ids))

    def replace_catalogue(self, catalogue: ServedCatalogue) -> None:
        """List by new properties (price, stock, category, brand) from the next query on.

        Raises:
            DataError: it holds other items; these need another model.
        """
        if catalogue.item_ids != self._model.catalogue.item_ids:
            raise DataError(
                f"catalogue must hold the items of model {self._model.name!r} in their order; got others "
                f"({catalogue.n_items:,} for {self._model.catalogue.n_items:,}).\n"
                "  Start an engine for the new model."
            )
        self._model = replace(self._model, catalogue=catalogue)

    async def rank(self, query: Query, timeout_s: float) -> Answer:
        """List what the model thinks the user takes next.

        Args:
            query: See :class:`Query`.
            timeout_s: How long the model may take, queueing included, in seconds.

        Raises:
            OverloadedError: the queue is full; :class:`EngineClosedError` after :meth:`close`.
            ValueError: ``query.k`` is below 1.
        """
        self._n_requests += 1
        history, _ = self._known(query)
        if not history.size:
            return self.most_popular(query, "no-history")
        settings, k = self.settings, self._length_of(query)
        n = min(max(k, settings.n_candidates), self._popular.n_items) if query.explore else k
        question = self._question(query, history, n, user_id=query.user_id)
        ranked = await self._asked(question, timeout_s)
        if isinstance(ranked, str):
            return self.most_popular(query, ranked)
        return self._answer(query, ranked, method="model", explore=query.explore)

    async def similar(self, item_id: str, query: Query, timeout_s: float = 1.0) -> Answer:
        """List what resembles an item; the item itself is left out. Never drawn (``query.explore``).

        Items with vectors are compared by the cosine of these (method ``item-vectors``), so that items
        never trained on are compared by their titles. Else it is what the model says to a
        history of that one item (method ``model``).

        Args:
            item_id: In the catalogue.
            query: Its history matters only for what is left out.
            timeout_s: As in :meth:`rank`.

        Raises:
            OverloadedError: the queue is full; :class:`EngineClosedError` after :meth:`close`.
            ValueError: the catalogue does not know the item, or ``query.k`` is below 1.
        """
        self._n_requests += 1
        item = self._model.catalogue.index_of(item_id)
        if item is None:
            raise ValueError(f"item_id must be in the catalogue; got {item_id!r}.\n  Ask index_of() first.")
        query = replace(query, exclude=query.exclude | {item_id}, explore=False)
        has_vectors = self._ranker.has_vectors
        question = self._question(
            query, np.array([item]), self._length_of(query), user_id=None, is_like=has_vectors
        )
        ranked = await self._asked(question, timeout_s)
        if isinstance(ranked, str):
            return self.most_popular(query, ranked)
        return self._answer(query, ranked, method="item-vectors" if has_vectors else "model", explore=False)

    def most_popular(self, query: Query, reason: str | None = None) -> Answer:
        """List the items with the most training interactions, at once and without the model.

        Args:
            query: Its exclusions and filters hold; it is not drawn.
            reason: Why the model was not asked, or did not answer; None where this was wanted.

        Raises:
            ValueError: ``query.k`` is below 1.
        """
        if reason is not None:
            self._fallbacks[reason] += 1
        hidden, mask = self._barred(query)
        items = self._popular.best(self._length_of(query), without=hidden, mask=mask)
        counts = self._model.catalogue.counts
        ranked = Ranked(items, [float(counts[item]) for item in items])
        return replace(self._answer(query, ranked, method="most-popular", explore=False), reason=reason)

    def state(self) -> EngineState:
        """Return counts and sizes."""
        batcher, states, matrix = self._batcher, self._ranker.states, self._ranker.matrix
        cache = (
            {}
            if states is None
            else {"unchanged": states.n_unchanged, "grown": states.n_grown, "anew": states.n_anew}
        )
        return EngineState(
            n_waiting=batcher.n_waiting,
            n_requests=self._n_requests,
            n_answered=batcher.n_answered,
            n_refused=batcher.n_refused,
            n_skipped=batcher.n_skipped,
            n_batches=batcher.n_batches,
            last_batch=batcher.last_batch,
            fallbacks=dict(self._fallbacks),
            cache=cache,
            n_items_read=0 if states is None else states.n_items_read,
            n_queries_kept=0 if states is None else states.n_queries,
            n_readings_kept=0 if states is None else states.n_readings,
            state_bytes=0 if states is None else states.nbytes,
            item_bytes=0 if matrix is None else matrix.nbytes,
        )

    async def _asked(self, question: Question, timeout_s: float) -> Ranked | str:
        """The model's reply, or why there is none."""
        try:
            if self.drill is not None:
                self.drill.fail_by_chance()
            return await self._batcher.ask(question, timeout_s)
        except OverloadedError:
            raise
        except TimeoutError:
            return "time-limit"
        except Exception:
            _LOG.exception("model %s failed at a request", self._model.name)
            return "model-error"

    def _length_of(self, query: Query) -> int:
        if query.k < 1:
            raise ValueError(f"k must be >= 1; got {query.k}.")
        return min(query.k, self._popular.n_items)

    def _known(self, query: Query) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Indices of the history's items that the catalogue knows, and those that it does not know."""
        index_of = self._model.catalogue.index_of
        indices = [index_of(item_id) for item_id in query.history]
        unknown = tuple(i for i, index in zip(query.history, indices, strict=True) if index is None)
        return np.array([index for index in indices if index is not None], dtype=np.int64), unknown

    def _barred(self, query: Query) -> tuple[set[int], NDArray[np.bool_] | None]:
        """Items that may not be listed, and which may by their properties (None: all)."""
        catalogue = self._model.catalogue
        without = (*query.exclude, *(query.history if query.exclude_seen else ()))
        hidden = {index for item_id in without if (index := catalogue.index_of(item_id)) is not None}
        return hidden, None if query.filters == Filters() else catalogue.mask(query.filters)

    def _question(
        self, query: Query, history: NDArray[np.int64], n: int, *, user_id: str | None, is_like: bool = False
    ) -> Question:
        hidden, mask = self._barred(query)
        return Question(history, n, user_id, np.fromiter(hidden, np.int64, count=len(hidden)), mask, is_like)

    def _answer(self, query: Query, ranked: Ranked, *, method: str, explore: bool) -> Answer:
        catalogue = self._model.catalogue
        places = list(range(min(self._length_of(query), len(ranked.items))))
        chances = [1.0] * len(places)
        temperature = self._model.temperature or self.settings.temperature
        if explore:
            # By index: a last bit that changes the order of the best must not change who gets which noise.
            by_index = sorted(range(len(ranked.items)), key=ranked.items.__getitem__)
            drawn, propensities = draw_list(
                [ranked.scores[place] for place in by_index],
                len(places),
                temperature=temperature,
                seed=query.seed,
            )
            places, chances = [by_index[row] for row in drawn.tolist()], propensities.tolist()
        slots = tuple(
            Slot(
                position=position,
                item_id=catalogue.item_ids[ranked.items[place]],
                score=ranked.scores[place],
                segment=catalogue.segments[ranked.items[place]],
                propensity=chance,
            )
            for position, (place, chance) in enumerate(zip(places, chances, strict=True), start=1)
        )
        history, unknown = self._known(query)
        return Answer(
            slots,
            method,
            history_length=len(history),
            unknown_items=unknown,
            is_explored=explore,
            temperature=temperature if explore else None,
            n_candidates=len(ranked.items) if explore else None,
        )
