"""The data of a run: read and split once, kept in the run's folder, read back from there."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.errors import ConfigError, DataError
from tailwise.interactions import (
    Catalogue,
    Dataset,
    HeldOut,
    Split,
    build_dataset,
    histories,
    load_catalogue,
    load_dataset,
    load_interactions,
    named_dataset,
    split_by_time,
    split_leave_last_out,
    training_histories,
)
from tailwise.jobs._config import DataConfig
from tailwise.jobs._run_folder import write_json
from tailwise.schema import ITEM, OPTIONAL_INTERACTION_COLUMNS, OPTIONAL_ITEM_COLUMNS, TIMESTAMP, TITLE, USER
from tailwise.segments import popularity

__all__ = ["RunData", "load_run_data", "prepare_run_data", "read_summary", "sample_users", "take_users"]

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class RunData:
    """Catalogue and split of a run.

    Attributes:
        catalogue: Items; row = ``item_index``.
        split: Training, validation and test rows.
        counts: ``[n_items]`` int64 training interactions.
        summary: Name, checksum, counts, checks; JSON values.
    """

    catalogue: Catalogue
    split: Split
    counts: np.ndarray
    summary: dict[str, Any]

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return self.split.n_items

    def held_out(self, part: str) -> HeldOut:
        """Return histories and targets of ``validation`` or ``test``."""
        return histories(self.split, part)  # type: ignore[arg-type]

    def training_histories(self, n: int | None = None, *, seed: int = 0) -> list[np.ndarray]:
        """Return the training items of every user, oldest first; or of ``n`` of them, drawn by ``seed``.

        With one seed, fewer histories are among the more. Users keep their order. A history of one item
        has no training target, so it is not drawn.
        """
        found = training_histories(self.split)[1]
        if n is None:
            return found
        usable = [row for row, history in enumerate(found) if len(history) > 1]
        drawn = np.random.default_rng(seed).permutation(usable)[:n]
        return [found[row] for row in np.sort(drawn)]


def prepare_run_data(config: DataConfig, folder: Path, say: Callable[[str], None]) -> RunData:
    """Read, check and split the data of a run and keep the result in ``folder``; or take what is there.

    ``say`` is told what the checks removed, fixed or noticed.
    """
    if (folder / "summary.json").is_file():
        return load_run_data(folder)
    dataset = _read(config)
    say(str(dataset.checks))
    split = _split(dataset, config)
    folder.mkdir(parents=True, exist_ok=True)
    dataset.catalogue.items.write_parquet(folder / "catalogue.parquet")
    for part in _PARTS:
        getattr(split, part).write_parquet(folder / f"{part}.parquet")
    summary = {
        "name": dataset.name,
        "checksum": dataset.checksum(),
        "n_users": dataset.n_users,
        "n_items": dataset.n_items,
        "n_interactions": dataset.n_interactions,
        "checks": dataset.checks.as_dict(),
        "split": split.as_dict(),
    }
    write_json(summary, folder / "summary.json")
    return load_run_data(folder)


def read_summary(folder: Path) -> dict[str, Any]:
    """Read what :func:`prepare_run_data` kept about the data: name, checksum, counts, checks, split.

    Raises:
        DataError: it is not there; it is written last.
    """
    file = folder / "summary.json"
    if not file.is_file():
        raise DataError(
            f"run must hold its data; got {str(folder.parent)!r} without a complete data folder.\n"
            "  Finish it with `tailwise run ... --resume`."
        )
    summary: dict[str, Any] = json.loads(file.read_text())
    return summary


def load_run_data(folder: Path) -> RunData:
    """Read back what :func:`prepare_run_data` kept.

    Raises:
        DataError: it is not there, or not complete.
    """
    summary = read_summary(folder)
    split = summary["split"]
    tables = {part: pl.read_parquet(folder / f"{part}.parquet") for part in _PARTS}
    restored = Split(
        method=split["method"],
        parameters=split["parameters"],
        n_users=summary["n_users"],
        n_items=summary["n_items"],
        n_tied_validation=split["n_tied_validation_targets"],
        n_tied_test=split["n_tied_test_targets"],
        n_excluded_validation=split["n_excluded_validation_targets"],
        n_excluded_test=split["n_excluded_test_targets"],
        **tables,
    )
    return RunData(
        catalogue=Catalogue(pl.read_parquet(folder / "catalogue.parquet")),
        split=restored,
        counts=popularity(restored.train, restored.n_items),
        summary=summary,
    )


def _read(config: DataConfig) -> Dataset:
    if config.name is not None:
        return load_dataset(config.name, repeats=config.repeats)  # type: ignore[arg-type]
    assert config.interactions is not None  # DataConfig's rule
    assert config.items is not None
    log = load_interactions(
        config.interactions,
        columns=_columns_of(
            "interactions", config.columns, (USER, ITEM, TIMESTAMP, *OPTIONAL_INTERACTION_COLUMNS)
        ),
    )
    catalogue = load_catalogue(
        config.items, columns=_columns_of("items", config.columns, (ITEM, TITLE, *OPTIONAL_ITEM_COLUMNS))
    )
    return build_dataset(
        log,
        catalogue,
        name=config.title,
        repeats=config.repeats,  # type: ignore[arg-type]
        unknown_items=config.unknown_items,  # type: ignore[arg-type]
    )


def _columns_of(file: str, columns: dict[str, str], known: tuple[str, ...]) -> dict[str, str]:
    """The part of a column mapping that concerns one file; ``items.item_id`` concerns only that one."""
    known_everywhere = {USER, ITEM, TIMESTAMP, *OPTIONAL_INTERACTION_COLUMNS, TITLE, *OPTIONAL_ITEM_COLUMNS}
    for ours in columns:
        if ours.removeprefix("interactions.").removeprefix("items.") not in known_everywhere:
            raise ConfigError(
                f"data.columns must map names of ours ({', '.join(sorted(known_everywhere))}); got {ours!r}."
            )
    both = {ours: theirs for ours, theirs in columns.items() if ours in known}
    own = {ours.partition(".")[2]: theirs for ours, theirs in columns.items() if ours.startswith(f"{file}.")}
    return both | own


def _split(dataset: Dataset, config: DataConfig) -> Split:
    method = config.split
    if method == "auto":
        named = config.name is not None
        method = named_dataset(config.name or "").recommended_split.method if named else "global-time"
    if method == "leave-last-out":
        return split_leave_last_out(dataset, seed=config.split_seed)
    return split_by_time(
        dataset,
        validation_share=config.validation_share,
        test_share=config.test_share,
        seed=config.split_seed,
    )


def sample_users(held_out: HeldOut, n_users: int | None, seed: int) -> HeldOut:
    """Return at most ``n_users`` of the users, drawn by ``seed``, in their order."""
    if n_users is None or held_out.n_users <= n_users:
        return held_out
    rows = np.sort(np.random.default_rng(seed).choice(held_out.n_users, n_users, replace=False))
    return take_users(held_out, rows)


def take_users(held_out: HeldOut, rows: NDArray[np.int64]) -> HeldOut:
    """Return the users at some positions."""
    targets = [held_out.targets(row) for row in rows]
    return replace(
        held_out,
        users=held_out.users[rows],
        histories=[held_out.histories[row] for row in rows],
        target_items=np.concatenate([held_out.target_items[:0], *targets]),
        target_offsets=np.concatenate([[0], np.cumsum([len(t) for t in targets])]).astype(np.int64),
    )
