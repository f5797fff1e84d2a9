"""A deleted user leaves the engines of every process on the log."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tailwise.events import EventLog
from tailwise.jobs._serve_deletions import Forgetter
from tailwise.serving import Engine, EngineSettings, Lineup, Member, Query, ServedModel
from tests.events.making import opened, until
from tests.serving.engines import NOBODY, catalogue, sasrec


@dataclass
class Worker:
    """What a process of the service has: engines, its own log on the shared database."""

    lineup: Lineup
    forgetter: Forgetter
    log: EventLog

    async def ask(self, user: str, *history: str) -> None:
        for member in self.lineup.members().values():
            await member.engine.rank(Query(k=2, history=history or ("i1", "i2"), user_id=user), 10)

    async def kept(self) -> list[str]:
        return sorted(await self.lineup.kept_users())


def with_workers(folder: Path, work: Callable[[Worker, Worker], Awaitable[None]]) -> None:
    async def main() -> None:
        url = f"sqlite:///{folder}/events.db"
        async with opened(url, folder / "spool") as one, opened(url, folder / "spool") as two:
            workers = []
            for log in (one, two):
                engines = [
                    Engine(
                        ServedModel(name, "d", sasrec(seed), catalogue(), NOBODY),
                        EngineSettings(warm_up=False),
                    )
                    for seed, name in enumerate(["control", "treatment"])
                ]
                lineup = Lineup({engine.model.name: Member(engine, "run") for engine in engines})
                for engine in engines:
                    await engine.start()
                workers.append(Worker(lineup, Forgetter(lineup, log, again_s=1.0, look_s=0.02), log))
            following = [asyncio.create_task(worker.forgetter.follow()) for worker in workers]
            try:
                async with asyncio.timeout(30):
                    await work(*workers)
            finally:
                for task in following:
                    task.cancel()
                for worker in workers:
                    await worker.lineup.close(1)

    asyncio.run(main())


async def until_kept(worker: Worker, users: list[str]) -> None:
    async with asyncio.timeout(10):
        while await worker.kept() != users:
            await asyncio.sleep(0.01)


def test_every_process_on_the_log_drops_a_deleted_user_and_keeps_the_others(tmp_path: Path) -> None:
    async def work(one: Worker, two: Worker) -> None:
        for worker in (one, two):
            await worker.ask("ann")
            await worker.ask("bob")
        await one.log.delete_user("ann", by="key", reason="asked")
        for worker in (one, two):
            await until_kept(worker, ["bob"])

    with_workers(tmp_path, work)


def test_the_process_that_is_told_drops_the_user_before_it_answers(tmp_path: Path) -> None:
    async def work(one: Worker, two: Worker) -> None:
        await one.ask("ann")
        await one.forgetter.forget("ann")
        assert await one.kept() == []

    with_workers(tmp_path, work)


def test_a_request_that_was_under_way_leaves_nothing_for_long(tmp_path: Path) -> None:
    """It had read the history before the deletion; it is answered after the engines have dropped the user."""

    async def work(one: Worker, two: Worker) -> None:
        await one.ask("ann")
        await one.log.delete_user("ann", by="key", reason="asked")
        await until_kept(one, [])
        await one.ask("ann")
        await until_kept(one, [])
        await one.ask("ann")  # later requests are new ones: a user may come back
        await asyncio.sleep(1.3)
        assert await one.kept() == ["ann"]

    with_workers(tmp_path, work)


def test_a_log_that_cannot_be_read_for_a_while_only_delays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tailwise.errors import LogUnavailableError

    async def work(one: Worker, two: Worker) -> None:
        n_refused = 0

        async def away(after: int = 0) -> None:
            nonlocal n_refused
            n_refused += 1
            raise LogUnavailableError("away")

        await one.ask("ann")
        with monkeypatch.context() as patch:
            patch.setattr(one.log, "user_deletions", away)
            await two.log.delete_user("ann", by="key", reason="asked")
            await until(lambda: n_refused > 2)
            assert await one.kept() == ["ann"]
        await until_kept(one, [])

    with_workers(tmp_path, work)
