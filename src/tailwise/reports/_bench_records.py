"""Read the records of a benchmark: strictly, since a number that nobody can trace is worth nothing.

A cell that is not there yet is allowed and counted. A cell that is there must be whole and must be
one that ``bench.json`` declares.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.errors import DataError
from tailwise.evaluation import UNRANKED, Rankings
from tailwise.reports._result_file import OneOf, Optional, ResultFile, check_value, must_be
from tailwise.schema import ITEM_INDEX, REVENUE, USER_INDEX
from tailwise.segments import COLD, Segments

__all__ = ["ROLES", "Bench", "Cell", "Comparison", "Method", "Setting", "read_bench"]

ROLES = ("baseline", "rival", "eisam", "control", "scale")
_BEYOND = 2**16 - 1  # n_better of a target that cannot be recommended, or that ranks beyond
_AGAIN = "Run `tailwise bench` again into this folder; it goes on where it stopped"
_WRITTEN_BY = "`tailwise bench` writes it."
_VALIDATION = {"overall": "number?", "head": "number?", "tail": "number?"}


def _file(shape: Mapping[str, Any]) -> ResultFile:
    return ResultFile(1, shape, "docs/running-benchmarks.md", _WRITTEN_BY, _AGAIN)


_BENCH = _file(
    {
        "schema_version": "int",
        "question": "text",
        "baseline": "text",
        "methods": [{"name": "text", "label": "text", "role": OneOf(ROLES)}],
        "seeds": ["int"],
        "margin": "share",
        "rule": "text",
        "n_trials": "int",
        "settings": ["text"],
    }
)
_COMPARISON = {"method": "text", "against": "text", "family": "text", "seeds": ["int"]}
_SETTING = _file(
    {
        "data": "text",
        "histories": "int?",
        "n_users": "int",
        "n_items": "int",
        "n_interactions": "int",
        "split": {"method": "text"},
        "test": {"n_users": "int", "n_targets": "int", "n_tied": "int"},
        "segments": {"rule": "text", "parameters": "object"},
        "backbone": "text",
    }
)
_TUNING = _file(
    {
        "method": "text",
        "rule": "text",
        "trials": [
            {"settings": "object", "validation": _VALIDATION, "value": "number?", "seconds": "number?"}
        ],
        "chosen": "int?",
    }
)
_RECORD = _file(
    {
        "schema_version": "int",
        "cell": {
            "setting": "text",
            "method": "text",
            "seed": "int",
            "curve": Optional({"knob": "text", "value": "number"}),
        },
        "settings": "object",
        "cost": Optional({"train_seconds": "number?", "seconds_per_step": "number?", "n_steps": "int?"}),
        "validation": _VALIDATION,
        "exposure": {"tail_slot_share": "share?", "coverage": "share?"},
        "surroundings": "object",
    }
)


@dataclass(frozen=True)
class Method:
    """A method of the benchmark, as ``bench.json`` declares it."""

    name: str
    label: str
    role: str


@dataclass(frozen=True)
class Comparison:
    """A difference between two methods that ``bench.json`` wants shown.

    Attributes:
        method: Name of a method, or of a point of its curve (``method@value``).
        against: From which, likewise.
        family: Those of one are counted together.
        seeds: Of these alone; empty for all that both have.
    """

    method: str
    against: str
    family: str
    seeds: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Cell:
    """One trained model: where its targets landed, and what its record says.

    Attributes:
        method: Name of the method.
        seed: Of the training.
        knob: Name of the knob of a curve point; None for the method as chosen.
        value: Of the knob; None likewise.
        rankings: Targets in the order of :class:`~tailwise.evaluation.Rankings`, without lists.
        record: The content of ``record.json``.
    """

    method: str
    seed: int
    knob: str | None
    value: float | None
    rankings: Rankings
    record: Mapping[str, Any]

    @property
    def point(self) -> str:
        """The method, or method@value: what the seeds of a curve point share."""
        return self.method if self.value is None else f"{self.method}@{self.value:g}"

    def cost(self, name: str) -> float | None:
        """Read a field of the cost; None where the method is not trained."""
        cost = self.record["cost"]
        return None if cost is None or cost[name] is None else float(cost[name])


@dataclass(frozen=True, eq=False)
class Setting:
    """One data set with one amount of training histories.

    Attributes:
        name: Of the folder.
        about: The content of ``setting.json``.
        segments: Of the catalogue, from ``items.parquet``.
        revenue: ``[n_targets]`` float64, NaN where not known; None where the data has no money.
        cells: All that are there, by point and seed.
        tuning: The content of each file in ``tuning/``, by method.
        n_missing: Declared cells that are not there.
        n_expected: Declared cells; a curve point is declared by its first seed.
    """

    name: str
    about: Mapping[str, Any]
    segments: Segments
    revenue: NDArray[np.float64] | None
    cells: Mapping[str, Mapping[int, Cell]]
    tuning: Mapping[str, Mapping[str, Any]]
    n_missing: int
    n_expected: int

    @property
    def title(self) -> str:
        """``steam, 1,024 histories``."""
        histories = self.about["histories"]
        return f"{self.about['data']}, {'all' if histories is None else f'{histories:,}'} histories"

    def curve(self, method: str) -> list[tuple[float, str]]:
        """Values of a method's knob with the names of their points, ascending."""
        return sorted(
            (cell.value, point)
            for point, seeds in self.cells.items()
            for cell in list(seeds.values())[:1]
            if cell.method == method and cell.value is not None
        )

    def knob(self, method: str) -> str | None:
        """Name of the knob that a method's curve turns."""
        curve = self.curve(method)
        return next(iter(self.cells[curve[0][1]].values())).knob if curve else None


