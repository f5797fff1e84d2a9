"""Events and first exposures in, the outcome table out: one row per user whose window has closed."""

import warnings
from collections.abc import Iterable

import polars as pl

from tailwise.errors import DataError
from tailwise.experiments._metrics import METRICS, SEGMENTS, Metric
from tailwise.experiments._outcome_table import PRE
from tailwise.experiments._sessions import with_session_numbers

__all__ = ["MEASURES", "user_outcomes"]

_DAY_S = 86_400

_EVENTS = (
    "event_id",
    "type",
    "user_id",
    "item_id",
    "occurred_at",
    "session_id",
    "revenue",
    "currency",
    "segment",
)
_EXPOSURES = ("user_id", "variant", "stage", "exposed_at")


def _of(kind: str, segment: str | None = None) -> pl.Expr:
    found = pl.col("type") == kind
    return found if segment is None else found & (pl.col("segment") == segment)


MEASURES: dict[str, pl.Expr] = {
    "impressions": _of("impression").sum(),
    "clicks": _of("click").sum(),
    "purchases": _of("purchase").sum(),
    **{f"{s}_{kind}s": _of(kind, s).sum() for s in SEGMENTS for kind in ("impression", "click", "purchase")},
    "converted": _of("purchase").any().cast(pl.Int64),
    "orders": pl.col("occurred_at").filter(_of("purchase")).n_unique(),
    "gmv": pl.col("revenue").filter(_of("purchase")).sum(),
    "sessions": pl.col("_session").n_unique(),
}
"""What is measured per user: name -> aggregate over the user's events in the window."""


def user_outcomes(
    events: pl.DataFrame,
    exposures: pl.DataFrame,
    metrics: Iterable[Metric] | None = None,
    *,
    window_days: float = 7.0,
    session_gap_minutes: float = 30.0,
    now: float,
    items: pl.DataFrame | None = None,
    covariate_days: float | None = None,
) -> pl.DataFrame:
    """Measure what each assigned user did within ``window_days`` of the first exposure.

    Everything a user did counts, on whatever surface and whether or not a recommendation led to it:
    from the first exposure on, up to but not including the window's end. Users whose window is still
    open at ``now`` are left out altogether. A session is what the client calls one (``session_id``);
    events without one are of the same session until ``session_gap_minutes`` pass between two of them. An
    order is the purchases of a user at the same second. A purchase event counts once, whatever its
    quantity; GMV is the sum of ``revenue``, returns included if they are logged as negative.

    Args:
        events: ``event_id``, ``type`` (impression, click, purchase; others count for sessions alone),
            ``user_id``, ``item_id``, ``occurred_at`` (unix seconds), ``session_id``, ``revenue``,
            ``currency``, ``segment``. Further columns are ignored. Repeated ``event_id`` count once.
        exposures: ``user_id``, ``variant``, ``stage``, ``exposed_at`` (unix seconds), of one experiment; of
            several rows of a user the earliest counts.
        metrics: Which measures are needed. None: those of all metrics of level ``user``.
        window_days: > 0; the same for all users.
        session_gap_minutes: > 0.
        now: Unix seconds; no event before it may still arrive.
        items: ``item_id`` and ``segment``: one division of the catalogue for both variants, fixed before
            the start. None: the ``segment`` that each event carries, which an event log knows only of
            what it owes to a list.
        covariate_days: Measure also the days before the exposure, into ``pre_`` columns; the log must
            reach so far back. None: no.

    Returns:
        In order of enrolment: ``user_id``, ``variant``, ``stage``, ``exposed_at``, ``window_closes_at``,
        ``is_returning`` (the log has an earlier event), ``currency``, the measures, ``pre_`` measures.

    Raises:
        DataError: a column is missing, a user saw both variants, an item is there twice, or purchases
            are in several currencies.
        ValueError: a length of time is not positive.
    """
    for name, value in (
        ("window_days", window_days),
        ("session_gap_minutes", session_gap_minutes),
        ("covariate_days", 1.0 if covariate_days is None else covariate_days),
    ):
        if not value > 0:
            raise ValueError(f"{name} must be > 0; got {value}.")
    _check_columns("events", events, _EVENTS)
    _check_columns("exposures", exposures, _EXPOSURES)
    chosen = [m for m in METRICS.values() if m.level == "user"] if metrics is None else list(metrics)
    measures = {c: _measure(c) for metric in chosen for c in metric.columns}
    users = _first_exposures(exposures).with_columns(
        window_closes_at=pl.col("exposed_at") + window_days * _DAY_S
    )
    users = users.filter(pl.col("window_closes_at") <= now)
    events = events.select(_EVENTS).unique("event_id", keep="first", maintain_order=True)
    events = events.with_columns(pl.col("revenue").cast(pl.Float64))
    if items is not None:
        events = _with_segments_of(events, items)
    events = events.join(users.select("user_id", "exposed_at", "window_closes_at"), on="user_id")
    since = pl.col("occurred_at") - pl.col("exposed_at")
    within = events.filter((since >= 0) & (pl.col("occurred_at") < pl.col("window_closes_at")))
    _check_currency(within)
    if items is None:
        _warn_of_unknown_segments(within)
    table = users.join(_measured(within, measures, session_gap_minutes), on="user_id", how="left")
    earlier = events.filter(since < 0)
    returning = earlier.select("user_id").unique().with_columns(is_returning=pl.lit(True))
    table = table.join(returning, on="user_id", how="left").with_columns(
        pl.col("is_returning").fill_null(False)
    )
    if covariate_days is not None:
        before = earlier.filter(since >= -covariate_days * _DAY_S)
        _check_currency(pl.concat([within, before]))
        pre = _measured(before, measures, session_gap_minutes).drop("currency")
        pre = pre.rename({name: PRE + name for name in measures})
        table = table.join(pre, on="user_id", how="left")
    counted = [c for c in table.columns if c in measures or c.removeprefix(PRE) in measures]
    return (
        table.with_columns(pl.col(counted).fill_null(0))
        .select(
            *("user_id", "variant", "stage", "exposed_at", "window_closes_at", "is_returning", "currency"),
            *counted,
        )
        .sort("exposed_at", "user_id")
    )


