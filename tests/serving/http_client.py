"""A service without a run: models that shift, a log in memory or in a database, a client in this process."""

import asyncio
import json
import threading
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import httpx
import numpy as np
import torch

from tailwise.errors import LogUnavailableError, TailwiseError
from tailwise.events import Appended, Deleted, Event, EventLog, LogReader
from tailwise.events._routes import event_router
from tailwise.serving import (
    Engine,
    EngineSettings,
    KnownHistories,
    LoggedItem,
    ServedCatalogue,
    ServedList,
    ServedModel,
)
from tailwise.serving._http_app import create_app
from tailwise.serving._http_keys import KeyStore
from tailwise.serving._http_schemas import CatalogueChanged, ItemChange, Models, ServedState, WorkerState
from tailwise.serving._lineup import Lineup, Member
from tailwise.serving._service import Service, ServiceSettings, VariantUnknownError

T = TypeVar("T")
N_ITEMS = 30
FAST = EngineSettings(warm_up=False)
PATIENT = ServiceSettings(time_limit_ms=20_000, log_time_limit_ms=20_000)  # on a busy machine


class Shifts:
    """Thinks that item ``i`` is followed by ``i + shift``; may sleep, may fail."""

    def __init__(self, shift: int = 1, *, seconds: float = 0.0, fails: bool = False) -> None:
        self.shift, self.seconds, self.fails = shift, seconds, fails

    @property
    def n_items(self) -> int:
        return N_ITEMS

    def scores(self, histories: Sequence[Any]) -> torch.Tensor:
        time.sleep(self.seconds)
        if self.fails:
            raise RuntimeError("secret-of-a-user")
        scores = torch.zeros(len(histories), N_ITEMS)
        for row, history in enumerate(histories):
            first = int(history[-1]) + self.shift if len(history) else 0
            for rank in range(N_ITEMS):
                scores[row, (first + rank) % N_ITEMS] = -float(rank)
        return scores


def model(shift: int = 1, *, name: str = "control", seconds: float = 0.0, fails: bool = False) -> ServedModel:
    """A model of 30 items a00..a29; item 0 is the most popular, a29 is cold; ann and bob are known."""
    counts = np.arange(N_ITEMS)[::-1]
    catalogue = ServedCatalogue(
        [f"a{i:02d}" for i in range(N_ITEMS)],
        [f"<b>Thing</b> {i}" for i in range(N_ITEMS)],
        counts,
        ["head"] * 6 + ["tail"] * 23 + ["cold"],
        categories=["even" if i % 2 == 0 else "odd" for i in range(N_ITEMS)],
        prices=[float(i) for i in range(N_ITEMS)],
    )
    return ServedModel(
        name,
        f"digest-{shift}",
        Shifts(shift, seconds=seconds, fails=fails),
        catalogue,
        KnownHistories.from_histories(["ann", "bob"], [[3, 4], [10]]),
    )


def member(shift: int = 1, *, settings: EngineSettings = FAST, **named: Any) -> Member:
    return Member(Engine(model(shift, **named), settings), f"run/{shift}", known_until=1000.0)


@dataclass
class MemoryLog:
    """Keeps what it is given; may be away, or slow."""

    lists: list[ServedList] = field(default_factory=list)
    events: dict[str, Event] = field(default_factory=dict)
    live: dict[str, list[LoggedItem]] = field(default_factory=dict)
    is_away: bool = False
    seconds: float = 0.0

    async def _wait(self) -> None:
        await asyncio.sleep(self.seconds)
        if self.is_away:
            raise LogUnavailableError("The log must be there; it is away.")

    async def record(self, served: ServedList) -> None:
        await self._wait()
        self.lists.append(served)

    async def items(self, user_id: str) -> list[LoggedItem]:
        await self._wait()
        return self.live.get(user_id, [])

    async def append(self, events: Sequence[Event]) -> Appended:
        await self._wait()
        new = [event for event in events if event.event_id not in self.events]
        self.events |= {event.event_id: event for event in reversed(new)}
        kept = len({event.event_id for event in new})
        return Appended(n_new=kept, n_duplicates=len(events) - kept)

    async def delete_user(self, user_id: str, by: str, reason: str) -> Deleted:
        await self._wait()
        if user_id in by.split() or user_id in reason.split():
            raise ValueError("user_id outlives")
        gone = [key for key, event in self.events.items() if event.user_id == user_id]
        for key in gone:
            del self.events[key]
        return Deleted(len(gone), 0)