@dataclass(frozen=True, eq=False)
class Bench:
    """A benchmark's folder, read.

    Attributes:
        folder: Where it lies.
        about: The content of ``bench.json``.
        methods: In the order in which tables show them.
        comparisons: Differences to show beside those from the baseline.
        settings: Those that have begun, in declared order.
        not_begun: Names of declared settings without a ``setting.json``.
    """

    folder: Path
    about: Mapping[str, Any]
    methods: tuple[Method, ...]
    settings: tuple[Setting, ...]
    not_begun: tuple[str, ...] = field(default=())
    comparisons: tuple[Comparison, ...] = field(default=())

    @property
    def baseline(self) -> str:
        """Name of the method that others are compared with."""
        return str(self.about["baseline"])

    @cached_property
    def labels(self) -> dict[str, str]:
        """What tables call each method."""
        return {m.name: m.label for m in self.methods}


def read_bench(folder: str | Path) -> Bench:
    """Read and check all records of a benchmark.

    Args:
        folder: That ``tailwise bench --out`` wrote, complete or not.

    Returns:
        :class:`Bench`.

    Raises:
        DataError: a file is missing within a cell, breaks the schema, holds other targets than its
            setting, or belongs to a method, seed or setting that ``bench.json`` does not declare;
            or no setting has begun.
    """
    folder = Path(folder)
    about = _BENCH.read(folder / "bench.json")
    methods = tuple(Method(m["name"], m["label"], m["role"]) for m in about["methods"])
    names = [m.name for m in methods]
    if len(set(names)) != len(names) or about["baseline"] not in names:
        raise DataError(
            f"{folder / 'bench.json'}: methods must be distinct and hold the baseline "
            f"{about['baseline']!r}; got {', '.join(names)}.\n  {_AGAIN}."
        )
    begun = [name for name in about["settings"] if (folder / name / "setting.json").is_file()]
    if not begun:
        raise DataError(
            f"{folder} must hold at least one setting with records; got none of "
            f"{', '.join(about['settings'])}.\n  {_AGAIN}."
        )
    return Bench(
        folder=folder,
        about=about,
        methods=methods,
        settings=tuple(_read_setting(folder / name, methods, about["seeds"]) for name in begun),
        not_begun=tuple(name for name in about["settings"] if name not in begun),
        comparisons=_read_comparisons(folder / "bench.json", about, names),
    )


