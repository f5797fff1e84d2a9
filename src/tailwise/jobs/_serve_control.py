"""One worker's side of a deployment: loads models, replaces them, follows what other workers were told."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import polars as pl
import torch

from tailwise.errors import CheckpointError, TailwiseError
from tailwise.events._log import EventLog
from tailwise.jobs._serve_deployment import Change, Deployed, DeploymentFolder, joined
from tailwise.jobs._serve_models import load_served, parse_source
from tailwise.schema import BRAND, CATEGORY, ITEM, PRICE
from tailwise.serving._drill import Drill
from tailwise.serving._engine import Engine
from tailwise.serving._engine_settings import EngineSettings
from tailwise.serving._http_log import log
from tailwise.serving._http_metrics import Metrics
from tailwise.serving._http_schemas import CatalogueChanged, ItemChange, Models, ServedState, WorkerState
from tailwise.serving._lineup import Lineup, Member
from tailwise.serving._served_catalogue import IN_STOCK, ServedCatalogue
from tailwise.serving._service import VariantUnknownError

__all__ = ["WorkerControl", "build_member", "changed_catalogue"]

_LOOK_S = 0.25  # between two looks at the deployment: what a swap takes longer in the other workers
_RETRY_S = 10.0  # after a load that failed
_OBSERVE_S = 2.0
_KINDS = {PRICE: pl.Float64(), IN_STOCK: pl.Boolean(), CATEGORY: pl.String(), BRAND: pl.String()}


def build_member(
    name: str,
    deployed: Deployed,
    *,
    root: Path,
    device: torch.device,
    settings: EngineSettings,
    changes: Sequence[Change] = (),
    drill: Drill | None = None,
) -> Member:
    """Load a model and make its engine, not started; takes long: call it in a thread.

    Raises:
        TailwiseError: the model cannot be loaded.
    """
    loaded = load_served(name, parse_source(deployed.source, root), device)
    engine = Engine(loaded.model, settings, drill=drill)
    if changes:
        engine.replace_catalogue(changed_catalogue(engine.model.catalogue, changes))
    return Member(
        engine,
        deployed.source,
        generation=deployed.generation,
        known_until=loaded.known_until,
        exclude_seen=loaded.exclude_seen,
    )


def changed_catalogue(catalogue: ServedCatalogue, changes: Sequence[Change]) -> ServedCatalogue:
    """Return the catalogue with changes of the items that it knows."""
    groups: dict[tuple[str, ...], list[Change]] = {}
    for change in joined(changes):
        if catalogue.index_of(change[ITEM]) is not None:
            groups.setdefault(tuple(sorted(change)), []).append(change)
    for columns, rows in groups.items():
        schema = {column: _KINDS.get(column, pl.String()) for column in columns}
        if len(columns) > 1:
            catalogue = catalogue.with_properties(pl.DataFrame(rows, schema=schema))
    return catalogue


class WorkerControl:
    """See :class:`~tailwise.serving.Control`.

    Args:
        folder: The deployment's files.
        lineup: What this worker serves.
        root: Under which models lie.
        device: Where they compute.
        settings: Of their engines.
        event_log: Open.
        metrics: Told of swaps.
        worker: Number of this process.
        changes: Changes of the catalogue that the line-up has taken up already, where the next begin in
            the file, and the number of the last.
        drills: By name; a model that is swapped in does as wrong as the one before.
    """

    def __init__(
        self,
        folder: DeploymentFolder,
        lineup: Lineup,
        *,
        root: Path,
        device: torch.device,
        settings: EngineSettings,
        event_log: EventLog,
        metrics: Metrics,
        worker: int,
        changes: tuple[Sequence[Change], int, int | None] = ((), 0, None),
        drills: Mapping[str, Drill] | None = None,
    ) -> None:
        self._drills = dict(drills or {})
        self.is_ready = False
        self._folder = folder
        self._lineup = lineup
        self._root = root
        self._device = device
        self._settings = settings
        self._event_log = event_log
        self._metrics = metrics
        self._worker = worker
        self._changes = joined(changes[0])
        self._offset = changes[1]
        self._number = changes[2] or 0
        self._error: str | None = None
        self._retry_at = 0.0
        self._one_at_a_time = asyncio.Lock()

    def state(self) -> WorkerState:
        """Return what this worker serves."""
        members = self._lineup.members()
        return WorkerState(
            worker=self._worker,
            pid=os.getpid(),
            generation=max(member.generation for member in members.values()),
            catalogue=self._number,
            error=self._error,
            models=[
                ServedState(
                    name=name,
                    source=member.source,
                    digest=member.engine.model.digest,
                    generation=member.generation,
                    drill=None if member.engine.drill is None else str(member.engine.drill),
                )
                for name, member in members.items()
            ],
        )

    def models(self) -> Models:
        """Return what each worker serves, as it last said; of this one, as it is."""
        own = self.state()
        others = [WorkerState.model_validate(entry) for entry in self._folder.read_workers()]
        workers = sorted(
            [own, *(other for other in others if other.worker != own.worker)], key=lambda state: state.worker
        )
        asked = self._folder.read()
        wanted = {name: model.generation for name, model in asked.models.items()}
        served = [{model.name: model.generation for model in state.models} for state in workers]
        digests = {tuple(model.digest for model in state.models) for state in workers}
        return Models(
            generation=asked.generation,
            is_settled=all(entry == wanted for entry in served) and len(digests) == 1,
            workers=workers,
        )

    def log_state(self) -> Mapping[str, object]:
        """Return the state of the event log."""
        state = self._event_log.state()
        return asdict(state) | {"is_available": state.database == "up"}

    async def put_model(self, name: str, source: str) -> Models:
        """Swap a model; see :meth:`Control.put_model`."""
        if name not in self._lineup:
            raise VariantUnknownError(
                f"name must be one of {', '.join(self._lineup.names)}; got {name!r}. The start gives names."
            )
        async with self._one_at_a_time:
            try:
                member = await self._built(name, Deployed(source))
            except TailwiseError:
                self._metrics.swaps.labels(name, "refused").inc()
                raise
            deployment = await asyncio.to_thread(self._folder.swap, name, source)
            member.generation = deployment.models[name].generation
            self._replace(name, member)
        return self.models()

    async def put_catalogue(self, changes: Sequence[ItemChange]) -> CatalogueChanged:
        """Change properties of items; see :meth:`Control.put_catalogue`."""
        plain = joined([change.model_dump(exclude_unset=True) for change in changes])
        catalogues = [member.engine.model.catalogue for member in self._lineup.members().values()]
        unknown = [
            c[ITEM] for c in plain if all(catalogue.index_of(c[ITEM]) is None for catalogue in catalogues)
        ]
        async with self._one_at_a_time:
            number = await asyncio.to_thread(self._folder.append_changes, plain)
            await self._take_up_changes()
        self._say()
        return CatalogueChanged(
            n_changed=len(plain) - len(unknown), unknown_items=unknown[:100], catalogue=number
        )

    async def follow(self) -> None:
        """Take up what other workers were told, until cancelled."""
        stamp, observed = None, 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                now = self._folder.stamp()
                if now != stamp or (self._error is not None and loop.time() >= self._retry_at):
                    async with self._one_at_a_time:
                        await self._take_up_changes()
                        await self._take_up_models()
                    stamp = now
                    self._say()
                if loop.time() >= observed + _OBSERVE_S:
                    self._metrics.observe(self._lineup, self.state().generation, self.log_state())
                    observed = loop.time()
            except Exception as error:  # a file that is damaged or away: what is served goes on
                log(logging.ERROR, "deployment not followed", error=error)
            await asyncio.sleep(_LOOK_S)

    def _say(self) -> None:
        """Write down for the others what this worker serves."""
        self._folder.write_worker(self._worker, self.state().model_dump())

    def announce(self) -> None:
        """Say that this worker takes requests."""
        self.is_ready = True
        self._say()

    async def _take_up_models(self) -> None:
        deployment = await asyncio.to_thread(self._folder.read)
        self._error = None
        for name, deployed in deployment.models.items():
            if name not in self._lineup or deployed.generation <= self._lineup[name].generation:
                continue
            try:
                self._replace(name, await self._built(name, deployed))
            except TailwiseError as error:
                self._error = f"{name} from {deployed.source!r}: {error}"
                self._retry_at = asyncio.get_running_loop().time() + _RETRY_S
                self._metrics.swaps.labels(name, "failed").inc()
                log(logging.ERROR, "swap failed", error=error, name=name, generation=deployed.generation)

    async def _built(self, name: str, deployed: Deployed) -> Member:
        """Load, make and warm up an engine; nothing is served by it yet."""
        member: Member | None = None
        try:
            member = await asyncio.to_thread(
                build_member,
                name,
                deployed,
                root=self._root,
                device=self._device,
                settings=self._settings,
                changes=tuple(self._changes),
                drill=self._drills.get(name),
            )
            await member.engine.start()
        except TailwiseError:
            raise
        except Exception as error:  # whatever is wrong with a model, the old one goes on
            if member is not None:
                with contextlib.suppress(Exception):
                    await member.engine.close(0)
            raise CheckpointError(
                f"model must load and answer; {deployed.source!r} failed with {type(error).__name__}.\n"
                "  Try it with `tailwise recommend` first."
            ) from error
        return member

    def _replace(self, name: str, member: Member) -> None:
        old = self._lineup[name].engine.model.digest
        self._lineup.replace(name, member)
        new = member.engine.model.digest
        if old != new:
            self._metrics.forget_model(name, old)
        self._metrics.swaps.labels(name, "done").inc()
        log(logging.INFO, "model swapped", name=name, digest=new[:12], generation=member.generation)
        self._say()

    async def _take_up_changes(self) -> None:
        """Apply changes of items that came since the last look."""
        found, self._offset, number = await asyncio.to_thread(self._folder.changes_after, self._offset)
        if number is None:
            return
        self._number = number
        self._changes = joined([*self._changes, *found])
        for member in self._lineup.members().values():
            before = member.engine.model.catalogue
            after = await asyncio.to_thread(changed_catalogue, before, found)
            member.engine.replace_catalogue(after)
