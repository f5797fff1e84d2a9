"""Files of results: check against a shape, write, read.

A shape is the schema of a file in executable form. Unknown fields pass (a schema may gain
fields without a new version); missing or mistyped ones are named by path.
"""

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from tailwise.errors import DataError

__all__ = ["OneOf", "Optional", "ResultFile", "check_value", "must_be", "write_atomically"]

_SHARE_SLACK = 1e-6  # sums of float32 shares may pass 1 by rounding
_RULES = {
    "text": "text",
    "int": "a whole number",
    "number": "a number",
    "share": "a fraction in 0–1",
    "bool": "true or false",
    "object": "an object",
    "moment": "an ISO 8601 time such as 2026-01-31T12:00:00Z",
}


@dataclass(frozen=True)
class Optional:
    """A shape that may also be null."""

    shape: Any


@dataclass(frozen=True)
class OneOf:
    """One of these texts."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class ResultFile:
    """One kind of file.

    Attributes:
        version: Of its schema; rises when a field changes its meaning or goes away.
        shape: A kind (``"text"``, ``"int"``, ``"number"``, ``"share"``, ``"bool"``, ``"object"``,
            ``"moment"``; a trailing ``?`` admits null), an object of shapes, a one-element list (a
            list of that shape), :class:`OneOf`, or :class:`Optional`.
        documentation: Page that describes the schema.
        written_by: Commands that write such a file, as a sentence.
        again: What to do about a file that is broken or of another version.
        check_rest: Checks what a shape cannot say; is given the plain content and its source.
    """

    version: int
    shape: Mapping[str, Any]
    documentation: str
    written_by: str
    again: str
    check_rest: Callable[[dict[str, Any], str], None] = lambda content, source: None

    def check(self, content: Mapping[str, Any], *, source: str) -> dict[str, Any]:
        """Check content against the schema and return it as plain JSON types.

        NumPy scalars become Python numbers and tuples become lists; nothing else is changed.

        Args:
            content: What the file holds or shall hold.
            source: What an error calls it, e.g. the file it was read from.

        Raises:
            DataError: another ``schema_version``; a field that is missing, of the wrong kind
                or outside its range.
        """
        if not isinstance(content, Mapping):
            raise DataError(f"{source} must hold an object; got {type(content).__name__}.")
        version = content.get("schema_version")
        if "schema_version" in content and version != self.version:
            raise DataError(
                f"{source}: schema_version must be {self.version}; got {version!r}.\n"
                f"  {self.again} of this version of Tailwise, or read the file with the version"
                f" that wrote it ({content.get('tailwise_version', 'not recorded')})."
            )
        plain = dict(_plain(content, "", source))
        try:
            check_value(plain, self.shape, "", source)
        except _MissingError as missing:
            raise DataError(
                f"{source}: field {missing.path} is missing.\n"
                f"  Schema version {self.version} requires it ({self.documentation}). {self.again}."
            ) from None
        self.check_rest(plain, source)
        return plain

    def write(self, content: Mapping[str, Any], path: str | Path) -> Path:
        """Check content and write it as JSON; a reader never sees half a file.

        Raises:
            DataError: the content breaks the schema; nothing is written then.
        """
        path = Path(path)
        plain = self.check(content, source=str(path))
        return write_atomically(path, json.dumps(plain, ensure_ascii=False, indent=1, allow_nan=False) + "\n")

    def read(self, path: str | Path) -> dict[str, Any]:
        """Read and check a file.

        Raises:
            DataError: the file is missing, is not JSON, or breaks the schema.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise DataError(f"{path} does not exist.\n  {self.written_by}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} could not be read: {error}.") from error
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path} must be JSON; line {error.lineno}, column {error.colno}: {error.msg}.\n"
                f"  {self.again}."
            ) from error
        return self.check(content, source=str(path))


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


def check_value(value: Any, shape: Any, path: str, source: str) -> None:
    """Hold a plain value against a shape; errors name ``path`` and what lies below it."""
    if isinstance(shape, Optional):
        if value is not None:
            check_value(value, shape.shape, path, source)
    elif isinstance(shape, Mapping):
        if not isinstance(value, dict):
            raise must_be(source, path, "an object", value)
        for key, inner in shape.items():
            inner_path = f"{path}.{key}" if path else key
            if key not in value:
                raise _MissingError(inner_path)
            check_value(value[key], inner, inner_path, source)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise must_be(source, path, "a list", value)
        for index, item in enumerate(value):
            check_value(item, shape[0], f"{path}[{index}]", source)
    elif isinstance(shape, OneOf):
        if value not in shape.texts:
            raise must_be(source, path, "one of " + ", ".join(shape.texts), value)
    elif not (value is None and shape.endswith("?")) and not _is(value, shape.removesuffix("?")):
        raise must_be(source, path, _RULES[shape.removesuffix("?")], value)


def must_be(source: str, path: str, rule: str, value: Any) -> DataError:
    """Name a value that breaks a rule."""
    return DataError(f"{source}: {path} must be {rule}; got {value!r}.")


class _MissingError(Exception):
    """A field is not there; the file's kind knows what to advise."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


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
    if kind == "bool":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int if kind == "int" else int | float):
        return False
    return kind != "share" or -_SHARE_SLACK <= value <= 1 + _SHARE_SLACK