def _read_comparisons(file: Path, about: Mapping[str, Any], names: list[str]) -> tuple[Comparison, ...]:
    given = about.get("comparisons", [])  # older files have none
    check_value(given, [_COMPARISON], "comparisons", str(file))
    found = tuple(Comparison(c["method"], c["against"], c["family"], tuple(c["seeds"])) for c in given)
    for one in found:
        for point in (one.method, one.against):
            if point.partition("@")[0] not in names:
                raise must_be(str(file), "comparisons", f"of methods among {', '.join(names)}", point)
    return found


def _read_setting(folder: Path, methods: tuple[Method, ...], seeds: list[int]) -> Setting:
    about = _SETTING.read(folder / "setting.json")
    targets = _read_table(folder / "targets.parquet", (USER_INDEX, ITEM_INDEX, "segment", REVENUE))
    segments = _read_segments(folder / "items.parquet", about)
    _check_targets(folder / "targets.parquet", targets, segments, about)
    order = targets.with_row_index().sort(USER_INDEX, ITEM_INDEX, maintain_order=True)["index"]
    revenue = targets[REVENUE].cast(pl.Float64)[order]
    lists = targets.select(USER_INDEX).unique().with_columns(items=pl.lit([], dtype=pl.List(pl.Int32)))
    roles = {m.name: m.role for m in methods}
    cells: dict[str, dict[int, Cell]] = {}
    for path in sorted((folder / "cells").glob("*/seed-*/record.json")):
        cell = _read_cell(path, targets, lists, segments.n_items)
        if cell.method not in roles or cell.seed not in seeds:
            raise DataError(
                f"{path}: method and seed must be declared in bench.json, methods {', '.join(roles)}, "
                f"seeds {', '.join(map(str, seeds))}; got {cell.method!r}, {cell.seed}.\n"
                "  Move the folder away, or declare it."
            )
        cells.setdefault(cell.point, {})[cell.seed] = cell
    _check_knobs(folder, [cell for seeds_of in cells.values() for cell in seeds_of.values()])
    n_missing = n_expected = 0
    for point in dict.fromkeys([*roles, *cells]):
        found = cells.get(point, {})
        needs_one = roles.get(point) == "scale" and all(c.record["cost"] is None for c in found.values())
        expected = 1 if needs_one and found else len(seeds)
        n_expected += expected
        n_missing += max(0, expected - len(found))
    return Setting(
        name=folder.name,
        about=about,
        segments=segments,
        revenue=None if revenue.null_count() == revenue.len() else revenue.fill_null(np.nan).to_numpy(),
        cells=cells,
        tuning=_read_tuning(folder / "tuning", roles),
        n_missing=n_missing,
        n_expected=n_expected,
    )


def _read_cell(path: Path, targets: pl.DataFrame, lists: pl.DataFrame, n_items: int) -> Cell:
    record = _RECORD.read(path)
    cell = record["cell"]
    method, _, value = path.parents[1].name.partition("@")
    said = (cell["setting"], cell["method"], cell["seed"], cell["curve"] is not None)
    seed = path.parent.name.removeprefix("seed-")
    lies = (path.parents[3].name, method, int(seed) if seed.isdecimal() else seed, value != "")
    if said != lies:
        raise DataError(
            f"{path}: cell must say the setting, method, seed and whether it is a curve point as its folder "
            f"does, {lies}; got {said}.\n  The folder was renamed or copied: move it back."
        )
    ranks = _read_table(path.with_name("ranks.parquet"), ("n_better", "n_tied"))
    if ranks.height != targets.height or ranks.null_count().sum_horizontal().item():
        raise DataError(
            f"{path.with_name('ranks.parquet')} must hold one rank per test target, {targets.height:,}, "
            f"without nulls; got {ranks.height:,} rows.\n  Delete the cell's folder. {_AGAIN}."
        )
    better = pl.col("n_better").cast(pl.Int64)
    ranked = targets.select(USER_INDEX, ITEM_INDEX).with_columns(
        ranks.select(
            n_better=pl.when(better >= _BEYOND).then(UNRANKED).otherwise(better),
            n_tied=pl.col("n_tied").cast(pl.Int64),
        )
    )
    curve = cell["curve"]
    return Cell(
        method=cell["method"],
        seed=cell["seed"],
        knob=None if curve is None else curve["knob"],
        value=None if curve is None else float(curve["value"]),
        rankings=Rankings(ranked, lists, n_items=n_items, list_length=0),
        record=record,
    )


