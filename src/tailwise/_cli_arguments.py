"""What several commands read from the command line alike."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailwise.errors import ConfigError

__all__ = ["columns_of", "number_of", "overrides_of_run", "pairs_of"]


def overrides_of_run(
    data: dict[str, str | Path | None],
    *,
    columns: dict[str, str],
    model: str | None,
    device: str | None,
    seeds: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Settings of a run that flags give; those that were not given are left out."""
    of_data: dict[str, Any] = {key: str(value) for key, value in data.items() if value is not None}
    overrides: dict[str, Any] = {"data": of_data | ({"columns": columns} if columns else {})}
    if model is not None:
        overrides["model"] = {"model": model}
    if device is not None:
        overrides["device"] = device
    if seeds is not None:
        overrides["seeds"] = list(seeds)
    return overrides


def pairs_of(flag: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Split ``key=value`` texts; an error names the flag and the text."""
    pairs = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{flag} must be key=value; got {text!r}.")
        pairs.append((key, value))
    return pairs


def columns_of(texts: Sequence[str]) -> dict[str, str]:
    """Read ``--column`` flags: our name of a column to the file's."""
    return dict(pairs_of("--column", texts))


def number_of(key: str, text: str) -> Any:
    """Read a number or a list of them, as TOML writes it."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise ConfigError(f"{key} must be a number or a list of them; got {text!r}.") from None
