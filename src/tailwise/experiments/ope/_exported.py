"""The export of our own event log as a log of shown slots with what each earned."""

from pathlib import Path
from typing import Literal

import polars as pl

from tailwise.errors import DataError
from tailwise.schema import ITEM

__all__ = ["EXPORTED_REWARDS", "ExportedReward", "exported_slots"]

ExportedReward = Literal["clicks", "purchases", "revenue"]
EXPORTED_REWARDS: tuple[ExportedReward, ...] = ("clicks", "purchases", "revenue")

_COLUMNS = (
    "recommendation_id",
    "user_id",
    "position",
    ITEM,
    "propensity",
    "is_explored",
    "temperature",
    "n_candidates",
)


def exported_slots(folder: Path, reward: ExportedReward) -> pl.DataFrame:
    """Join every served slot with the clicks, purchases or revenue that the log owes to it.

    Lists of the surfaces on which some are drawn, made by a model: fallbacks to most-popular and
    similar-items lists, which are never drawn, are no comparison. A slot that nobody came to see earned 0
    like any other: numbers are per *served* list. Lists of the last days may still earn; export without them.

    Args:
        folder: Of an export: ``slots/day=*/slots.parquet``, ``events/day=*/events.parquet``.
        reward: ``clicks`` and ``purchases`` are counted, at most one per slot; ``revenue`` is added up.

    Returns:
        A row per slot: ``recommendation_id``, ``user_id``, ``position``, ``item_id``, ``propensity``,
        ``is_explored``, ``temperature``, ``n_candidates``, and the column named like ``reward``, float64.

    Raises:
        ValueError: ``reward`` is none of these.
        DataError: the folder is no export, or revenue is in several currencies.
    """
    if reward not in EXPORTED_REWARDS:
        raise ValueError(f"reward must be one of {', '.join(EXPORTED_REWARDS)}; got {reward!r}.")
    slots = _read(folder, "slots").filter(pl.col("method") == "model")
    drawn_on = slots.filter("is_explored")["surface"].unique()
    slots = slots.filter(pl.col("surface").is_in(drawn_on.implode())) if len(drawn_on) else slots
    kind = "click" if reward == "clicks" else "purchase"
    events = _read(folder, "events").filter(pl.col("type") == kind, pl.col("attributed_id").is_not_null())
    if reward == "revenue":
        currencies = events["currency"].drop_nulls().unique().sort()
        if len(currencies) > 1:
            raise DataError(
                f"revenue must be in one currency to be added up; got {', '.join(currencies)} in {folder}.\n"
                "  Convert, and pass slots and rewards as one file."
            )
    earned = pl.col("revenue").cast(pl.Float64).sum() if reward == "revenue" else pl.lit(1.0)
    rewards = events.group_by(pl.col("attributed_id").alias("recommendation_id"), ITEM).agg(
        earned.alias(reward)
    )
    joined = slots.select(_COLUMNS).join(
        rewards, on=["recommendation_id", ITEM], how="left", maintain_order="left"
    )
    return joined.with_columns(pl.col(reward).fill_null(0.0))


def _read(folder: Path, kind: str) -> pl.DataFrame:
    files = sorted(folder.glob(f"{kind}/day=*/{kind}.parquet"))
    if not files:
        raise DataError(
            f"folder must be an export of the event log; got {str(folder)!r} without "
            f"{kind}/day=*/{kind}.parquet.\n  Export the log first, or pass one file of slots with rewards."
        )
    return pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files])
