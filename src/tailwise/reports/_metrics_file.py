"""``metrics.json``: check, write, read.

The shapes below are docs/metrics-schema.md in executable form; the audit's file shares some.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailwise.errors import DataError
from tailwise.reports._result_file import OneOf, ResultFile, check_value, must_be

__all__ = [
    "ACCURACY",
    "DATA",
    "DECILE",
    "EXPOSURE",
    "SCHEMA_VERSION",
    "SEGMENTS",
    "check_metrics",
    "check_pairs",
    "check_unique",
    "read_metrics",
    "write_metrics",
]

SCHEMA_VERSION = 1  # rises when a field changes its meaning or goes away

_ESTIMATE = {"value": "number?", "low": "number?", "high": "number?"}
_SPLIT = {
    "method": "text",
    "parameters": "object",
    "n_validation_targets": "int",
    "n_test_targets": "int",
    "n_tied_validation_targets": "int",
    "n_tied_test_targets": "int",
    "n_excluded_test_targets": "int",
}
_SEGMENT = {
    "name": "text",
    "n_items": "int",
    "n_training_interactions": "int",
    "item_share": "share",
    "interaction_share": "share",
    "n_test_targets": "int",
}
DATA = {
    "name": "text",
    "checksum": "text",
    "n_users": "int",
    "n_items": "int",
    "n_interactions": "int",
    "n_training_interactions": "int",
    "split": _SPLIT,
    "concentration": {
        "gini": "number?",
        "curve": [["share"]],
        "top_shares": [{"item_share": "share", "interaction_share": "share"}],
    },
}
SEGMENTS = {
    "rule": "text",
    "parameters": "object",
    "popularity_window": "object?",
    "segments": [_SEGMENT],
}
ACCURACY = {
    "segment": "text",
    "metric": "text",
    "k": "int",
    **_ESTIMATE,
    "n_targets": "int",
    "n_users": "int",
}
EXPOSURE = {"metric": "text", "k": "int?", "segment": "text?", **_ESTIMATE}
DECILE = {"decile": "int", "n_items": "int", "slot_share": "share?", "interaction_share": "share?"}
_VARIANT = {
    "name": "text",
    "role": OneOf(("baseline", "treatment", "reference")),
    "label": "text",
    "seeds": ["int"],
    "settings": "object",
    "accuracy": [ACCURACY],
    "exposure": [EXPOSURE],
    "exposure_deciles": [DECILE],
    "cost": "object?",
}
_COMPARISON = {
    "variant": "text",
    "baseline": "text",
    "metric": "text",
    "k": "int",
    "segment": "text?",
    "baseline_value": "number?",
    "value": "number?",
    "difference": "number?",
    "low": "number?",
    "high": "number?",
    "relative_difference": "number?",
    "n_seeds": "int",
    "n_users": "int",
    "variance": "text",
}
_METRICS: dict[str, Any] = {
    "schema_version": "int",
    "tailwise_version": "text",
    "created_at": "moment",
    "data": DATA,
    "segments": SEGMENTS,
    "variants": [_VARIANT],
    "comparisons": [_COMPARISON],
}
_COST_FIELDS = (
    "train_seconds",
    "n_steps",
    "n_epochs",
    "best_epoch",
    "targets_per_second",
    "peak_memory_mib",
    "seconds_per_step",
)


def check_metrics(metrics: Mapping[str, Any], *, source: str = "metrics") -> dict[str, Any]:
    """Check results against the schema and return them as plain JSON types.

    NumPy scalars become Python numbers and tuples become lists; nothing else is changed.

    Args:
        metrics: The results of a run, docs/metrics-schema.md.
        source: What an error calls them, e.g. the file they were read from.

    Raises:
        DataError: another ``schema_version``; a field that is missing, of the wrong kind or
            outside its range; two variants or segments of one name; a comparison of unknown ones.
    """
    return _FILE.check(metrics, source=source)


def write_metrics(metrics: Mapping[str, Any], path: str | Path) -> Path:
    """Check results and write them as JSON; a reader never sees half a file.

    Returns:
        The path written.

    Raises:
        DataError: the results break the schema; nothing is written then.
    """
    return _FILE.write(metrics, path)


def read_metrics(path: str | Path) -> dict[str, Any]:
    """Read and check a ``metrics.json``.

    Raises:
        DataError: the file is missing, is not JSON, or breaks the schema.
    """
    return _FILE.read(path)


def check_unique(rows: list[dict[str, Any]], path: str, source: str) -> list[str]:
    """Return the names of rows, or name one that two of them have."""
    names = [row["name"] for row in rows]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{source}: names in {path} must be unique; got {repeated[0]!r} more than once.")
    return names


def check_pairs(points: list[Any], path: str, source: str) -> None:
    """Refuse points of a Lorenz curve that are not pairs."""
    for index, point in enumerate(points):
        if len(point) != 2:
            raise must_be(source, f"{path}[{index}]", "a pair [item_share, interaction_share]", point)


def _check_rest(metrics: dict[str, Any], source: str) -> None:
    if not metrics["variants"]:
        raise DataError(f"{source}: variants must hold at least one variant; got an empty list.")
    variants = check_unique(metrics["variants"], "variants", source)
    check_unique(metrics["segments"]["segments"], "segments.segments", source)
    for index, comparison in enumerate(metrics["comparisons"]):
        for key in ("variant", "baseline"):
            if comparison[key] not in variants:
                rule = "one of the variants " + ", ".join(variants)
                raise must_be(source, f"comparisons[{index}].{key}", rule, comparison[key])
    for index, variant in enumerate(metrics["variants"]):
        for key in _COST_FIELDS if variant["cost"] is not None else ():
            check_value(variant["cost"].get(key), "number?", f"variants[{index}].cost.{key}", source)
    check_pairs(metrics["data"]["concentration"]["curve"], "data.concentration.curve", source)


_FILE = ResultFile(
    version=SCHEMA_VERSION,
    shape=_METRICS,
    documentation="docs/metrics-schema.md",
    written_by="`tailwise run` and `tailwise evaluate` write it.",
    again="Write it again with `tailwise evaluate`",
    check_rest=_check_rest,
)