def _check_knobs(folder: Path, cells: list[Cell]) -> None:
    """Refuse a curve over two knobs: their values could not be told apart."""
    knobs: dict[str, set[str]] = {}
    for cell in cells:
        if cell.knob is not None:
            knobs.setdefault(cell.method, set()).add(cell.knob)
    for method, names in knobs.items():
        if len(names) > 1:
            raise DataError(
                f"{folder / 'cells'}: the curve of {method!r} must turn one knob; "
                f"got {', '.join(sorted(names))}.\n  Declare two methods."
            )


def _read_segments(path: Path, about: Mapping[str, Any]) -> Segments:
    """Rebuild the segments, ordered by falling mean count as the rules order them, cold last."""
    items = _read_table(path, (ITEM_INDEX, "count", "segment")).sort(ITEM_INDEX)
    if items[ITEM_INDEX].to_list() != list(range(about["n_items"])):
        raise DataError(
            f"{path} must hold each item_index from 0 to {about['n_items'] - 1:,} once; "
            f"got {items.height:,} rows.\n  {_AGAIN}."
        )
    by_count = items.group_by("segment").agg(pl.col("count").mean()).sort("count", descending=True)
    names = (*(name for name in by_count["segment"] if name != COLD), COLD)
    if not {"head", "tail"} <= set(names):
        raise DataError(
            f"{path}: segment must hold 'head' and 'tail', which tables compare; got {', '.join(names)}.\n"
            "  Cut the catalogue with a rule that has both (docs/metrics.md, Segments)."
        )
    return Segments(
        names=names,
        labels=np.array([names.index(name) for name in items["segment"]], dtype=np.int8),
        counts=items["count"].cast(pl.Int64).to_numpy(),
        rule=about["segments"]["rule"],
        parameters=about["segments"]["parameters"],
    )


def _check_targets(path: Path, targets: pl.DataFrame, segments: Segments, about: Mapping[str, Any]) -> None:
    if targets.height != about["test"]["n_targets"] or not targets.height:
        raise DataError(
            f"{path} must hold the {about['test']['n_targets']:,} test targets of setting.json, one or more; "
            f"got {targets.height:,} rows.\n  {_AGAIN}."
        )
    items = targets[ITEM_INDEX].to_numpy()
    outside = (items < 0) | (items >= segments.n_items)
    names = np.array(segments.names)[segments.labels[np.where(outside, 0, items)]]
    wrong = outside | (names != targets["segment"].to_numpy())
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path}: item and segment must agree with items.parquet; got {int(wrong.sum()):,} of "
            f"{targets.height:,} targets that do not (first: item {items[row]} in "
            f"{targets['segment'][row]!r}).\n  The files are of different runs. {_AGAIN}."
        )


def _read_tuning(folder: Path, roles: Mapping[str, str]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        tuning = _TUNING.read(path)
        chosen, n_trials = tuning["chosen"], len(tuning["trials"])
        if tuning["method"] not in roles or tuning["method"] != path.stem:
            raise DataError(
                f"{path}: method must be the file's name and declared in bench.json; "
                f"got {tuning['method']!r}.\n  Move the file away, or declare the method."
            )
        if chosen is not None and not 0 <= chosen < n_trials:
            raise DataError(
                f"{path}: chosen must be the number of a trial, 0..{n_trials - 1}; got {chosen}.\n  {_AGAIN}."
            )
        found[tuning["method"]] = tuning
    return {name: found[name] for name in roles if name in found}


def _read_table(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    if not path.is_file():
        raise DataError(f"{path} does not exist.\n  The records beside it are incomplete. {_AGAIN}.")
    table = pl.read_parquet(path)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(
            f"{path} must have the columns {', '.join(columns)}; got {', '.join(table.columns)}.\n  {_AGAIN}."
        )
    return table.select(columns)
