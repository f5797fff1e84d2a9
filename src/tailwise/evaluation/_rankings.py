"""Where each held-out target landed and what each user was recommended, as two tables."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.datatypes import DataType, DataTypeClass

from tailwise.errors import DataError
from tailwise.schema import ITEM_INDEX, USER_INDEX

__all__ = ["UNRANKED", "Rankings", "check_same_cases", "join_rankings"]

UNRANKED = 2**31 - 1  # n_better of a target that cannot be recommended: a miss at every k

PolarsDataType = DataType | DataTypeClass
_TARGETS: dict[str, PolarsDataType] = {
    USER_INDEX: pl.Int64,
    ITEM_INDEX: pl.Int64,
    "n_better": pl.Int64,
    "n_tied": pl.Int64,
}
_LISTS: dict[str, PolarsDataType] = {
    USER_INDEX: pl.Int64,
    "items": pl.List(pl.Int32),
    "seen": pl.List(pl.Int32),
}
_MANIFEST = "rankings.json"


@dataclass(frozen=True, eq=False)
class Rankings:
    """The outcome of ranking the catalogue for each evaluated user.

    Both tables are checked, typed and sorted by user (targets then by item), so two
    rankings of the same cases line up row by row, in whatever order they were made.

    Attributes:
        targets: One row per held-out target: ``user_index``, ``item_index``,
            ``n_better`` (competing items with a strictly higher score; ``UNRANKED`` for a
            target that cannot be recommended) and ``n_tied`` (other items with an equal
            score). The user's other targets compete like any item.
        lists: One row per user: ``user_index``, ``items`` (list[int], best first, at most
            ``list_length``) and ``seen`` (list[int], the distinct items that were
            excluded for this user; may be left out, then empty).
        n_items: Size of the catalogue.
        list_length: Longest list that was asked for; metrics of lists need k <= this.
    """

    targets: pl.DataFrame
    lists: pl.DataFrame
    n_items: int
    list_length: int

    def __post_init__(self) -> None:
        lists = self.lists
        if "seen" not in lists.columns:
            lists = lists.with_columns(seen=pl.lit([], dtype=pl.List(pl.Int32)))
        for name, table, columns in (("targets", self.targets, _TARGETS), ("lists", lists, _LISTS)):
            missing = [column for column in columns if column not in table.columns]
            if missing:
                raise DataError(
                    f"{name} must have the columns {', '.join(columns)}; got {', '.join(table.columns)}.\n"
                    f"  Missing: {', '.join(missing)}. rank_targets() makes both tables."
                )
        lists = lists.select(pl.col(c).cast(t) for c, t in _LISTS.items()).sort(USER_INDEX)
        targets = self.targets.select(pl.col(c).cast(t) for c, t in _TARGETS.items())
        targets = targets.sort(USER_INDEX, ITEM_INDEX, maintain_order=True)
        n_repeated = lists.height - lists[USER_INDEX].n_unique()
        if n_repeated:
            raise DataError(
                f"lists must hold one row per user_index; got {n_repeated:,} repeated of {lists.height:,}.\n"
                "  Give each user one list."
            )
        n_unlisted = targets.join(lists, on=USER_INDEX, how="anti").height
        if n_unlisted:
            raise DataError(
                f"lists must hold every user of targets; got {n_unlisted:,} of {targets.height:,} targets "
                "whose user has no list.\n  Give such users an empty list."
            )
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "lists", lists)

    @property
    def n_users(self) -> int:
        """Evaluated users, with or without targets."""
        return self.lists.height

    def save(self, folder: str | Path) -> None:
        """Write ``targets.parquet``, ``lists.parquet`` and ``rankings.json`` into ``folder``.

        Each file is written beside its place and renamed into it; ``rankings.json`` goes
        first away and comes last, so a folder that holds it is complete.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MANIFEST).unlink(missing_ok=True)
        _replace(folder / "targets.parquet", self.targets.write_parquet)
        _replace(folder / "lists.parquet", self.lists.write_parquet)
        manifest = {
            "format": 1,
            "n_items": self.n_items,
            "list_length": self.list_length,
            "n_users": self.n_users,
            "n_targets": self.targets.height,
        }
        _replace(folder / _MANIFEST, lambda path: path.write_text(json.dumps(manifest, indent=2) + "\n"))

    @classmethod
    def load(cls, folder: str | Path) -> "Rankings":
        """Read what :meth:`save` wrote; a ``DataError`` names a folder that is not complete."""
        folder = Path(folder)
        if not (folder / _MANIFEST).is_file():
            raise DataError(
                f"folder must hold complete rankings; got {str(folder)!r} without {_MANIFEST}.\n"
                "  The run that wrote it was interrupted, or wrote elsewhere: rank the targets again."
            )
        manifest = json.loads((folder / _MANIFEST).read_text())
        if manifest.get("format") != 1:
            raise DataError(
                f"format of {folder / _MANIFEST} must be 1; got {manifest.get('format')!r}.\n"
                "  Read it with the version of Tailwise that wrote it."
            )
        return cls(
            targets=pl.read_parquet(folder / "targets.parquet"),
            lists=pl.read_parquet(folder / "lists.parquet"),
            n_items=int(manifest["n_items"]),
            list_length=int(manifest["list_length"]),
        )


def join_rankings(parts: Sequence[Rankings]) -> Rankings:
    """Put rankings of different users of one catalogue together.

    Args:
        parts: At least one; equal in ``n_items`` and ``list_length``.

    Raises:
        ValueError: they differ in catalogue or length of lists.
        DataError: a user is in two of them.
    """
    first = parts[0]
    for part in parts:
        if (part.n_items, part.list_length) != (first.n_items, first.list_length):
            raise ValueError(
                f"parts must have the n_items and list_length of the first ({first.n_items}, "
                f"{first.list_length}); got ({part.n_items}, {part.list_length})."
            )
    return Rankings(
        targets=pl.concat([part.targets for part in parts]),
        lists=pl.concat([part.lists for part in parts]),
        n_items=first.n_items,
        list_length=first.list_length,
    )


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write to a temporary neighbour, flush it to disk, and rename it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_same_cases(rankings: Sequence[Rankings], *, what: str) -> None:
    """Refuse rankings that do not hold the same users and the same targets."""
    if not rankings:
        raise ValueError(
            f"{what} must hold at least one Rankings; got none.\n  Pass one per seed, in a list."
        )
    first = rankings[0]
    for i, other in enumerate(rankings[1:], start=1):
        if other.n_items != first.n_items:
            raise DataError(
                f"{what} must rank the same catalogue; got {first.n_items:,} and {other.n_items:,} items "
                f"(numbers 0 and {i}).\n  Rank both on one encoded catalogue."
            )
        same_users = first.lists[USER_INDEX].equals(other.lists[USER_INDEX])
        cases = [USER_INDEX, ITEM_INDEX]
        if not same_users or not first.targets.select(cases).equals(other.targets.select(cases)):
            raise DataError(
                f"{what} must hold the same users and targets; got {first.n_users:,} users with "
                f"{first.targets.height:,} targets and {other.n_users:,} with {other.targets.height:,} "
                f"(numbers 0 and {i}).\n  Rank every variant and seed on the same held-out part."
            )
