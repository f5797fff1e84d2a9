"""Which session an event belongs to: the client's, or by gaps in time."""

import polars as pl

__all__ = ["with_session_numbers"]


def with_session_numbers(events: pl.DataFrame, *, gap_minutes: float) -> pl.DataFrame:
    """Add ``_session``, text that is the same for a user's events of one session.

    An event with a ``session_id`` is of that session. Those without are taken apart from the others: a
    new session begins with the first, and after every pause of at least ``gap_minutes``.

    Args:
        events: ``user_id``, ``occurred_at`` (unix seconds), ``session_id``.
        gap_minutes: > 0.
    """
    own = pl.col("session_id").is_not_null()
    ordered = events.sort("user_id", "occurred_at", maintain_order=True)
    pause = pl.col("occurred_at").diff() >= gap_minutes * 60
    number = pause.fill_null(False).cum_sum().over("user_id", own)
    return ordered.with_columns(
        _session=pl.when(own)
        .then(pl.lit("id:") + pl.col("session_id").cast(pl.String))
        .otherwise(pl.lit("gap:") + number.cast(pl.String))
    )
