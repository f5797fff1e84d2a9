"""``metrics.json``: check, write, read.

The shape below is docs/metrics-schema.md in executable form. Unknown fields pass (the
schema may gain fields without a new version); missing or mistyped ones are named by path.
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from datetime import datetime
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from tailwise.errors import DataError

__all__ = ["SCHEMA_VERSION", "check_metrics", "read_metrics", "write_atomically", "write_metrics"]

SCHEMA_VERSION = 1  # rises when a field changes its meaning or goes away

# A shape is a kind ("text", "int", "number", "share", "object", "moment"; a trailing "?" admits
# null), an object of shapes, a one-element list (a list of that shape), or a tuple of allowed texts.
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
_VARIANT = {
    "name": "text",
    "role": ("baseline", "treatment", "reference"),
    "label": "text",
    "seeds": ["int"],
    "settings": "object",
    "accuracy": [
        {"segment": "text", "metric": "text", "k": "int", **_ESTIMATE, "n_targets": "int", "n_users": "int"}
    ],
    "exposure": [{"metric": "text", "k": "int?", "segment": "text?", **_ESTIMATE}],
    "exposure_deciles": [
        {"decile": "int", "n_items": "int", "slot_share": "share?", "interaction_share": "share?"}
    ],
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
    "data": {
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
    },
    "segments": {
        "rule": "text",
        "parameters": "object",
        "popularity_window": "object?",
        "segments": [_SEGMENT],
    },
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
_SHARE_SLACK = 1e-6  # sums of float32 shares may pass 1 by rounding
_RULES = {
    "text": "text",
    "int": "a whole number",
    "number": "a number",
    "share": "a fraction in 0–1",
    "object": "an object",
    "moment": "an ISO 8601 time such as 2026-01-31T12:00:00Z",
}


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
    if not isinstance(metrics, Mapping):
        raise DataError(f"{source} must hold an object; got {type(metrics).__name__}.")
    version = metrics.get("schema_version")
    if "schema_version" in metrics and version != SCHEMA_VERSION:
        raise DataError(
            f"{source}: schema_version must be {SCHEMA_VERSION}; got {version!r}.\n"
            "  Evaluate the run again with this version of Tailwise, or read the file with the version"
            f" that wrote it ({metrics.get('tailwise_version', 'not recorded')})."
        )
    plain = _plain(metrics, "", source)
    _check(plain, _METRICS, "", source)
    _check_names(plain, source)
    return dict(plain)


def write_metrics(metrics: Mapping[str, Any], path: str | Path) -> Path:
    """Check results and write them as JSON; a reader never sees half a file.

    Returns:
        The path written.

    Raises:
        DataError: the results break the schema; nothing is written then.
    """
    path = Path(path)
    plain = check_metrics(metrics, source=str(path))
    return write_atomically(path, json.dumps(plain, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def read_metrics(path: str | Path) -> dict[str, Any]:
    """Read and check a ``metrics.json``.

    Raises:
        DataError: the file is missing, is not JSON, or breaks the schema.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist.\n  `tailwise run` and `tailwise evaluate` write it."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} could not be read: {error}.") from error
    try:
        metrics = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} must be JSON; line {error.lineno}, column {error.colno}: {error.msg}.\n"
            "  Write it again with `tailwise evaluate`."
        ) from error
    return check_metrics(metrics, source=str(path))


def write_atomically(path: Path, text: str) -> Path:
    """Write to a neighbouring temporary file, flush it to disk, then rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)  # mkstemp makes private files; a report is as readable as any other
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def _plain(value: Any, path: str, source: str) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Mapping):
        return {
            str(key): _plain(item, f"{path}.{key}" if path else str(key), source)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{index}]", source) for index, item in enumerate(value)]
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        if math.isfinite(number):
            return number
        raise DataError(f"{source}: {path} must be finite or null; got {number}.")
    if type(value).__name__ == "bool" and hasattr(value, "item"):  # numpy.bool
        return bool(value)
    raise DataError(f"{source}: {path} must be a plain JSON value; got {type(value).__name__} {value!r}.")


def _check(value: Any, shape: Any, path: str, source: str) -> None:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise _wrong(source, path, "an object", value)
        for key, inner in shape.items():
            inner_path = f"{path}.{key}" if path else key
            if key not in value:
                raise DataError(
                    f"{source}: field {inner_path} is missing.\n"
                    f"  Schema version {SCHEMA_VERSION} requires it (docs/metrics-schema.md);"
                    " write the file again with `tailwise evaluate`."
                )
            _check(value[key], inner, inner_path, source)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise _wrong(source, path, "a list", value)
        for index, item in enumerate(value):
            _check(item, shape[0], f"{path}[{index}]", source)
    elif isinstance(shape, tuple):
        if value not in shape:
            raise _wrong(source, path, "one of " + ", ".join(shape), value)
    elif not (value is None and shape.endswith("?")) and not _is(value, shape.removesuffix("?")):
        raise _wrong(source, path, _RULES[shape.removesuffix("?")], value)


def _is(value: Any, kind: str) -> bool:
    if kind == "text":
        return isinstance(value, str)
    if kind == "moment":
        try:
            return isinstance(value, str) and bool(datetime.fromisoformat(value))
        except ValueError:
            return False
    if kind == "object":
        return isinstance(value, dict)
    if isinstance(value, bool) or not isinstance(value, int if kind == "int" else int | float):
        return False
    return kind != "share" or -_SHARE_SLACK <= value <= 1 + _SHARE_SLACK


def _check_names(metrics: dict[str, Any], source: str) -> None:
    variants = [variant["name"] for variant in metrics["variants"]]
    segments = [segment["name"] for segment in metrics["segments"]["segments"]]
    if not variants:
        raise DataError(f"{source}: variants must hold at least one variant; got an empty list.")
    for path, names in (("variants", variants), ("segments.segments", segments)):
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise DataError(f"{source}: names in {path} must be unique; got {repeated[0]!r} more than once.")
    for index, comparison in enumerate(metrics["comparisons"]):
        for key in ("variant", "baseline"):
            if comparison[key] not in variants:
                rule = "one of the variants " + ", ".join(variants)
                raise _wrong(source, f"comparisons[{index}].{key}", rule, comparison[key])
    for index, variant in enumerate(metrics["variants"]):
        for key in _COST_FIELDS if variant["cost"] is not None else ():
            _check(variant["cost"].get(key), "number?", f"variants[{index}].cost.{key}", source)
    for index, point in enumerate(metrics["data"]["concentration"]["curve"]):
        if len(point) != 2:
            path = f"data.concentration.curve[{index}]"
            raise _wrong(source, path, "a pair [item_share, interaction_share]", point)


def _wrong(source: str, path: str, rule: str, value: Any) -> DataError:
    return DataError(f"{source}: {path} must be {rule}; got {value!r}.")
