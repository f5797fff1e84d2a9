"""What was shown and chosen lately, day by day: the drift of the tail and of popularity."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from tailwise.dashboard._alarms import Alarm
from tailwise.dashboard._sources import LiveTables
from tailwise.diagnosis import Drift, measure_drift
from tailwise.schema import ITEM_INDEX, TIMESTAMP

__all__ = ["DailyShare", "LivePage", "daily_shares", "live_page"]

_SEGMENTS = ("head", "mid", "tail", "cold")
_FEWEST_CHOICES = 100


@dataclass(frozen=True)
class DailyShare:
    """Shares of one day's slots.

    Attributes:
        day: Unix seconds of its beginning, UTC.
        n_slots: Slots that were filled.
        shares: By segment.
    """

    day: int
    n_slots: int
    shares: dict[str, float]


@dataclass(frozen=True, eq=False)
class LivePage:
    """The page of the live lists.

    Attributes:
        segments: In order.
        by_variant: Name of a model -> its days.
        drift: Of what is clicked and bought, in windows of equal counts; None: too few choices.
        n_choices: Clicks and purchases.
        open_alarms: Raised and not cleared, newest first.
        past_alarms: Everything that was written, newest first; at most 50.
    """

    segments: tuple[str, ...]
    by_variant: dict[str, tuple[DailyShare, ...]]
    drift: Drift | None
    n_choices: int
    open_alarms: tuple[Alarm, ...]
    past_alarms: tuple[Alarm, ...]


def live_page(tables: LiveTables, alarms: Sequence[Alarm]) -> LivePage:
    """Compute the page of the live lists.

    Args:
        tables: What was shown and chosen.
        alarms: Newest first.
    """
    latest: dict[tuple[str, str], Alarm] = {}
    for alarm in alarms:
        latest.setdefault(alarm.key, alarm)
    shown = tables.shown
    seen = set(shown["segment"].unique().drop_nulls().to_list()) if shown.height else set()
    known = tuple(s for s in _SEGMENTS if s in seen) + tuple(sorted(seen - set(_SEGMENTS)))
    variants = sorted(shown["variant"].unique().drop_nulls().to_list()) if shown.height else []
    return LivePage(
        segments=known,
        by_variant={name: daily_shares(shown.filter(pl.col("variant") == name), known) for name in variants},
        drift=_drift(tables.choices),
        n_choices=tables.choices.height,
        open_alarms=tuple(alarm for alarm in latest.values() if alarm.state == "raised"),
        past_alarms=tuple(alarms[:50]),
    )


def daily_shares(shown: pl.DataFrame, segments: Sequence[str]) -> tuple[DailyShare, ...]:
    """Share each day's slots out over the segments, oldest day first.

    Example:
        >>> shown = pl.DataFrame(
        ...     {"day": [0, 0, 86_400], "segment": ["head", "tail", "tail"], "n": [1, 1, 1]}
        ... )
        >>> [(day.n_slots, day.shares["tail"]) for day in daily_shares(shown, ("head", "tail"))]
        [(2, 0.5), (1, 1.0)]
    """
    counted = (
        shown.group_by("day")
        .agg(
            pl.sum("n"),
            *(
                pl.col("n").filter(pl.col("segment") == s).sum().alias(f"n_{i}")
                for i, s in enumerate(segments)
            ),
        )
        .sort("day")
    )
    return tuple(
        DailyShare(row["day"], row["n"], {s: row[f"n_{i}"] / row["n"] for i, s in enumerate(segments)})
        for row in counted.iter_rows(named=True)
    )


def _drift(choices: pl.DataFrame) -> Drift | None:
    """Drift over up to four windows, of the items that were chosen at all."""
    if choices.height < _FEWEST_CHOICES:
        return None
    items = choices["item_id"].unique().sort()
    index = pl.DataFrame({"item_id": items, ITEM_INDEX: np.arange(items.len(), dtype=np.int64)})
    rows = choices.join(index, on="item_id").select(
        ITEM_INDEX, pl.col("occurred_at").floor().cast(pl.Int64).alias(TIMESTAMP)
    )
    distinct = rows[TIMESTAMP].n_unique()
    if distinct < 8:
        return None
    return measure_drift(rows, items.len(), n_windows=4, n_shuffles=5)


def day_text(day: int) -> str:
    """``3 Nov`` in UTC."""
    when = datetime.fromtimestamp(day, UTC)
    return f"{when.day} {when:%b}"
