"""What lies where in a benchmark's folder, and how a cell's outcome is kept.

::

    <bench>/bench.json                        question, methods, seeds, the rule of choice
            <setting>/data/                   catalogue and split as they were (not needed for tables)
                      setting.json            data, split, segments
                      targets.parquet         the held-out targets, one row each
                      items.parquet           training count and segment of every item
                      tuning/<method>.json    all trials on validation, and which was chosen
                      cells/<method>/seed-<n>/record.json  ranks.parquet
                      cells/<method>@<value>/...           a point of the method's curve
                      work/                   checkpoints and models; may be deleted when all is done (what is
                                              re-ranked later needs the baseline's models)
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from tailwise.errors import ConfigError
from tailwise.evaluation import Rankings
from tailwise.jobs._run_folder import ResultFolder

__all__ = ["BEYOND", "BenchFolder", "SettingFolder", "rank_columns", "sole_process_at"]

BEYOND = 2**16 - 1
"""What is written for ``n_better`` beyond :data:`DEEPEST`."""

DEEPEST = 200
"""Ranks beyond this are not told apart: no metric looks so deep, and records stay small."""


def rank_columns(rankings: Rankings) -> pl.DataFrame:
    """Return where each target landed, small: ``n_better`` and ``n_tied`` as whole numbers of two bytes."""
    is_near = pl.col("n_better") <= DEEPEST
    return rankings.targets.select(
        n_better=pl.when(is_near).then("n_better").otherwise(BEYOND).cast(pl.UInt16),
        n_tied=pl.when(is_near).then(pl.col("n_tied").clip(upper_bound=BEYOND)).otherwise(0).cast(pl.UInt16),
    )


@dataclass(frozen=True)
class SettingFolder:
    """The folder of one data set and amount."""

    path: Path

    @property
    def data(self) -> Path:
        """Catalogue and split."""
        return self.path / "data"

    @property
    def description(self) -> Path:
        """Of the data; kept with the records."""
        return self.path / "setting.json"

    @property
    def items(self) -> Path:
        """Count and segment of every item; not kept with the records."""
        return self.path / "items.parquet"

    def is_prepared(self) -> bool:
        """True if description, targets and items are there."""
        return all(file.is_file() for file in (self.description, self.path / "targets.parquet", self.items))

    def tuning(self, method: str) -> Path:
        """Return the file of a method's trials."""
        return self.path / "tuning" / f"{method}.json"

    def trial(self, method: str, number: int, more_seed: int | None = None) -> ResultFolder:
        """Return where a trial works and keeps its outcome; ``more_seed``: not the first of its seeds."""
        of_seed = "" if more_seed is None else f"-seed-{more_seed}"
        return ResultFolder(self.path / "work" / "tuning" / method / f"trial-{number}{of_seed}")

    def cell(self, method: str, seed: int, point: float | None = None) -> ResultFolder:
        """Return where a cell keeps its outcome."""
        return ResultFolder(self.path / "cells" / _folder_name(method, point) / f"seed-{seed}")

    def cell_work(self, method: str, seed: int, point: float | None = None) -> ResultFolder:
        """Return where a cell keeps checkpoints and its model."""
        return ResultFolder(self.path / "work" / "cells" / _folder_name(method, point) / f"seed-{seed}")

    def write_targets(self, rankings: Rankings, labels: np.ndarray, revenue: pl.DataFrame) -> None:
        """Keep the held-out targets, in the order that ranks have.

        Args:
            rankings: Any of the test users.
            labels: ``[n_items]`` name of each item's segment.
            revenue: ``user_index``, ``item_index`` and ``revenue`` of the held-out rows, in order. Of an
                item that a user has several times, each target has its own row's.
        """
        keys = ["user_index", "item_index"]
        repeat = pl.int_range(pl.len()).over(keys).alias("repeat")
        targets = rankings.targets.select(*keys, repeat)
        rows = targets.join(
            revenue.with_columns(repeat), on=[*keys, "repeat"], how="left", maintain_order="left"
        ).with_columns(segment=pl.Series(labels[targets["item_index"].to_numpy()], dtype=pl.String))
        rows.select(*keys, "segment", "revenue").write_parquet(self.path / "targets.parquet")


@dataclass(frozen=True)
class BenchFolder:
    """A benchmark's folder."""

    path: Path

    @property
    def declaration(self) -> Path:
        """What is compared."""
        return self.path / "bench.json"

    def setting(self, name: str) -> SettingFolder:
        """Return the folder of a setting."""
        return SettingFolder(self.path / name)


def _folder_name(method: str, point: float | None) -> str:
    return method if point is None else f"{method}@{point:g}"


@contextmanager
def sole_process_at(work: Path, text: str) -> Iterator[None]:
    """Keep other processes from a cell's or trial's work inside the block; one that dies lets go of it.

    The lock lies beside ``work``, which may be removed inside the block.

    Args:
        work: Folder of checkpoints and model.
        text: The cell or trial, for people.

    Raises:
        ConfigError: another process is at it; it is named.
    """
    from filelock import FileLock, Timeout

    work.parent.mkdir(parents=True, exist_ok=True)
    holder = work.with_name(f".{work.name}.process")  # not in the lock: who is refused empties that
    lock = FileLock(work.with_name(f".{work.name}.lock"), blocking=False)
    try:
        lock.acquire()
    except Timeout:
        number = holder.read_text() if holder.is_file() else "of unknown number"
        raise ConfigError(
            f"cell must be free; got {text}, at which process {number} is at work.\n"
            "  Wait for it, or restrict this benchmark to others with --setting, --method or --seed."
        ) from None
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
