"""From the event log to what an experiment's statistics read: who was exposed, and what they did since."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa

from tailwise.events._database import Database
from tailwise.events._frames_out import reading
from tailwise.events._tables import DELETIONS, EVENTS, LISTS
from tailwise.experiments import (
    METRICS,
    Enrolled,
    Experiment,
    Metric,
    user_outcomes,
)
from tailwise.experiments._evidence import SERVICE_COLUMNS
from tailwise.serving import REFUSED

__all__ = ["ExperimentReader", "metrics_to_decide"]

DAY_S = 86_400.0
_PAGE = 50_000
_OVERLAP = 10_000  # rows of PostgreSQL read again: a row may be committed after one of a higher number
_FELL_BACK = ("time-limit", "model-error")

_LISTS: dict[str, Any] = {
    "seq": pl.Int64,
    "recommendation_id": pl.String,
    "user_id": pl.String,
    "variant": pl.String,
    "stage": pl.Int64,
    "served_at": pl.Float64,
    "method": pl.String,
    "reason": pl.String,
    "latency_ms": pl.Float64,
}
_EVENTS: dict[str, Any] = {
    "seq": pl.Int64,
    "event_id": pl.String,
    "type": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "occurred_at": pl.Float64,
    "session_id": pl.String,
    "revenue": pl.Float64,
    "currency": pl.String,
    "recommendation_id": pl.String,
}
_READ_EVENTS = (
    *(
        EVENTS.c[name]
        for name in ("seq", "event_id", "type", "user_id", "item_id", "occurred_at", "session_id")
    ),
    (EVENTS.c.revenue_e4 / 10_000.0).label("revenue"),
    EVENTS.c.currency,
    EVENTS.c.recommendation_id,
)


def metrics_to_decide(experiment: Experiment) -> tuple[Metric, ...]:
    """Return the metrics that the machine's decisions read: limits of the policy and goals."""
    names = dict.fromkeys([*(limit.metric for limit in experiment.policy.effects), *experiment.metrics])
    return tuple(METRICS[name] for name in names)


