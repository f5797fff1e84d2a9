"""A log of lists and events by hand, and a small shop whose rare items are liked, for experiments."""

import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tailwise.events import Event, EventLog
from tailwise.serving import REFUSED, Answer, Assigned, ServedList, Slot

NOW = 1_764_000_000.0
DAY = 86_400.0
ITEMS = pl.DataFrame({"item_id": ["h1", "h2", "t1", "t2"], "segment": ["head", "head", "tail", "tail"]})


class Shop:
    """Writes into a log what a service and its users would have written."""

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self.database = database or f"sqlite:///{folder / 'log.db'}"
        self._log = EventLog.open(self.database, spool=folder / "spool")
        self._n = 0

    def list(self, user: str | None, variant: str = "control", **named: Any) -> str:
        served = self._list(user, variant, **named)
        asyncio.run(self._log.record(served))
        return served.recommendation_id

    def _list(
        self,
        user: str | None,
        variant: str,
        *,
        at: float = NOW,
        stage: int | None = 0,
        counted: bool = True,
        experiment: str | None = "x",
        reason: str | None = None,
        latency_ms: float = 5.0,
        items: tuple[str, ...] = ("h1", "t1"),
        is_refused: bool = False,
    ) -> ServedList:
        if is_refused:
            items, reason = (), reason or "overload"
        list_id = uuid.UUID(int=self._next()).hex
        slots = tuple(Slot(place, item, 1.0, "head") for place, item in enumerate(items, 1))
        return ServedList(
            recommendation_id=list_id,
            served_at=at,
            surface="home",
            user_id=user,
            assigned=Assigned(variant, experiment, stage, in_experiment=counted),
            model="m",
            answer=Answer(
                slots, REFUSED if is_refused else "model" if reason is None else "most-popular", reason
            ),
            latency_ms=latency_ms,
        )

    def lists(self, lists: Sequence[dict[str, Any]]) -> None:
        """Lists, all at once; keywords of :meth:`list`."""
        made = [self._list(**each) for each in lists]

        async def keep() -> None:
            await asyncio.gather(*map(self._log.record, made))

        asyncio.run(keep())

    def event(self, kind: Any, user: str, item: str, *, at: float, list_id: str | None = None) -> None:
        asyncio.run(self._log.append([self._event(kind, user, item, at=at, list_id=list_id)]))

    def visits(self, visits: Sequence[tuple[str, str, float, int]], *, stage: int = 0) -> None:
        """Lists that were seen, and clicks on a tail item: (user, variant, moment, clicks), all at once."""
        lists = [self._list(user, variant, at=at, stage=stage) for user, variant, at, _ in visits]
        events = []
        for served, (user, _, at, n_clicks) in zip(lists, visits, strict=True):
            list_id = served.recommendation_id
            events.append(self._event("impression", user, "h1", at=at + 1, list_id=list_id))
            events += [self._event("click", user, "t1", at=at + 2 + n) for n in range(n_clicks)]

        async def keep() -> None:
            await asyncio.gather(*map(self._log.record, lists))
            await self._log.append(events)

        asyncio.run(keep())

    def _event(self, kind: Any, user: str, item: str, *, at: float, list_id: str | None = None) -> Event:
        money = {"revenue": 10.0, "currency": "EUR"} if kind == "purchase" else {}
        return Event(
            f"e{self._next()}", kind, user, item, at, recommendation_id=list_id, session_id="s", **money
        )

    def shown(self, user: str, variant: str = "control", *, at: float = NOW, **named: Any) -> str:
        """A list, and an impression of its first item a second later."""
        list_id = self.list(user, variant, at=at, **named)
        self.event("impression", user, "h1", at=at + 1, list_id=list_id)
        return list_id

    def forget(self, user: str) -> None:
        asyncio.run(self._log.delete_user(user, by="a-key", reason="asked"))

    def close(self) -> None:
        asyncio.run(self._log.close(5))

    def _next(self) -> int:
        self._n += 1
        return self._n


def write_shop(folder: Path, *, n_users: int = 240, n_items: int = 60, seed: int = 0) -> tuple[Path, Path]:
    """A log of Zipf popularity over ten weeks, whose users keep to one of four kinds; a catalogue."""
    rng = np.random.default_rng(seed)
    weight = 1 / np.arange(1, n_items + 1)
    rows = []
    for user in range(n_users):
        kind = user % 4
        liked = weight * np.where(np.arange(n_items) % 4 == kind, 8.0, 1.0)
        chosen = rng.choice(n_items, 16, replace=False, p=liked / liked.sum())
        times = np.sort(rng.uniform(0, 70 * DAY, chosen.size))
        rows += [
            (f"u{user:03}", f"i{item:02}", NOW - 70 * DAY + at)
            for item, at in zip(chosen, times, strict=True)
        ]
    folder.mkdir(parents=True, exist_ok=True)
    log, items = folder / "log.csv", folder / "items.csv"
    columns = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Float64}
    table = pl.DataFrame(rows, schema=columns, orient="row").with_columns(pl.col("timestamp").cast(pl.Int64))
    table.write_csv(log)
    names = [f"i{item:02}" for item in range(n_items)]
    prices = np.round(20 * np.exp(0.5 * rng.standard_normal(n_items)), 2)
    pl.DataFrame({"item_id": names, "title": [f"thing {n}" for n in names], "price": prices}).write_csv(items)
    return log, items
