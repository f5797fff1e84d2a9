"""What the pages are made from, at the edge: whoever runs the dashboard hands these in."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from tailwise.dashboard._alarms import Alarm
from tailwise.dashboard._outbox import Deliveries
from tailwise.experiments import AuditEntry, CatalogueShare, Evidence, Experiment, Rollout

__all__ = [
    "DashboardSource",
    "ExperimentTables",
    "ListMaker",
    "LiveTables",
    "ShownItem",
    "ShownList",
]


@dataclass(frozen=True, eq=False)
class ExperimentTables:
    """What was counted in one experiment.

    Attributes:
        outcomes: As ``user_outcomes`` makes it, of every metric of level ``user``; ``variant`` holds the
            names of the experiment's models.
        exposures: A row per exposed user in order of first exposure, or in any: ``user_id``, ``variant``,
            ``stage``, ``exposed_at``.
        evidence: Of the latest look; None before the first.
        catalogue: As ``describe_catalogue`` makes it; empty: not measured.
    """

    outcomes: pl.DataFrame
    exposures: pl.DataFrame
    evidence: Evidence | None = None
    catalogue: tuple[CatalogueShare, ...] = ()


@dataclass(frozen=True, eq=False)
class LiveTables:
    """What was shown and chosen lately, of the whole service.

    Attributes:
        shown: Slots that were filled: ``day`` (unix seconds of its beginning, UTC), ``variant``, ``segment``
            and their number ``n``; any number of rows for one of these.
        choices: A row per click or purchase: ``item_id``, ``occurred_at``.
    """

    shown: pl.DataFrame
    choices: pl.DataFrame


@dataclass(frozen=True)
class ShownItem:
    """One place of a list as a person reads it.

    Attributes:
        position: 1 is the first.
        item_id: Which.
        title: Of the catalogue, as it is: pages escape it.
        segment: head, mid, tail or cold.
    """

    position: int
    item_id: str
    title: str
    segment: str


@dataclass(frozen=True)
class ShownList:
    """What one model would show a user now.

    Attributes:
        variant: Name of the model.
        items: Best first.
        note: Why it is no list of the model itself; empty where it is.
    """

    variant: str
    items: tuple[ShownItem, ...]
    note: str = ""


class ListMaker(Protocol):
    """Asks both models of an experiment for a user's list, without logging it."""

    async def __call__(self, experiment: Experiment, user_id: str, k: int) -> tuple[ShownList, ShownList]:
        """Return control's and treatment's list.

        Raises:
            TailwiseError: a model is not served, or cannot answer now.
        """
        ...


class DashboardSource(Protocol):
    """Where the pages get their numbers. Calls may read a database; none is made in the event loop."""

    def version(self) -> Hashable:
        """Return what changes whenever a page could; quick: the log's last number, the store's version.

        Raises:
            LogUnavailableError: nothing can be read now. So of every other call.
        """
        ...

    def rollouts(self) -> Sequence[Rollout]:
        """Return every experiment and where it stands, newest first. Quick."""
        ...

    def decisions(self, name: str, limit: int) -> Sequence[AuditEntry]:
        """Return the latest lines of an experiment's audit log, newest first. Quick."""
        ...

    def tables(self, name: str) -> ExperimentTables:
        """Read what was counted in an experiment; may take long."""
        ...

    def live(self) -> LiveTables:
        """Read what was shown and chosen lately; may take long."""
        ...

    def users(self, name: str, n: int) -> Sequence[str]:
        """Return some users of an experiment, of both cohorts."""
        ...

    def alarms(self) -> Sequence[Alarm]:
        """Return the monitor's alarms, newest first. Quick."""
        ...

    def deliveries(self) -> Deliveries:
        """Return who has not been told of which alarms yet. Quick."""
        ...
