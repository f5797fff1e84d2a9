"""The outcome table: one row per assigned user. What it must hold, and a metric's arrays from it."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from tailwise.errors import DataError
from tailwise.experiments._arrays import OutcomeArrays
from tailwise.experiments._metrics import Metric

__all__ = ["PRE", "closed_outcomes", "currency_of", "metric_arrays"]

PRE = "pre_"  # a column of this prefix holds the same measure before the user's exposure


def closed_outcomes(
    outcomes: pl.DataFrame,
    metrics: Iterable[Metric],
    *,
    windows_closed_at: float | None = None,
    control: str = "control",
    treatment: str = "treatment",
) -> pl.DataFrame:
    """Check the table and return the users whose windows are closed, in order of enrolment.

    Users are ordered by ``exposed_at``, and by ``user_id`` where two were exposed in the same second;
    neither knows the variant.

    Args:
        outcomes: ``user_id``, ``variant``, ``stage``, ``exposed_at`` (unix seconds), the columns of the
            metrics; optionally ``window_closes_at`` (unix seconds), ``pre_`` columns and ``currency``.
        metrics: Which columns must be there.
        windows_closed_at: Leave out windows that close later than this. None: all rows are closed.
        control: Value of ``variant`` that is control.
        treatment: Value of ``variant`` that is treatment.

    Raises:
        DataError: a column is missing or holds nulls, a user is there twice, a variant is unknown, or
            purchases are in several currencies.
    """
    needed = ["user_id", "variant", "stage", "exposed_at", *(c for metric in metrics for c in metric.columns)]
    if windows_closed_at is not None:
        needed.append("window_closes_at")
    missing = sorted(set(needed) - set(outcomes.columns))
    if missing:
        raise DataError(
            f"the outcome table must have the columns of its metrics; got none named {', '.join(missing)}.\n"
            "  user_outcomes() makes them from events."
        )
    for name in dict.fromkeys(needed):
        nulls = outcomes[name].null_count()
        if nulls:
            raise DataError(f"{name} must be known of every user; got {nulls:,} nulls. Write 0 for none.")
    unknown = outcomes.filter(~pl.col("variant").is_in([control, treatment]))
    if unknown.height:
        raise DataError(
            f"variant must be {control!r} or {treatment!r}; got {unknown['variant'][0]!r} and the like for "
            f"{unknown.height:,} of {outcomes.height:,} users. Pass control= and treatment=."
        )
    doubles = outcomes.height - outcomes["user_id"].n_unique()
    if doubles:
        raise DataError(
            f"user_id must be unique; got {doubles:,} repeated rows. Keep each user's first exposure."
        )
    currency_of(outcomes)
    if windows_closed_at is not None:
        outcomes = outcomes.filter(pl.col("window_closes_at") <= windows_closed_at)
    return outcomes.sort("exposed_at", "user_id")


def currency_of(outcomes: pl.DataFrame) -> str | None:
    """Return the currency of all purchases; None where the table names none.

    Raises:
        DataError: there are several.
    """
    if "currency" not in outcomes.columns:
        return None
    found = sorted(outcomes["currency"].drop_nulls().unique().to_list())
    if len(found) > 1:
        raise DataError(
            f"currency must be one for the whole experiment; got {', '.join(map(str, found))}. "
            "Convert revenue before the analysis, or analyse each currency's market apart."
        )
    return str(found[0]) if found else None


def metric_arrays(closed: pl.DataFrame, metric: Metric, *, treatment: str = "treatment") -> OutcomeArrays:
    """Take a metric's columns, and its ``pre_`` columns where they are there, from a checked table."""
    numerator, *denominator = (closed[column].to_numpy() for column in metric.columns)
    pre = [PRE + column for column in metric.columns if PRE + column in closed.columns]
    covariates = None
    if pre:
        covariates = np.stack([closed[c].cast(pl.Float64).fill_null(np.nan).to_numpy() for c in pre], axis=1)
    return OutcomeArrays.of(
        (closed["variant"] == treatment).to_numpy(),
        closed["stage"].to_numpy(),
        numerator,
        denominator[0] if denominator else None,
        covariates,
    )
