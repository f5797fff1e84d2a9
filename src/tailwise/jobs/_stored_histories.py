"""Histories of a run's users, read from its folder without holding all of them in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.errors import ConfigError, DataError
from tailwise.interactions._columns import first_offenders, require_values, select_columns, to_text_ids
from tailwise.interactions._files import read_table
from tailwise.jobs._run_data import read_summary
from tailwise.jobs._run_folder import RunFolder
from tailwise.schema import ITEM, ITEM_INDEX, USER, USER_INDEX

__all__ = ["HISTORIES", "StoredData", "UserHistories"]

HISTORIES: dict[str, tuple[str, ...]] = {
    "all": ("train", "validation", "test"),
    "before-test": ("train", "validation"),
    "train": ("train",),
}


@dataclass(frozen=True, eq=False)
class UserHistories:
    """Some users with a history.

    Attributes:
        indices: ``[n]`` ``user_index``, ascending.
        ids: ``[n]`` ``user_id``.
        histories: Per user ``item_index``, oldest first, at least one.
    """

    indices: NDArray[np.int64]
    ids: list[str]
    histories: list[NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class StoredData:
    """The data in a run's folder, read a few users at a time; the tables are sorted by user.

    Attributes:
        folder: Of the data.
        parts: Whose rows are history.
        item_ids: ``[n_items]`` ``item_id`` in the order of ``item_index``.
        summary: As ``summary.json``.
    """

    folder: Path
    parts: tuple[str, ...]
    item_ids: pl.Series
    summary: Mapping[str, Any]

    @classmethod
    def of(cls, folder: RunFolder, history: str) -> "StoredData":
        """Open the data of a run; ``history`` is a name in :data:`HISTORIES`."""
        if history not in HISTORIES:
            raise ConfigError(f"--history must be one of {', '.join(HISTORIES)}; got {history!r}.")
        summary = read_summary(folder.data)
        item_ids = pl.read_parquet(folder.data / "catalogue.parquet", columns=[ITEM])[ITEM]
        return cls(folder.data, HISTORIES[history], item_ids, summary)

    @property
    def n_users(self) -> int:
        """Users of the run, with a history in these parts or not."""
        return int(self.summary["n_users"])

    def _scan(self, part: str) -> pl.LazyFrame:
        return pl.scan_parquet(self.folder / f"{part}.parquet", glob=False)

    def training_counts(self) -> NDArray[np.int64]:
        """Training interactions of each item: ``[n_items]``."""
        found = self._scan("train").group_by(ITEM_INDEX).len().collect()
        counts = np.zeros(len(self.item_ids), np.int64)
        counts[found[ITEM_INDEX].to_numpy()] = found["len"].to_numpy()
        return counts

    def find_users(self, file: Path) -> NDArray[np.int64]:
        """Indices, ascending, of the users that a file names."""
        if not file.is_file():
            raise DataError(f"--users must be 'all' or a file; got {str(file)!r}.\n  Check the path.")
        table, _ = read_table(file, role="interactions")
        table, _ = select_columns(table, required=(USER,), optional=(), columns=None, source=str(file))
        require_values(table, (USER,), str(file))
        wanted = table.select(to_text_ids(table[USER], str(file))).unique()
        everyone = pl.concat([self._scan(part).select(USER, USER_INDEX) for part in HISTORIES["all"]])
        known = everyone.join(wanted.lazy(), on=USER, how="semi").unique().collect()
        unknown = wanted.join(known, on=USER, how="anti")[USER].sort()
        if not wanted.height:
            raise DataError(f"--users must name a user; got none in {str(file)!r}.\n  Check the file.")
        if len(unknown):
            raise DataError(
                f"--users must name users of the run's data; got {len(unknown):,} others among "
                f"{wanted.height:,} ({first_offenders(unknown)}).\n"
                f"  In {file}. Take them out: the run knows nothing about them."
            )
        return known[USER_INDEX].cast(pl.Int64).sort().to_numpy()

    def read_users(self, chunk: Sequence[int] | NDArray[np.int64]) -> UserHistories:
        """Those of the users, ascending, who have a history: all their rows in the parts, oldest first."""
        # Tables are sorted by user, so that a range reads few row groups.
        between = pl.col(USER_INDEX).is_between(int(chunk[0]), int(chunk[-1]))
        rows = pl.concat(
            [self._scan(p).filter(between).select(USER_INDEX, USER, ITEM_INDEX).collect() for p in self.parts]
        )
        if not isinstance(chunk, range):
            rows = rows.join(pl.DataFrame({USER_INDEX: chunk}), on=USER_INDEX, how="semi")
        rows = rows.sort(USER_INDEX, maintain_order=True)  # parts follow each other in time
        indices, starts = np.unique(rows[USER_INDEX].to_numpy(), return_index=True)
        items = rows[ITEM_INDEX].to_numpy()
        return UserHistories(
            indices, rows[USER].gather(starts).to_list(), np.split(items, starts[1:]) if starts.size else []
        )
