"""The Open Bandit data: single slots of a fashion shop, shown at random or by Thompson sampling."""

from pathlib import Path
from typing import Literal

import polars as pl

__all__ = ["open_bandit_log"]


def open_bandit_log(
    folder: Path, campaign: Literal["all", "men", "women"], behaviour: Literal["random", "bts"]
) -> pl.DataFrame:
    """Read the shown slots of one campaign, as :func:`check_logged_lists` takes them.

    The sample in the package is 10,000 single slots, drawn from the lists of a week. It names neither lists
    nor users, so every row is a list of one slot and a cluster of its own; propensities are marginal.

    Args:
        folder: Of the asset ``open-bandit``.
        campaign: ``all`` (80 items), ``men`` (34) or ``women`` (46).
        behaviour: Who chose: ``random`` or ``bts``, a Thompson sampler trained beforehand.

    Returns:
        ``position`` (1, 2, 3 = left, centre, right), ``item_id`` (text), ``propensity``, ``reward`` (clicks).
    """
    return pl.read_csv(folder / f"{behaviour}-{campaign}.csv").select(
        pl.col("position").cast(pl.Int64),
        pl.col("item_id").cast(pl.String),
        pl.col("propensity_score").alias("propensity"),
        pl.col("click").cast(pl.Float64).alias("reward"),
    )