def _measure(name: str) -> pl.Expr:
    if name not in MEASURES:
        raise ValueError(f"metrics must read measures among {', '.join(MEASURES)}; got {name!r}.")
    return MEASURES[name]


def _measured(events: pl.DataFrame, measures: dict[str, pl.Expr], gap_minutes: float) -> pl.DataFrame:
    """Every measure per user with events, and the currency of the user's purchases."""
    currency = pl.col("currency").filter(_of("purchase")).drop_nulls().first()
    numbered = with_session_numbers(events, gap_minutes=gap_minutes)
    return numbered.group_by("user_id").agg(currency=currency, **measures)


def _first_exposures(exposures: pl.DataFrame) -> pl.DataFrame:
    """One row per user; nobody may have seen both variants."""
    both = exposures.group_by("user_id").agg(pl.col("variant").n_unique()).filter(pl.col("variant") > 1)
    if both.height:
        raise DataError(
            f"variant must stay the same for a user; got both for {both.height:,} users (first: "
            f"{both['user_id'].min()!r}).\n  Effects cannot be told apart for them: find out why "
            "assignment was not sticky, then pass exposures without these users and say so."
        )
    first = exposures.sort("exposed_at", maintain_order=True).unique(
        "user_id", keep="first", maintain_order=True
    )
    return first.select(_EXPOSURES)


def _with_segments_of(events: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Replace the events' segments by those of the catalogue."""
    _check_columns("items", items, ("item_id", "segment"))
    if items["item_id"].is_duplicated().any():
        raise DataError("item_id of items must be unique; got repeated rows.")
    return events.drop("segment").join(items.select("item_id", "segment"), on="item_id", how="left")


def _warn_of_unknown_segments(events: pl.DataFrame) -> None:
    wanted = events.filter(pl.col("type").is_in(["click", "purchase"]))
    unknown = wanted["segment"].null_count()
    if unknown:
        warnings.warn(
            f"{unknown:,} of {wanted.height:,} clicks and purchases carry no segment and count in none. "
            "Pass items= with the segment of every item.",
            stacklevel=3,
        )


def _check_columns(name: str, table: pl.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(
            f"{name} must have the columns {', '.join(columns)}; got none named {', '.join(missing)}."
        )


def _check_currency(events: pl.DataFrame) -> None:
    paid = events.filter(_of("purchase") & (pl.col("revenue").fill_null(0) != 0))
    found = sorted(str(c) for c in paid["currency"].unique().to_list())
    if len(found) > 1:
        raise DataError(
            f"currency must be one for all purchases; got {', '.join(found)}. Convert revenue before the "
            "analysis, or analyse each currency's market apart."
        )
