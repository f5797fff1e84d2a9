"""Numbers that are read as a coloured table: the grid of the two sides, the agreement of estimates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tailwise.reports._audit_results import POPULARITY, Audit, estimate
from tailwise.reports._numbers import between, count, number, signed

__all__ = ["HeatCell", "HeatTable", "agreement_table", "grid_table", "prior_rows"]

_PAIRS = "pairwise"
_ESTIMATE_NAMES = {
    "title-likelihood": "likely titles",
    "output-frequency": "own picks",
    _PAIRS: "pairs compared",
    POPULARITY: "users’ choices",
}


@dataclass(frozen=True)
class HeatCell:
    """One cell of a heat table.

    Attributes:
        value: What it shows; empty where there is nothing.
        interval: Likewise.
        detail: One more line, e.g. on how many targets it rests.
        heat: In −1..1; None where there is nothing, and the cell is hatched.
    """

    value: str
    interval: str
    detail: str
    heat: float | None


@dataclass(frozen=True)
class HeatTable:
    """Rows by columns of cells."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[HeatCell, ...]], ...]


def grid_table(grid: Mapping[str, Any]) -> HeatTable:
    """Accuracy by prior and data group; the more accurate, the darker."""
    cells = {(cell["prior_group"], cell["data_group"]): cell for cell in grid["cells"]}
    largest = max((cell["accuracy"]["value"] or 0.0 for cell in grid["cells"]), default=0.0)

    def one(cell: Mapping[str, Any]) -> HeatCell:
        found = estimate(cell["accuracy"])
        n = cell["n_targets"]
        targets = f"{count(n)} target{'' if n == 1 else 's'}"
        if found.value is None:
            return HeatCell("", "", "no targets" if not n else targets, None)
        if found.value == 0:
            return HeatCell("0", "", f"none of {targets} found", 0.0)
        return HeatCell(
            number(found.value),
            between(found.low, found.high, number),
            targets,
            found.value / largest if largest else 0.0,
        )

    return HeatTable(
        tuple(grid["data_groups"]),
        tuple(
            (name, tuple(one(cells[name, column]) for column in grid["data_groups"]))
            for name in grid["prior_groups"]
        ),
    )


def agreement_table(audit: Audit) -> HeatTable:
    """How far the estimates of the prior agree, with each other and with the log."""
    side = audit.content["prior_side"]
    names = [*(one["name"] for one in side["estimates"]), POPULARITY]
    labels = [_estimate_name(name) for name in names]
    if side["pairwise"] is not None and not side["pairwise"]["is_informative"] and _PAIRS in names:
        labels[names.index(_PAIRS)] += " (say nothing)"

    def one(row: int, column: int) -> HeatCell:
        if column <= row:  # said above the diagonal
            return HeatCell("", "", "", None)
        found = audit.agreement(names[row], names[column])
        if found is None or found.value is None:
            return HeatCell("", "", "not known", None)
        return HeatCell(
            signed(found.value, 2), between(found.low, found.high, lambda v: signed(v, 2)), "", found.value
        )

    n = len(names)
    return HeatTable(
        tuple(labels[1:]),
        tuple((labels[i], tuple(one(i, j) for j in range(1, n))) for i in range(n - 1)),
    )


def prior_rows(prior_side: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each estimate of the prior: how many items it was asked of, how stable it is, what it took."""
    stable = {one["name"]: one for one in prior_side["stabilities"]}
    return [
        {
            "name": _estimate_name(one["name"]),
            "n_asked": one["n_asked"],
            "n_columns": len(one["columns"]),
            "stability": stable.get(one["name"]),
            "seconds": one["cost"]["seconds_when_computed"],
        }
        for one in prior_side["estimates"]
    ]


def _estimate_name(name: str) -> str:
    return _ESTIMATE_NAMES.get(name, name.replace("-", " "))
