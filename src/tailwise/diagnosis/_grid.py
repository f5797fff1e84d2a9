"""Accuracy by how well the language model knows an item and how often the log holds it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.diagnosis._outcomes import Outcomes
from tailwise.diagnosis._two_way import group_sums, two_way_variance, two_way_weights
from tailwise.diagnosis._uncertain import Uncertain, shaped_interval
from tailwise.segments import segment_items

__all__ = ["AccuracyGrid", "GridCell", "accuracy_grid"]

Floats = NDArray[np.float64]
_NAMES = {2: ("high", "low"), 3: ("high", "middle", "low")}


@dataclass(frozen=True)
class GridCell:
    """Targets whose items are in one prior group and one data group.

    Attributes:
        prior_group: ``high``, (``middle``,) ``low``: how well the model knows the items.
        data_group: ``head``, (``mid``,) ``tail``, ``cold``: how often the log holds them.
        accuracy: Mean over the cell's targets. No value without targets; no interval when
            they are all of one user or of one item, or all equal, as where none is hit: that
            resampling shows no spread does not mean that there is none.
        n_targets: Held-out targets.
        n_items: Items of the catalogue.
        n_items_with_targets: Those of them that are targets.
        n_users: Users of the targets.
    """

    prior_group: str
    data_group: str
    accuracy: Uncertain
    n_targets: int
    n_items: int
    n_items_with_targets: int
    n_users: int

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "prior_group": self.prior_group,
            "data_group": self.data_group,
            "accuracy": self.accuracy.as_dict(),
            "n_targets": self.n_targets,
            "n_items": self.n_items,
            "n_items_with_targets": self.n_items_with_targets,
            "n_users": self.n_users,
        }


@dataclass(frozen=True)
class AccuracyGrid:
    """The grid, row by row.

    Attributes:
        cells: Best-known items first, and among these the most popular first.
        prior_groups: Names of the rows.
        data_groups: Names of the columns.
        n_groups: Groups that either side was cut into.
    """

    cells: tuple[GridCell, ...]
    prior_groups: tuple[str, ...]
    data_groups: tuple[str, ...]
    n_groups: int

    def cell(self, prior_group: str, data_group: str) -> GridCell:
        """Return one cell; an unknown name is a ``ValueError``."""
        for cell in self.cells:
            if (cell.prior_group, cell.data_group) == (prior_group, data_group):
                return cell
        raise ValueError(
            f"cell must be one of {', '.join(self.prior_groups)} by {', '.join(self.data_groups)}; "
            f"got {prior_group!r} by {data_group!r}.\n  The prior's group comes first."
        )

    def table(self) -> pl.DataFrame:
        """Give one row per cell, with columns ``accuracy``, ``low`` and ``high``."""
        plain = (cell.as_dict() for cell in self.cells)
        rows = [
            {**row, "accuracy": row["accuracy"]["value"], **{k: row["accuracy"][k] for k in ("low", "high")}}
            for row in plain
        ]
        return pl.DataFrame(rows, schema_overrides=dict.fromkeys(("accuracy", "low", "high"), pl.Float64))

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "prior_groups": list(self.prior_groups),
            "data_groups": list(self.data_groups),
            "cells": [cell.as_dict() for cell in self.cells],
        }


def accuracy_grid(
    outcomes: Outcomes, *, n_groups: int = 2, n_resamples: int = 1000, seed: int = 0
) -> AccuracyGrid:
    """Cross prior groups with data groups and give the accuracy of each cell.

    Trained items are cut by count into ``n_groups`` groups of equal numbers of items, never-trained
    ones are ``cold`` (:func:`~tailwise.segments.segment_items`, rule ``quantiles``). All items are
    cut likewise by the prior: the mean over estimates of each item's share of items that are known
    less. Equal values never straddle a cut; the tied group goes to the lower side. Cells of ``cold``
    appear when the catalogue has cold items.

    Intervals resample users and items, as in :func:`attribute_gap`.

    Args:
        outcomes: Accuracy of held-out targets and both popularities of their items.
        n_groups: 2 or 3.
        n_resamples: Of the bootstrap over users and items, >= 20.
        seed: Of the bootstrap.

    Returns:
        :class:`AccuracyGrid`.

    Raises:
        ValueError: ``n_groups`` is neither 2 nor 3, or there are too few resamples.
        DataError: no item is trained.

    Example:
        >>> outcomes = Outcomes([0, 1, 2, 3], [0, 1, 2, 3], [1, 0, 0.5, 0], [9, 8, 2, 1], [4, 1, 3, 2])
        >>> accuracy_grid(outcomes).cell("high", "tail").accuracy.value
        0.5
    """
    if n_groups not in _NAMES:
        raise ValueError(
            f"n_groups must be 2 or 3; got {n_groups!r}.\n  More cells would hold too few targets."
        )
    if n_resamples < 20:
        raise ValueError(f"n_resamples must be >= 20; got {n_resamples}.\n  Fewer give no 95 % interval.")
    segments = segment_items(outcomes.counts, "quantiles", n_groups=n_groups)
    has_cold = bool(np.any(~segments.is_trained))
    data_groups = segments.names if has_cold else segments.trained_names
    prior_groups = _NAMES[n_groups]
    # Ranks are whole numbers from 1, so the same rule cuts them; no item is cold to it.
    known = segment_items(_prior_ranks(outcomes.priors), "quantiles", n_groups=n_groups).labels
    n_cells = n_groups * len(data_groups)
    cell_of_item = known.astype(np.int64) * len(data_groups) + segments.labels  # [n_items]
    kept, items = np.unique(outcomes.items, return_inverse=True)
    _, users = np.unique(outcomes.users, return_inverse=True)
    cell = cell_of_item[outcomes.items]  # [n_targets]
    n_targets = np.bincount(cell, minlength=n_cells)
    value = _means(cell, outcomes.accuracy, np.ones(cell.size), n_cells)
    member = cell[:, None] == np.arange(n_cells)  # [n_targets, n_cells]
    slopes = member * (outcomes.accuracy[:, None] - value) / np.maximum(n_targets, 1)
    errors = np.sqrt(two_way_variance(slopes, users, items))
    draws = two_way_weights(int(users.max()) + 1, kept.size, n_resamples=n_resamples, seed=seed)
    resampled = np.stack([_means(cell, outcomes.accuracy, a[users] * b[items], n_cells) for a, b in draws])
    n_items = np.bincount(cell_of_item, minlength=n_cells)
    n_with = np.bincount(cell_of_item[kept], minlength=n_cells)
    cells = []
    for k in range(n_cells):
        n_users = int(np.unique(users[member[:, k]]).size)
        accuracy = Uncertain(float(value[k]) if n_targets[k] else None)
        if n_users > 1 and n_with[k] > 1 and errors[k] > 0:
            accuracy = shaped_interval(float(value[k]), float(errors[k]), resampled[:, k])
        row, column = divmod(k, len(data_groups))
        cells.append(
            GridCell(
                prior_group=prior_groups[row],
                data_group=data_groups[column],
                accuracy=accuracy,
                n_targets=int(n_targets[k]),
                n_items=int(n_items[k]),
                n_items_with_targets=int(n_with[k]),
                n_users=n_users,
            )
        )
    return AccuracyGrid(tuple(cells), prior_groups, tuple(data_groups), n_groups)


def _prior_ranks(priors: Floats) -> NDArray[np.int64]:
    """Rank items by the mean of their mid-ranks over estimates, from 1: ``[n_items, k] -> [n_items]``."""
    total = np.zeros(priors.shape[0])
    for column in priors.T:
        _, position, size = np.unique(column, return_inverse=True, return_counts=True)
        total += (np.cumsum(size) - size / 2)[position]
    return np.unique(total, return_inverse=True)[1].astype(np.int64) + 1


def _means(cell: NDArray[np.int64], accuracy: Floats, weights: Floats, n_cells: int) -> Floats:
    """Weighted mean of each cell, 0 for an empty one: ``[n_cells]``."""
    below = group_sums(cell, weights, n_cells)
    above = group_sums(cell, weights * accuracy, n_cells)
    return np.divide(above, below, out=np.zeros(n_cells), where=below > 0)
