"""From a preset, a TOML file and the command line to one checked :class:`RunConfig`."""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from tailwise.errors import ConfigError
from tailwise.jobs._config import RunConfig

__all__ = [
    "PRESETS",
    "config_as_dict",
    "config_from_dict",
    "load_config",
    "merged",
    "parse_setting",
    "read_toml",
]

T = TypeVar("T")
_PRESET_FOLDER = resources.files("tailwise.jobs") / "presets"
PRESETS = tuple(sorted(p.name.removesuffix(".toml") for p in _PRESET_FOLDER.iterdir() if p.is_file()))


def load_config(
    *, preset: str | None, file: Path | None, overrides: Mapping[str, Any], settings: tuple[str, ...] = ()
) -> RunConfig:
    """Merge, in rising order of precedence: preset, TOML file, overrides, ``key=value`` settings.

    Args:
        preset: One of :data:`PRESETS`, or None.
        file: A TOML file with the fields of :class:`RunConfig`, or None.
        overrides: Nested mapping of the same fields.
        settings: ``section.field=value``, the value in TOML syntax (a bare word is text).

    Raises:
        ConfigError: an unknown key, a value of the wrong kind, or one out of range; the
            message names the key, the value and where it was read.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}; got {preset!r}.")
    content = {} if file is None else read_toml(file)
    highest = [overrides, *(parse_setting(setting) for setting in settings)]
    # What suits items as tokens does not suit titles as text; each has presets of its own.
    says_titles = merged(content, *highest).get("title") not in (None, "none")
    folder = _PRESET_FOLDER / "title" if says_titles else _PRESET_FOLDER
    lowest = tomllib.loads((folder / f"{preset}.toml").read_text()) if preset else {}
    try:
        return config_from_dict(RunConfig, merged(lowest, content, *highest))
    except ConfigError as error:
        if file is None or str(error) == _complaint(merged(lowest, *highest)):
            raise
        raise ConfigError(f"{error}\n  Read from {file}.") from None


def merged(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested mappings over each other, the last on top."""
    result: dict[str, Any] = {}
    for source in sources:
        _merge(result, source)
    return result


def _complaint(mapping: Mapping[str, Any]) -> str | None:
    """What is wrong with these settings, if anything."""
    try:
        config_from_dict(RunConfig, mapping)
    except ConfigError as error:
        return str(error)
    return None


def read_toml(file: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: it is not there, or not TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"config must be an existing TOML file; got {str(file)!r} ({error.strerror})."
        ) from None
    except ValueError as error:  # not TOML, or not even text
        raise ConfigError(f"config {str(file)!r} must be valid TOML; got: {error}.") from None


def parse_setting(setting: str) -> dict[str, Any]:
    """Read ``section.field=value`` into nested mappings; the value is TOML, a bare word is text.

    Raises:
        ConfigError: there is no equals sign.
    """
    path, equals, text = setting.partition("=")
    if not equals:
        raise ConfigError(f"--set must be section.field=value; got {setting!r}.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    nested: Any = value
    for key in reversed(path.strip().split(".")):
        nested = {key: nested}
    return typing.cast(dict[str, Any], nested)


def _merge(target: dict[str, Any], source: Mapping[str, Any]) -> None:
    for key, value in source.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = dict(value) if isinstance(value, Mapping) else value


def config_from_dict(cls: type[T], mapping: Mapping[str, Any], path: str = "") -> T:
    """Build a config dataclass from nested mappings; unknown keys are errors.

    Raises:
        ConfigError: names the key by its path, the value, and near matches.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(fields)}."
            raise ConfigError(f"setting {path}{key} must exist; got an unknown name. {hint}")
    hints = typing.get_type_hints(cls)
    values = {key: _convert(hints[key], value, f"{path}{key}") for key, value in mapping.items()}
    missing = [
        name
        for name, f in fields.items()
        if name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"setting {path}{missing[0]} must be given; got nothing.")
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{path.rstrip('.') or 'settings'}: {error}") from None


def _convert(kind: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"setting {path} must be a table; got {value!r}.")
        return config_from_dict(kind, value, f"{path}.")
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # T | None
        return (
            None if value is None or value == "none" else _convert(arguments[0], value, path)
        )  # TOML has no null
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"setting {path} must be a list; got {value!r}.")
        return tuple(_convert(arguments[0], entry, f"{path}[{i}]") for i, entry in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"setting {path} must be a table; got {value!r}.")
        return {key: _convert(arguments[1], entry, f"{path}.{key}") for key, entry in value.items()}
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(
                f"setting {path} must be one of {', '.join(map(str, arguments))}; got {value!r}."
            )
        return value
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"setting {path} must be of kind {kind.__name__}; got {value!r}.")
    return value


def config_as_dict(config: Any) -> dict[str, Any]:
    """Return nested plain values (tuples as lists) that :func:`config_from_dict` reads back."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {
                f.name: plain(entry)
                for f in dataclasses.fields(value)
                if (entry := getattr(value, f.name)) is not None or not f.metadata.get("written_when_set")
            }
        if isinstance(value, Mapping):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value

    return typing.cast(dict[str, Any], plain(config))
