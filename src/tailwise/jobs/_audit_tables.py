"""What an audit says of every item and every group, as tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from tailwise.diagnosis import ItemShares, PriorDiagnosis, neglected_items
from tailwise.jobs._audit_subjects import Subject
from tailwise.jobs._run_data import RunData
from tailwise.schema import BRAND, CATEGORY, ITEM, ITEM_INDEX, TITLE
from tailwise.segments import Segments

__all__ = ["neglected_table", "prior_percentiles", "write_tables"]


def prior_percentiles(prior: PriorDiagnosis) -> NDArray[np.float64]:
    """Place each item among all by what the model knows of it: ``[n_items]``, 0 = least, 1 = best."""
    ranks = np.mean([stats.rankdata(column) for column in prior.combined.T], axis=0)
    return np.asarray((stats.rankdata(ranks) - 0.5) / ranks.size, dtype=np.float64)


def neglected_table(
    subject: Subject,
    *,
    data: RunData,
    segments: Segments,
    prior: PriorDiagnosis,
    effects: ItemShares | None,
    k: int,
) -> pl.DataFrame:
    """Rank a subject's items by neglect, with titles and what weighs on each.

    Returns:
        The columns of :func:`~tailwise.diagnosis.neglected_items`, and ``item_id``, ``title``,
        ``category``, ``brand``, ``prior_percentile``, ``data_effect``, ``prior_effect``
        (null where they are not known).
    """
    items = data.catalogue.items
    nothing = pl.lit(None, dtype=pl.String)
    about = items.select(
        ITEM,
        TITLE,
        *(pl.col(name) if name in items.columns else nothing.alias(name) for name in (CATEGORY, BRAND)),
    ).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias(ITEM_INDEX),
        prior_percentile=prior_percentiles(prior),
        data_effect=_of_items(effects, "data", data.n_items),
        prior_effect=_of_items(effects, "prior", data.n_items),
    )
    found = neglected_items(segments, subject.slots(k))
    return found.join(about, on=ITEM_INDEX, how="left", maintain_order="left").select(
        ITEM, TITLE, CATEGORY, BRAND, *found.columns, "prior_percentile", "data_effect", "prior_effect"
    )


def _of_items(effects: ItemShares | None, side: str, n_items: int) -> pl.Series:
    values = None if effects is None else getattr(effects, side)
    return pl.Series([None] * n_items if values is None else values, dtype=pl.Float64)


def write_tables(
    folder: Path,
    *,
    data: RunData,
    segments: Segments,
    prior: PriorDiagnosis,
    subjects: Sequence[dict[str, Any]],
    neglected: dict[str, pl.DataFrame],
) -> None:
    """Write ``items``, ``neglected``, ``grid``, ``exposure``, ``accuracy`` and ``columns`` as Parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    items = data.catalogue.items.with_columns(
        n_interactions=pl.Series(data.counts),
        segment=pl.Series([segments.names[label] for label in segments.labels]),
        prior_percentile=pl.Series(prior_percentiles(prior)),
        **{
            f"prior_{estimate.name}".replace("-", "_"): pl.Series(estimate.scores)
            for estimate in prior.estimates
        },
    )
    tables = {
        "items": items,
        "neglected": pl.concat(
            table.select(pl.lit(name).alias("subject"), pl.all()) for name, table in neglected.items()
        ),
        "accuracy": _rows(subjects, "accuracy"),
        "exposure": _rows(subjects, "exposure"),
        "grid": _grid(subjects),
        "columns": pl.DataFrame(
            [
                {"subject": one["name"], "column": column["column"], **row}
                for one in subjects
                for column in one["columns"]
                for row in column["values"]
            ],
            infer_schema_length=None,
        ),
    }
    for name, table in tables.items():
        partial = folder / f".{name}.parquet.partial"
        table.write_parquet(partial)
        partial.replace(folder / f"{name}.parquet")


def _rows(subjects: Sequence[dict[str, Any]], part: str) -> pl.DataFrame:
    """Rows of every subject under one another, with its name."""
    return pl.DataFrame(
        [{"subject": one["name"], **row} for one in subjects for row in one[part]], infer_schema_length=None
    )


def _grid(subjects: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Cells of every subject's grids, the accuracy spread over columns."""
    return pl.DataFrame(
        [
            {
                "subject": one["name"],
                "n_groups": len(grid["prior_groups"]),
                **cell,
                "accuracy": cell["accuracy"]["value"],
                "low": cell["accuracy"]["low"],
                "high": cell["accuracy"]["high"],
            }
            for one in subjects
            for grid in one["grids"]
            for cell in grid["cells"]
        ],
        infer_schema_length=None,
    )
