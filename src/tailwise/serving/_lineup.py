"""The models that answer, by name; one is replaced without a request noticing."""

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailwise.serving._engine import Engine

__all__ = ["Lineup", "Member"]


class Member:
    """A model in its place: its engine, and how many requests are with it.

    Args:
        engine: Started.
        source: Where the model came from, as the deployment writes it: ``runs/first/adamw``.
        generation: Of the deployment that put it there; 0 is that of the start.
        known_until: Unix seconds of the last interaction that the model's known histories hold; later
            ones are asked of the log.
        exclude_seen: Whether items of the history are left out where a request does not say.
    """

    def __init__(
        self,
        engine: "Engine",
        source: str,
        *,
        generation: int = 0,
        known_until: float = -math.inf,
        exclude_seen: bool = True,
    ) -> None:
        self.engine = engine
        self.source = source
        self.generation = generation
        self.known_until = known_until
        self.exclude_seen = exclude_seen
        self.n_in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def in_use(self) -> Iterator["Engine"]:
        """Hold the engine open inside the block."""
        self.n_in_flight += 1
        self._idle.clear()
        try:
            yield self.engine
        finally:
            self.n_in_flight -= 1
            if not self.n_in_flight:
                self._idle.set()

    async def retire(self, drain_s: float) -> None:
        """Close the engine when the last request has left it, or ``drain_s`` have passed."""
        try:
            async with asyncio.timeout(drain_s):
                await self._idle.wait()
        except TimeoutError:
            pass  # what is left is answered by the fallback of an engine that closes
        await self.engine.close(drain_s)


class Lineup:
    """Which model answers under which name; the first is the one for everybody.

    Args:
        members: At least one; their order stays.
        drain_s: How long a replaced model may finish what it has begun; seconds.

    Raises:
        ValueError: there is no member.
    """

    def __init__(self, members: Mapping[str, Member], *, drain_s: float = 30.0) -> None:
        if not members:
            raise ValueError("members must hold at least one model; got none.")
        self._members = dict(members)
        self._drain_s = drain_s
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of the start."""
        return tuple(self._members)

    @property
    def default(self) -> str:
        """Name of the first model."""
        return next(iter(self._members))

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> Member:
        return self._members[name]

    def members(self) -> dict[str, Member]:
        """Return who answers now."""
        return dict(self._members)

    @contextmanager
    def use(self, name: str) -> Iterator[Member]:
        """Hold one member for one request: a swap meanwhile concerns later requests alone.

        Raises:
            KeyError: no model has this name.
        """
        member = self._members[name]
        with member.in_use():
            yield member

    async def kept_users(self) -> set[str]:
        """Return the users of whom an engine keeps something."""
        found = await asyncio.gather(*(each.engine.kept_users() for each in self._members.values()))
        return set().union(*found)

    async def forget(self, user_ids: Sequence[str]) -> None:
        """Drop what the engines keep of users; see :meth:`Engine.forget`."""
        await asyncio.gather(*(each.engine.forget(user_ids) for each in self._members.values()))

    def replace(self, name: str, member: Member) -> None:
        """Let another model answer from now on; the old one is closed when it has finished.

        Args:
            name: Of a model that is there.
            member: With an engine that is started and warm.

        Raises:
            KeyError: no model has this name.
        """
        old = self._members[name]
        self._members[name] = member  # one assignment between two steps of the event loop
        task = asyncio.get_running_loop().create_task(old.retire(self._drain_s))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def close(self, drain_s: float) -> None:
        """Close every engine, those that were replaced included."""
        await asyncio.gather(
            *(member.retire(drain_s) for member in self._members.values()),
            *self._retiring,
            return_exceptions=True,
        )
