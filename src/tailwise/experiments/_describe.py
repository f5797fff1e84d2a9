"""What explains an effect and decides nothing: new and returning users, and the life of the catalogue."""

from dataclasses import dataclass

import polars as pl

from tailwise.errors import DataError
from tailwise.experiments._effects import Effects, estimate_effects
from tailwise.experiments._metrics import METRICS, Metric

__all__ = ["CatalogueShare", "describe_catalogue", "describe_groups"]

_DESCRIPTIVE = tuple(m for m in METRICS.values() if m.kind == "descriptive" and m.level == "user")


@dataclass(frozen=True)
class CatalogueShare:
    """How much of the catalogue one variant brought to life, next to the other.

    Counts grow with users, so both variants are counted over equally many. There is no interval: distinct
    items are no sum over users.

    Attributes:
        metric: Of level ``catalogue``.
        control: Count under control.
        treatment: Count under treatment.
        of: What there is in the catalogue.
        n_users: Users of each variant that are counted.
    """

    metric: Metric
    control: int
    treatment: int
    of: int
    n_users: int


def describe_groups(
    outcomes: pl.DataFrame,
    metrics: tuple[Metric, ...] = _DESCRIPTIVE,
    *,
    alpha: float = 0.05,
    tuned_for: float = 10_000,
    control: str = "control",
    treatment: str = "treatment",
) -> dict[str, Effects]:
    """Estimate effects for all users, and for new and returning ones apart.

    Args:
        outcomes: As :func:`user_outcomes` makes it; ``is_returning`` was settled before exposure.
        metrics: Of level ``user``.
        alpha: Error probability of each interval; nothing is corrected for the number of groups.
        tuned_for: As of :func:`estimate_effects`.
        control: Value of ``variant`` that is control.
        treatment: Value of ``variant`` that is treatment.

    Returns:
        ``all``, ``new`` and ``returning``.

    Raises:
        DataError: the table breaks a rule, or does not say who is returning.
    """
    if "is_returning" not in outcomes.columns:
        raise DataError("the outcome table must have the column is_returning; user_outcomes() makes it.")
    groups = {
        "all": outcomes,
        "new": outcomes.filter(~pl.col("is_returning")),
        "returning": outcomes.filter(pl.col("is_returning")),
    }
    return {
        name: estimate_effects(
            table, metrics, alpha=alpha, tuned_for=tuned_for, control=control, treatment=treatment
        )
        for name, table in groups.items()
    }


def describe_catalogue(
    events: pl.DataFrame,
    outcomes: pl.DataFrame,
    items: pl.DataFrame,
    *,
    control: str = "control",
    treatment: str = "treatment",
) -> tuple[CatalogueShare, ...]:
    """Count distinct items shown, tail items sold and brands with a sale, per variant.

    Of every stage the first users are taken, as many of each variant as the smaller one has, and of them
    what they saw and bought within their windows.

    Args:
        events: As for :func:`user_outcomes`.
        outcomes: As it makes it.
        items: The catalogue: ``item_id``, ``segment``, and ``brand`` if there are brands (null: unknown).
        control: Value of ``variant`` that is control.
        treatment: Value of ``variant`` that is treatment.

    Raises:
        DataError: a column is missing, or an item is there twice.
    """
    for name, table, needed in (
        ("events", events, ("event_id", "type", "user_id", "item_id", "occurred_at")),
        ("outcomes", outcomes, ("user_id", "variant", "stage", "exposed_at", "window_closes_at")),
        ("items", items, ("item_id", "segment")),
    ):
        missing = [column for column in needed if column not in table.columns]
        if missing:
            raise DataError(f"{name} must have the columns {', '.join(needed)}; got none named {missing[0]}.")
    if items["item_id"].is_duplicated().any():
        raise DataError("item_id of the catalogue must be unique; got repeated rows.")
    users = _equal_cohorts(outcomes, control, treatment)
    n_users = users.filter(pl.col("variant") == control).height
    chosen = (
        events.unique("event_id", keep="first", maintain_order=True)
        .join(users.select("user_id", "variant", "exposed_at", "window_closes_at"), on="user_id")
        .filter(pl.col("occurred_at").is_between("exposed_at", "window_closes_at", closed="left"))
        .select("type", "item_id", "variant")
        .join(items.select("item_id", pl.col("^segment|brand$")), on="item_id")
    )
    sold = chosen.filter(pl.col("type") == "purchase")
    rows = [
        ("coverage", chosen.filter(pl.col("type") == "impression"), "item_id", items.height),
        (
            "tail_sell_through",
            sold.filter(pl.col("segment") == "tail"),
            "item_id",
            items.filter(pl.col("segment") == "tail").height,
        ),
    ]
    if "brand" in items.columns:
        rows.append(("brands_with_a_sale", sold, "brand", items["brand"].drop_nulls().n_unique()))
    shares = []
    for name, table, column, of in rows:
        control_count, treatment_count = (
            table.filter(pl.col("variant") == variant)[column].drop_nulls().n_unique()
            for variant in (control, treatment)
        )
        shares.append(CatalogueShare(METRICS[name], control_count, treatment_count, of=of, n_users=n_users))
    return tuple(shares)


def _equal_cohorts(outcomes: pl.DataFrame, control: str, treatment: str) -> pl.DataFrame:
    """The first users of each stage, as many of either variant."""
    ordered = outcomes.filter(pl.col("variant").is_in([control, treatment])).sort("exposed_at", "user_id")
    place = pl.int_range(pl.len()).over("stage", "variant")
    size = pl.min_horizontal(
        *((pl.col("variant") == variant).sum().over("stage") for variant in (control, treatment))
    )
    return ordered.filter(place < size)
