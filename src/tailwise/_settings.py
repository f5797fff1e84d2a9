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

__all__ = ["WRITTEN_WHEN_SET", "from_plain", "plain_of", "read_toml_file", "toml_of"]

WRITTEN_WHEN_SET = {"written_when_set": True}
"""Of a field that came later: left out where it is None, so that what was written before stays the same."""

T = TypeVar("T")


def from_plain(cls: type[T], values: Mapping[str, Any], where: str = "", *, none: str | None = None) -> T:
    """Build ``cls`` from nested plain values.

    Args:
        cls: A dataclass of texts, numbers, truth values, choices, lists (tuples) and tables (dicts) of one
            kind, and such dataclasses.
        values: As read from TOML or JSON.
        where: What an error calls the place, such as ``experiment``: ``experiment.alpha must ...``. Empty:
            the top of a configuration: ``setting alpha must ...``.
        none: Text that stands for None where a field may be None, since TOML has no null.

    Raises:
        ConfigError: a name is unknown or missing, a value of the wrong kind or out of range.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Ramp:
        ...     percent: tuple[float, ...]
        ...     days: float | None = None
        >>> from_plain(Ramp, {"percent": [1, 5]}, "ramp")
        Ramp(percent=(1.0, 5.0), days=None)
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(fields)}."
            raise ConfigError(f"{_inside(where, name)} must exist; got an unknown name. {hint}")
    hints = typing.get_type_hints(cls)
    built = {
        name: _converted(hints[name], value, _inside(where, name), none) for name, value in values.items()
    }
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{_inside(where, name)} must be given; got nothing.")
    try:
        return cls(**built)
    except ValueError as error:
        raise ConfigError(f"{where or 'settings'}: {error}") from None


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else f"setting {name}"


def _converted(kind: Any, value: Any, where: str, none: str | None) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    is_table = dataclasses.is_dataclass(kind)
    if (is_table or origin is dict) and not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a table; got {value!r}.")
    if is_table:
        return from_plain(kind, value, where, none=none)
    if origin is dict:
        return {key: _converted(arguments[1], entry, f"{where}.{key}", none) for key, entry in value.items()}
    if origin in (types.UnionType, typing.Union):  # T | None
        is_none = value is None or (none is not None and value == none)
        return None if is_none else _converted(arguments[0], value, where, none)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list; got {value!r}.")
        return tuple(
            _converted(arguments[0], entry, f"{where}[{place}]", none) for place, entry in enumerate(value)
        )
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where} must be one of {', '.join(map(str, arguments))}; got {value!r}.")
        return value
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ConfigError(f"{where} must be of kind {kind.__name__}; got {value!r}.")
    return value


def plain_of(value: Any, *, with_none: bool = False) -> Any:
    """Return nested plain values (tuples as lists) that :func:`from_plain` reads back.

    Args:
        value: A dataclass, or what one may hold.
        with_none: Keep fields that are None, as JSON can, except those whose metadata say
            ``written_when_set``; else they are left out, as TOML must.
    """

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            entries = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
            return {
                field.name: plain(entry)
                for field, entry in entries
                if entry is not None or (with_none and not field.metadata.get("written_when_set"))
            }
        if isinstance(value, Mapping):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value

    return plain(value)


def read_toml_file(file: Path, what: str) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        file: Its path.
        what: What an error calls it, such as ``policy``.

    Raises:
        ConfigError: it is not there, or not TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{what} must be an existing TOML file; got {str(file)!r} ({error.strerror})."
        ) from None
    except ValueError as error:  # not TOML, or not even text
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