class DatabaseLog(EventLog):
    """The log of the service itself; what is in it is read over a connection of another's."""

    @property
    def events(self) -> dict[str, Any]:
        """By id, what is stored and what it is owed to."""
        reader = LogReader(self._database.url.render_as_string(hide_password=False))
        rows = [row for frame in reader.events() for row in frame.rows(named=True)]
        reader.close()
        assert len({row["event_id"] for row in rows}) == len(rows)
        return {row["event_id"]: SimpleNamespace(**row) for row in rows}

    @property
    def lists(self) -> list[Any]:
        """Each with its items, in the order in which they were served."""
        reader = LogReader(self._database.url.render_as_string(hide_password=False))
        rows = [row for frame in reader.slots() for row in frame.rows(named=True)]
        reader.close()
        found: dict[str, Any] = {}
        for row in rows:
            one = found.setdefault(row["recommendation_id"], SimpleNamespace(**row, items=[]))
            one.items.append(row["item_id"])
        return list(found.values())


class OneWorker:
    """A control without files."""

    def __init__(self, lineup: Lineup) -> None:
        self.is_ready = True
        self.lineup = lineup
        self.changes: list[ItemChange] = []

    def state(self) -> WorkerState:
        models = [
            ServedState(name=name, source=m.source, digest=m.engine.model.digest, generation=m.generation)
            for name, m in self.lineup.members().items()
        ]
        return WorkerState(worker=0, pid=1, generation=0, catalogue=0, error=None, models=models)

    def models(self) -> Models:
        return Models(generation=0, is_settled=True, workers=[self.state()])

    def log_state(self) -> dict[str, object]:
        return {"is_available": True, "queued": 3}

    async def put_model(self, name: str, source: str) -> Models:
        if name not in self.lineup:
            raise VariantUnknownError(f"name must be one of {self.lineup.names}; got {name!r}.")
        if not source.isdecimal():
            raise TailwiseError(f"source must be a number; got {source!r}.")
        new = member(int(source))
        await new.engine.start()
        self.lineup.replace(name, new)
        return self.models()

    async def put_catalogue(self, changes: Sequence[ItemChange]) -> CatalogueChanged:
        self.changes += changes
        return CatalogueChanged(n_changed=len(changes), unknown_items=[], catalogue=1)


class Client:
    """Asks an application in this process; everything runs in one event loop of its own."""

    def __init__(
        self,
        folder: Path,
        members: dict[str, Member] | None = None,
        *,
        log: MemoryLog | EventLog | None = None,
        service: dict[str, Any] | None = None,
        **app: Any,
    ) -> None:
        self.log: Any = log or MemoryLog()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.keys = KeyStore(folder / "keys.json")
        self.token: str | None = None
        self.forgotten: list[str] = []
        self.lineup = Lineup(members or {"control": member(1), "treatment": member(2)}, drain_s=5.0)
        self.control = OneWorker(self.lineup)
        self.service = Service(
            self.lineup, sink=self.log, live=self.log, **({"settings": PATIENT} | (service or {}))
        )
        timeout_s = 10.0 if isinstance(log, EventLog) else 1.0  # a database on a busy machine
        router = event_router(
            self.log, max_batch=app.pop("max_batch", 1000), timeout_s=timeout_s, forget=self._forget
        )
        self.app = create_app(self.service, self.control, keys=self.keys, routers=[router], **app)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")
        self.run(self._start())

    async def _forget(self, user_id: str) -> None:
        self.forgotten.append(user_id)

    async def _start(self) -> None:
        for each in self.lineup.members().values():
            await each.engine.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 30.0) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def ask(self, method: str, path: str, body: Any = None, **named: Any) -> httpx.Response:
        return self.run(self.asking(method, path, body, **named))

    async def asking(self, method: str, path: str, body: Any = None, **named: Any) -> httpx.Response:
        headers = dict(named.pop("headers", {}))
        if self.token is not None:
            headers.setdefault("authorization", f"Bearer {self.token}")
        if body is not None:
            headers.setdefault("content-type", "application/json")
            named["content"] = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.request(method, path, headers=headers, **named)

    def lists(self, **body: Any) -> Any:
        """Ask for a list, which must be given."""
        answer = self.ask("POST", "/v1/recommendations", {"surface": "home", **body})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def new_key(self, *roles: str, **named: Any) -> str:
        return self.keys.create("test", roles, **named)[1]

    def close(self) -> None:
        async def stop() -> None:
            await self.http.aclose()
            await self.lineup.close(2.0)
            await self.service.refusals.close(2.0)
            if isinstance(self.log, EventLog):
                await self.log.close(5.0)

        self.run(stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


def ids(answer: Any) -> list[str]:
    return [item["item_id"] for item in answer["items"]]
