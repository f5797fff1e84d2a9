"""The settings that tell cells apart: what a record has, held against what is asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailwise.errors import ConfigError
from tailwise.jobs._bench_config import RERANK, BenchMethod, Knobs
from tailwise.jobs._config_file import config_from_dict
from tailwise.jobs._variants import VariantConfig, recorded_settings

__all__ = ["check_settings_of_record", "settings_of"]


def settings_of(method: BenchMethod, knobs: Knobs) -> dict[str, Any]:
    """Everything that tells a cell of the method from another one: its own settings, and the knobs turned."""
    if method.reference:
        return {"reference": method.reference}
    variant = method.make_variant(knobs).as_dict()
    of_run = {k: v for k, v in knobs.items() if "." in k}
    return {**variant, **of_run} | ({RERANK: method.rerank(knobs)} if method.is_rerank else {})


def check_settings_of_record(
    what: str, recorded: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path
) -> None:
    """Refuse what was finished with other settings than those asked for now.

    Args:
        what: The cell or trial, for people.
        recorded: Settings in its record; one that was not there yet when it was written has its default.
        wanted: Settings asked for.
        folder: Of the record.

    Raises:
        ConfigError: a setting differs.
    """
    before, now = _with_defaults(recorded), _with_defaults(wanted)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise ConfigError(
                f"{what} must have the settings of its record, for it is finished; got {name} = "
                f"{now.get(name)!r}, and {before.get(name)!r} in {str(folder)!r}.\n"
                "  Give the method another name, or choose another --out."
            )


def _with_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a variant with those that go without saying; of a trial or a reference as they are."""
    if not {"name", "optimizer"} <= settings.keys():
        return dict(settings)
    own = {name: value for name, value in settings.items() if "." not in name and name != RERANK}
    return {**settings, **config_from_dict(VariantConfig, recorded_settings(own)).as_dict()}