class ExperimentReader:
    """Follows one experiment through the log; every look reads what came since the last one.

    **Exposed** is who was shown a list, not who was assigned or answered: a user counts from the moment
    the first list was served (the server's clock) that the experiment counts and of which an impression
    was logged. A list that never reached a screen exposes nobody.

    Errors, fallbacks and slow requests are those of **everybody who asked**, from the first request on,
    answered or not: a treatment that answers nobody exposes nobody, and must be seen.

    What was read stays in memory: some hundred bytes for each list of the experiment, each click and
    purchase, and, where a metric needs them, each impression. After an audited deletion everything is
    read anew.

    Args:
        database: Of the log.
        experiment: Its definition.
        items: ``item_id`` and ``segment``: one division of the catalogue for both variants.
        metrics: What :meth:`outcomes` and :meth:`enrolled` measure. None: what decisions need.
    """

    def __init__(
        self,
        database: Database,
        experiment: Experiment,
        items: pl.DataFrame,
        metrics: Iterable[Metric] | None = None,
    ) -> None:
        self.experiment = experiment
        self.items = items
        self.metrics = metrics_to_decide(experiment) if metrics is None else tuple(metrics)
        self._database = database
        columns = {column for metric in self.metrics for column in metric.columns}
        self._keeps_impressions = any("impressions" in c or c == "sessions" for c in columns)
        self._forget()

    def _forget(self) -> None:
        self._lists = pl.DataFrame(schema=_LISTS)
        self._events = pl.DataFrame(schema=_EVENTS)
        self._seen = pl.DataFrame(schema={"recommendation_id": pl.String, "user_id": pl.String})
        self._last = {"lists": 0, "events": 0}
        self._deletion: int | None = None

    def refresh(self) -> None:
        """Read what was logged since the last call.

        Raises:
            LogUnavailableError: the database cannot be read; what was read before stays.
        """
        with reading(self._database) as connection:
            newest = connection.execute(sa.select(sa.func.max(DELETIONS.c.deletion_id))).scalar()
            if self._deletion is not None and (newest or 0) != self._deletion:
                self._forget()
            of_lists = sa.select(*(LISTS.c[name] for name in _LISTS)).where(
                LISTS.c.experiment == self.experiment.name,
                LISTS.c.in_experiment,
                LISTS.c.user_id.is_not(None),
            )
            lists = self._read(connection, of_lists, LISTS, _LISTS)
            events = self._read(connection, sa.select(*_READ_EVENTS), EVENTS, _EVENTS)
            self._deletion = newest or 0
        # Nothing is kept before everything was read.
        self._lists = pl.concat([self._lists, *lists]).unique("seq", keep="first", maintain_order=True)
        self._take_events(events)
        for name, frames in (("lists", lists), ("events", events)):
            if frames and frames[-1].height:
                self._last[name] = max(self._last[name], int(frames[-1]["seq"][-1]))

    def _read(
        self, connection: sa.Connection, statement: sa.Select[Any], table: sa.Table, schema: Mapping[str, Any]
    ) -> list[pl.DataFrame]:
        after = self._last[table.name] - (0 if self._database.is_sqlite else _OVERLAP)
        frames = []
        while True:
            page = statement.where(table.c.seq > after).order_by(table.c.seq).limit(_PAGE)
            rows = [tuple(row) for row in connection.execute(page)]
            frames.append(pl.DataFrame(rows, schema=dict(schema), orient="row"))
            if len(rows) < _PAGE:
                return frames
            after = rows[-1][0]

    def _take_events(self, frames: list[pl.DataFrame]) -> None:
        kept, seen = [self._events], [self._seen]
        for frame in frames:
            shown = frame.filter(pl.col("type") == "impression")
            seen.append(shown.select("recommendation_id", "user_id").drop_nulls().unique())
            kept.append(frame if self._keeps_impressions else frame.filter(pl.col("type") != "impression"))
        self._events = pl.concat(kept).unique("seq", keep="first", maintain_order=True)
        self._seen = pl.concat(seen).unique(maintain_order=True)

    def events(self) -> pl.DataFrame:
        """Return the events read so far, as :func:`user_outcomes` takes them; impressions where needed."""
        return self._events.with_columns(segment=pl.lit(None, pl.String))

    def exposures(self) -> pl.DataFrame:
        """Return the first exposure of every user, in order.

        Returns:
            ``user_id``, ``variant`` (name of the served model), ``stage``, ``exposed_at`` (unix seconds). A
            user who was shown both variants of a count is there twice: the statistics refuse that.
        """
        shown = self._lists.filter(pl.col("method") != REFUSED).join(
            self._seen, on=["recommendation_id", "user_id"], how="semi"
        )
        first = shown.sort("served_at", "seq").unique(
            ["user_id", "variant"], keep="first", maintain_order=True
        )
        return first.select("user_id", "variant", "stage", exposed_at="served_at").sort(
            "exposed_at", "user_id"
        )

    def outcomes(self, now: float) -> pl.DataFrame:
        """Measure every user whose window has closed; see :func:`user_outcomes`.

        Args:
            now: Unix seconds; ``inf`` for all users, open windows included.
        """
        exposures = self.exposures()
        days = self.experiment.policy.window_days
        return user_outcomes(
            self.events(),
            exposures,
            self.metrics,
            window_days=days,
            now=now,
            items=self.items.select("item_id", "segment"),
            covariate_days=days if self._knows_before(exposures, days) else None,
        )

    def _knows_before(self, exposures: pl.DataFrame, days: float) -> bool:
        """The log reaches a window back before the first exposure, so that CUPED has something to go by."""
        earliest, first = self._events["occurred_at"].min(), exposures["exposed_at"].min()
        if not isinstance(earliest, float) or not isinstance(first, float):
            return False
        return earliest <= first - days * DAY_S

    def enrolled(self) -> Enrolled:
        """Return everybody exposed so far, and everybody who asked, with what became of the requests."""
        table = self.outcomes(float("inf"))
        skipped = {
            "user_id",
            "variant",
            "stage",
            "exposed_at",
            "window_closes_at",
            "is_returning",
            "currency",
        }
        columns = {
            name: table[name].cast(pl.Float64).fill_null(0.0).to_numpy()
            for name in table.columns
            if name not in skipped
        }
        return Enrolled(
            exposed_at=table["exposed_at"].to_numpy().astype(np.float64),
            treated=(table["variant"] == self.experiment.treatment).to_numpy().astype(np.bool_),
            stage=table["stage"].to_numpy().astype(np.int64),
            columns=columns,
            asked=self._asked(),
        )

    def _asked(self) -> Enrolled:
        """Everybody who asked, and what became of the requests soon after the first."""
        limits = self.experiment.policy.service
        # A user has one variant while the experiment counts; of a log that says otherwise, the first.
        first = self._lists.sort("served_at", "seq").unique("user_id", keep="first", maintain_order=True)
        askers = first.select("user_id", "variant", "stage", asked_at="served_at").sort("asked_at", "user_id")
        since = pl.col("served_at") - pl.col("asked_at")
        mine = self._lists.join(askers.select("user_id", "variant", "asked_at"), on=["user_id", "variant"])
        is_refused = pl.col("method") == REFUSED
        counted = (
            mine.filter(since < limits.window_hours * 3600)
            .group_by("user_id")
            .agg(
                requests=pl.len(),
                errors=(is_refused | (pl.col("reason") == "model-error").fill_null(False)).sum(),
                fallbacks=(~is_refused & pl.col("reason").is_in(_FELL_BACK).fill_null(False)).sum(),
                slow_requests=(pl.col("latency_ms") > limits.latency_p95_ms).sum(),
            )
        )
        table = askers.join(counted, on="user_id", how="left", maintain_order="left")
        return Enrolled(
            exposed_at=table["asked_at"].to_numpy().astype(np.float64),
            treated=(table["variant"] == self.experiment.treatment).to_numpy().astype(np.bool_),
            stage=table["stage"].to_numpy().astype(np.int64),
            columns={name: table[name].cast(pl.Float64).to_numpy() for name in SERVICE_COLUMNS},
        )
