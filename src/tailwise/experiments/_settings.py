"""Frozen dataclasses from TOML or JSON and back: unknown names, wrong kinds and bad values are errors."""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from tailwise.errors import ConfigError

__all__ = ["from_plain", "plain_of", "read_toml_file", "toml_of"]

T = TypeVar("T")


def from_plain(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build ``cls`` from nested plain values.

    Args:
        cls: A dataclass of texts, numbers, truth values, tuples of one kind, and such dataclasses.
        values: As read from TOML or JSON.
        where: What an error calls the place, such as ``experiment``.

    Raises:
        ConfigError: a name is unknown or missing, a value of the wrong kind or out of range.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(fields)}."
            raise ConfigError(f"{where}.{name} must be a known setting; got an unknown name. {hint}")
    for name, field in fields.items():
        has_default = (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
        if name not in values and not has_default:
            raise ConfigError(f"{where}.{name} must be given; got nothing.")
    hints = typing.get_type_hints(cls)
    built = {name: _convert(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    try:
        return cls(**built)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _convert(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a table; got {value!r}.")
        return from_plain(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # T | None, and TOML has no null
        return None if value is None else _convert(arguments[0], value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list; got {value!r}.")
        return tuple(_convert(arguments[0], entry, f"{where}[{place}]") for place, entry in enumerate(value))
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where} must be one of {', '.join(map(str, arguments))}; got {value!r}.")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ConfigError(f"{where} must be of kind {kind.__name__}; got {value!r}.")
    return value


def plain_of(value: Any) -> Any:
    """Return nested plain values that :func:`from_plain` reads back; None is left out."""
    if dataclasses.is_dataclass(value):
        entries = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: plain_of(entry) for name, entry in entries if entry is not None}
    return [plain_of(entry) for entry in value] if isinstance(value, list | tuple) else value


def read_toml_file(file: Path, what: str) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: it is not there, or not TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{what} must be an existing TOML file; got {str(file)!r} ({error.strerror})."
        ) from None
    except ValueError as error:
        raise ConfigError(f"{what} {str(file)!r} must be valid TOML; got: {error}.") from None


def toml_of(values: Mapping[str, Any], prefix: str = "") -> str:
    """Write nested plain values as TOML: plain ones first, then tables, then lists of tables."""
    lines, tables = [], []
    for name, value in values.items():
        if isinstance(value, Mapping):
            tables.append(f"\n[{prefix}{name}]\n{toml_of(value, f'{prefix}{name}.')}")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            tables += [f"\n[[{prefix}{name}]]\n{toml_of(entry, f'{prefix}{name}.')}" for entry in value]
        else:
            lines.append(f"{name} = {_toml_value(value)}\n")
    return "".join([*lines, *tables])


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return repr(value)
