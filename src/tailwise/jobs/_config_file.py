"""From a preset, a TOML file and the command line to one checked :class:`RunConfig`."""

import tomllib
import typing
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from tailwise._settings import from_plain, plain_of, read_toml_file
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
PRESETS = {
    generates: tuple(sorted(p.name.removesuffix(".toml") for p in (_PRESET_FOLDER / generates).iterdir()))
    for generates in ("items", "titles")
}
"""What a recommender answers with -> names of presets."""


def load_config(
    *, preset: str | None, file: Path | None, overrides: Mapping[str, Any], settings: tuple[str, ...] = ()
) -> RunConfig:
    """Merge, in rising order of precedence: preset, TOML file, overrides, ``key=value`` settings.

    Args:
        preset: One of those that :data:`PRESETS` has for the recommender, or None.
        file: A TOML file with the fields of :class:`RunConfig`, or None.
        overrides: Nested mapping of the same fields.
        settings: ``section.field=value``, the value in TOML syntax (a bare word is text).

    Raises:
        ConfigError: an unknown key, a value of the wrong kind, or one out of range; the
            message names the key, the value and where it was read.
    """
    content = {} if file is None else read_toml(file)
    highest = [overrides, *(parse_setting(setting) for setting in settings)]
    # What suits items as tokens does not suit titles as text; each has presets of its own.
    says_titles = merged(content, *highest).get("title") not in (None, "none")
    lowest = {} if preset is None else _preset(preset, "titles" if says_titles else "items")
    try:
        return config_from_dict(RunConfig, merged(lowest, content, *highest))
    except ConfigError as error:
        if file is None or str(error) == _complaint(merged(lowest, *highest)):
            raise
        raise ConfigError(f"{error}\n  Read from {file}.") from None


def _preset(name: str, generates: str) -> dict[str, Any]:
    if name not in PRESETS[generates]:
        raise ConfigError(
            f"preset must be one of {', '.join(PRESETS[generates])} for a recommender of {generates}; "
            f"got {name!r}."
        )
    return tomllib.loads((_PRESET_FOLDER / generates / f"{name}.toml").read_text())


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
    return read_toml_file(file, "config")


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

    Args:
        cls: The dataclass.
        mapping: Its fields; where one may be None, the text ``none`` says so.
        path: What comes before its keys, such as ``methods.sam.``; empty: nothing.

    Raises:
        ConfigError: names the key by its path, the value, and near matches.
    """
    return from_plain(cls, mapping, f"setting {path.removesuffix('.')}" if path else "", none="none")


def config_as_dict(config: Any) -> dict[str, Any]:
    """Return nested plain values (tuples as lists) that :func:`config_from_dict` reads back."""
    return typing.cast(dict[str, Any], plain_of(config, with_none=True))
