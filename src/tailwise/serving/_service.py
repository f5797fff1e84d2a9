"""From a request to a list: who answers, from which history, and kept before it is shown. No HTTP here."""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailwise.errors import LogUnavailableError
from tailwise.serving._batcher import OverloadedError
from tailwise.serving._lineup import Lineup, Member
from tailwise.serving._protocols import Assignment, ListSink, LiveHistory
from tailwise.serving._records import (
    REFUSED,
    Answer,
    Assigned,
    Filters,
    LoggedItem,
    Query,
    ServedList,
    Surface,
)
from tailwise.serving._refusals import Refusals

if TYPE_CHECKING:
    from tailwise.serving._engine import Engine
    from tailwise.serving._served_model import ServedModel

__all__ = [
    "Ask",
    "EverybodyTo",
    "ItemUnknownError",
    "Served",
    "Service",
    "ServiceSettings",
    "VariantUnknownError",
]

_MAX_HISTORY = 500  # items of a history that are looked at, the most recent


class ItemUnknownError(LookupError):
    """The catalogue of the model that answers does not hold an item that was asked for."""


class VariantUnknownError(LookupError):
    """No served model has this name."""


@dataclass(frozen=True)
class ServiceSettings:
    """How a service treats its requests.

    Attributes:
        time_limit_ms: For the model; after it the most popular items are answered. > 0.
        log_time_limit_ms: For reading what a user did lately, and again for keeping the list; after it
            the answer goes out without. > 0.
        explore_share: Share of requests whose list is drawn, in [0, 1]. Surface ``similar`` is never drawn.
        explore_seed: Of that choice and of the draws.
    """

    time_limit_ms: float = 1000.0
    log_time_limit_ms: float = 500.0
    explore_share: float = 0.0
    explore_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("time_limit_ms", "log_time_limit_ms"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be > 0; got {getattr(self, name)}. It is in milliseconds.")
        if not 0 <= self.explore_share <= 1:
            raise ValueError(f"explore_share must be in [0, 1]; got {self.explore_share}.")


@dataclass(frozen=True)
class Ask:
    """A request for a list.

    Attributes:
        surface: Where it will be shown.
        k: Its length, >= 1.
        user_id: None for an anonymous request.
        history: ``item_id``, oldest first. None: what the run and the log know of the user.
        item_id: What the list shall resemble; on the surface ``similar`` alone.
        exclude: Items that may not be listed.
        exclude_seen: Leave out the items of the history. None: as the model's run did.
        filters: See :class:`Filters`.
        variant: Answer with this model, outside of every experiment. None: the assignment decides.
        received_at: :func:`time.perf_counter` at its arrival; None: now.
    """

    surface: Surface
    k: int
    user_id: str | None = None
    history: tuple[str, ...] | None = None
    item_id: str | None = None
    exclude: frozenset[str] = frozenset()
    exclude_seen: bool | None = None
    filters: Filters = Filters()
    variant: str | None = None
    received_at: float | None = None


@dataclass(frozen=True)
class Served:
    """A list, and what became of it.

    Attributes:
        record: The list as the log keeps it.
        titles: Of its items, in their order.
        is_logged: It is durable in the log.
        is_user_known: The run or the log knows the user; None for an anonymous request.
        warnings: What went wrong on the way without stopping it: ``log-unavailable``,
            ``live-history-unavailable``, ``variant-not-served``.
    """

    record: ServedList
    titles: tuple[str, ...]
    is_logged: bool
    is_user_known: bool | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class EverybodyTo:
    """The assignment without an experiment: one model for all.

    Attributes:
        variant: Its name.
    """

    variant: str

    def assign(self, user_id: str | None, surface: Surface) -> Assigned:
        """Assign; see :class:`Assignment`."""
        return Assigned(self.variant)


@dataclass(frozen=True)
class _History:
    """What a list is made from."""

    items: tuple[str, ...]
    is_user_known: bool | None
    warnings: tuple[str, ...] = ()


class Service:
    """Answers requests with the models of a line-up.

    A request that was assigned a variant and ends without a list is kept too, behind its error
    (``refusals``; close them before the sink).

    Args:
        lineup: Models, started.
        assignment: Who is answered by which; None: everybody by the first.
        sink: Keeps the lists.
        live: Knows what users chose since the models were trained; None: nothing is known.
        settings: See :class:`ServiceSettings`.
        clock: Unix seconds.
    """

    def __init__(
        self,
        lineup: Lineup,
        *,
        sink: ListSink,
        live: LiveHistory | None = None,
        assignment: Assignment | None = None,
        settings: ServiceSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.lineup = lineup
        self.settings = settings or ServiceSettings()
        self._assignment = assignment or EverybodyTo(lineup.default)
        self._sink = sink
        self._live = live
        self._clock = clock
        self.refusals = Refusals(sink)

    async def recommend(self, ask: Ask) -> Served:
        """Answer one request; the list is durable in the log before this returns, or says that it is not.

        Raises:
            OverloadedError: too many requests wait for the model; come back later.
            ItemUnknownError: ``ask.item_id`` is not in the catalogue.
            VariantUnknownError: ``ask.variant`` is no served model.
        """
        started = time.perf_counter() if ask.received_at is None else ask.received_at
        assigned, warnings = self._assigned(ask)
        try:
            return await self._listed(ask, assigned, warnings, started)
        except Exception as error:
            self.refusals.keep(self._refused(ask, assigned, started, error))
            raise

    async def _listed(
        self, ask: Ask, assigned: Assigned, warnings: tuple[str, ...], started: float
    ) -> Served:
        with self.lineup.use(assigned.variant) as member:
            history = await self._history(ask, member)
            recommendation_id = uuid.uuid4().hex
            query = self._query(ask, history, recommendation_id, member)
            answer = await self._answer(ask, query, member)
            titles = _titles(member.engine.model, answer)
            record = ServedList(
                recommendation_id=recommendation_id,
                served_at=self._clock(),
                surface=ask.surface,
                user_id=ask.user_id,
                assigned=assigned,
                model=member.engine.model.digest,
                answer=answer,
                latency_ms=1000 * (time.perf_counter() - started),
                context=_context(ask, member),
            )
        is_logged = await self._keep(record)
        warnings += history.warnings + (() if is_logged else ("log-unavailable",))
        return Served(record, titles, is_logged, history.is_user_known, warnings)

    def _refused(self, ask: Ask, assigned: Assigned, started: float, error: Exception) -> ServedList:
        """What is kept of a request without a list."""
        reasons = {OverloadedError: "overload", ItemUnknownError: "item-unknown"}
        reason = next((word for kind, word in reasons.items() if isinstance(error, kind)), "failed")
        member = self.lineup[assigned.variant]
        return ServedList(
            recommendation_id=uuid.uuid4().hex,
            served_at=self._clock(),
            surface=ask.surface,
            user_id=ask.user_id,
            assigned=assigned,
            model=member.engine.model.digest,
            answer=Answer((), REFUSED, reason),
            latency_ms=1000 * (time.perf_counter() - started),
            context=_context(ask, member),
        )

    def _assigned(self, ask: Ask) -> tuple[Assigned, tuple[str, ...]]:
        if ask.variant is not None:
            if ask.variant not in self.lineup:
                raise VariantUnknownError(
                    f"variant must be one of {', '.join(self.lineup.names)}; got {ask.variant!r}."
                )
            return Assigned(ask.variant), ()
        assigned = self._assignment.assign(ask.user_id, ask.surface)
        if assigned.variant not in self.lineup:  # an experiment names a model that is not served
            return Assigned(self.lineup.default), ("variant-not-served",)
        return assigned, ()

    async def _history(self, ask: Ask, member: Member) -> _History:
        """The request's own history; else what the run knows, and what the log knows since."""
        model = member.engine.model
        known = None if ask.user_id is None else model.histories.of(ask.user_id)
        if ask.history is not None:
            is_known = None if ask.user_id is None else known is not None
            return _History(ask.history[-_MAX_HISTORY:], is_known)
        if ask.user_id is None:
            return _History((), None)
        live: Sequence[LoggedItem] = ()
        warnings: tuple[str, ...] = ()
        if self._live is not None:
            try:
                async with asyncio.timeout(self.settings.log_time_limit_ms / 1000):
                    live = await self._live.items(ask.user_id)
            except (LogUnavailableError, TimeoutError):
                warnings = ("live-history-unavailable",)
        # What was logged before the run's data end is in them already.
        later = [entry.item_id for entry in live if entry.occurred_at > member.known_until]
        ids = model.catalogue.item_ids
        earlier = [] if known is None else [ids[index] for index in known[-_MAX_HISTORY:].tolist()]
        items = (*earlier, *later)
        return _History(items[-_MAX_HISTORY:], known is not None or bool(live), warnings)

    def _query(self, ask: Ask, history: _History, recommendation_id: str, member: Member) -> Query:
        chance, seed = draw(self.settings.explore_seed, recommendation_id)
        explores = chance < self.settings.explore_share  # of lists of similar items the engine draws none
        return Query(
            k=ask.k,
            history=history.items,
            user_id=ask.user_id,
            exclude=ask.exclude,
            exclude_seen=member.exclude_seen if ask.exclude_seen is None else ask.exclude_seen,
            filters=ask.filters,
            explore=explores,
            seed=seed if explores else None,
        )

    async def _answer(self, ask: Ask, query: Query, member: Member) -> Answer:
        engine: Engine = member.engine
        limit_s = self.settings.time_limit_ms / 1000
        if ask.surface != "similar":
            return await engine.rank(query, limit_s)
        if ask.item_id is None or engine.model.catalogue.index_of(ask.item_id) is None:
            raise ItemUnknownError(f"item_id must be in the catalogue; got {ask.item_id!r}.")
        return await engine.similar(ask.item_id, query, limit_s)

    async def _keep(self, record: ServedList) -> bool:
        try:
            async with asyncio.timeout(self.settings.log_time_limit_ms / 1000):
                await self._sink.record(record)
        except (LogUnavailableError, TimeoutError):
            return False
        return True


def draw(seed: int, recommendation_id: str) -> tuple[float, int]:
    """Return a number in [0, 1) and a seed of 63 bits, both decided by the arguments alone.

    Whether a list was drawn, and the draw itself, can so be found again from the log.

    Example:
        >>> draw(0, "a") == draw(0, "a"), draw(0, "a") == draw(1, "a")
        (True, False)
    """
    digest = hashlib.blake2b(f"{seed}:{recommendation_id}".encode(), digest_size=16).digest()
    return int.from_bytes(digest[:7]) / 2**56, int.from_bytes(digest[8:]) >> 1


def _context(ask: Ask, member: Member) -> dict[str, str]:
    """What the log keeps beside the list: what it shall resemble, and that the model was in a drill."""
    context = {} if ask.item_id is None else {"similar_to": ask.item_id}
    return context if member.engine.drill is None else context | {"drill": str(member.engine.drill)}


def _titles(model: "ServedModel", answer: Answer) -> tuple[str, ...]:
    catalogue = model.catalogue
    indices = [catalogue.index_of(slot.item_id) for slot in answer.slots]
    return tuple(catalogue.titles[index] for index in indices if index is not None)
