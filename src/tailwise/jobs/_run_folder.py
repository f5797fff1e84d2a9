"""What lies where in a run's folder.

::

    <run>/config.json                       resolved settings
          data/                             catalogue and split as they were (Parquet), summary.json
          <variant>/seed-<n>/training/      checkpoints
                             model/         the trained recommender
                             rankings/      where each held-out target landed, and every user's list
                             record.json    cost, course, versions; written last
          <reference>/...                   the same, without training or model
          metrics.json  report.html
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailwise.errors import ConfigError, DataError
from tailwise.jobs._config import RunConfig
from tailwise.jobs._config_file import config_as_dict, config_from_dict
from tailwise.jobs._variants import recorded_settings

__all__ = ["ResultFolder", "RunFolder", "holds_settings_alone", "write_json"]

_LOCK = ".lock"
_GROWING = ("seeds", "variants", "references")


def write_json(content: Any, file: Path) -> None:
    """Write JSON so that the file is either the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False))
    partial.replace(file)


@dataclass(frozen=True)
class ResultFolder:
    """The folder of one variant and seed, or of one reference."""

    path: Path

    @property
    def training(self) -> Path:
        """Checkpoints."""
        return self.path / "training"

    @property
    def model(self) -> Path:
        """The trained recommender."""
        return self.path / "model"

    @property
    def rankings(self) -> Path:
        """Where the held-out targets landed."""
        return self.path / "rankings"

    def rescored(self, name: str) -> "ResultFolder":
        """Return the folder of the same training's seed under another variant's name."""
        return ResultFolder(self.path.parent.parent / name / self.path.name)

    def is_done(self) -> bool:
        """True if everything in the folder is complete: the record is written last."""
        return (self.path / "record.json").is_file()

    def model_digest(self) -> str | None:
        """SHA-256 of the saved recommender's files; None for a reference, which data and name decide."""
        if not self.model.is_dir():
            return None
        digest = hashlib.sha256()
        for file in sorted(p for p in self.model.iterdir() if p.is_file()):
            with file.open("rb") as content:
                digest.update(f"{file.name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()

    def read_record(self) -> dict[str, Any]:
        """Return the record of a finished result."""
        record: dict[str, Any] = json.loads((self.path / "record.json").read_text())
        return record

    def write_record(self, record: dict[str, Any]) -> None:
        """Declare the result finished."""
        write_json(record, self.path / "record.json")


@dataclass(frozen=True)
class RunFolder:
    """A run's folder; knows where things lie, nothing about what they mean."""

    path: Path

    @property
    def data(self) -> Path:
        """Snapshot of catalogue and split."""
        return self.path / "data"

    @property
    def metrics(self) -> Path:
        """All results, see ``docs/metrics-schema.md``."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    def result(self, name: str, seed: int | None = None) -> ResultFolder:
        """Return the folder of a variant's seed, or of a reference."""
        return ResultFolder(self.path / name if seed is None else self.path / name / f"seed-{seed}")

    def finished(self, config: RunConfig, variant: str, seed: int | None) -> tuple[ResultFolder, int | None]:
        """Return the finished folder of a variant or reference, and its seed; None where it has none.

        Args:
            config: The run's settings.
            variant: A variant or reference of the run, or a variant scored another way: ``adamw+debiased``.
            seed: Of the training. None: the first of the run's seeds.

        Raises:
            ConfigError: the run has no such variant or seed.
            DataError: it is not finished.
        """
        names = [*(v.name for v in config.variants), *config.references]
        names += [how.of(v.name) for how in config.rescorings for v in config.variants]
        if variant not in names:
            raise ConfigError(f"--variant must be one of the run's {', '.join(names)}; got {variant!r}.")
        if variant in config.references and variant != "sasrec":
            if seed is not None:
                raise ConfigError(f"--seed must be left out for {variant}, which has none; got {seed}.")
        else:
            seed = config.seeds[0] if seed is None else seed
            if seed not in config.seeds:
                known = ", ".join(map(str, config.seeds))
                raise ConfigError(f"--seed must be one of the run's {known}; got {seed}.")
        result = self.result(variant, seed)
        if not result.is_done():
            which = repr(variant) if seed is None else f"{variant!r}, seed {seed}"
            raise DataError(
                f"variant must be finished; got {which} without a record in {str(result.path)!r}.\n"
                "  Finish it with `tailwise run ... --resume`."
            )
        return result, seed

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder inside the block; a process that dies lets go of it.

        Raises:
            ConfigError: another process is at work in it.
        """
        from filelock import FileLock, Timeout

        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--out must be a folder; got {str(self.path)!r}, which is a file.")
        is_new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / _LOCK, blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise ConfigError(
                f"--out must be free; got {str(self.path)!r}, in which another process is at work. "
                "Wait for it, or choose another folder."
            ) from None
        try:
            yield
        finally:
            if is_new and [p.name for p in self.path.iterdir()] == [_LOCK]:  # refused: nothing was begun
                (self.path / _LOCK).unlink()
                self.path.rmdir()
            lock.release()

    def claim(self, config: RunConfig, *, resume: bool) -> None:
        """Make the folder this run's, or take up the run that is in it.

        A run may grow when it is taken up: more seeds, variants and references, all else alike.
        Settings that nothing came of, for the data could not be read, give way to any others.

        Raises:
            ConfigError: the folder holds another run, or this one and ``resume`` is False.
        """
        file = self.path / "config.json"
        settings = _as_dict(config)
        if not file.is_file():
            # A process killed while it wrote its settings leaves a part of them behind.
            if self.path.is_dir() and any(
                not p.name.startswith((".config.json.", _LOCK)) for p in self.path.iterdir()
            ):
                raise ConfigError(
                    f"--out must be a new or empty folder, or hold a run; got {str(self.path)!r}, "
                    "which holds other files."
                )
            write_json(settings, file)
            return
        if holds_settings_alone(self.path):
            write_json(settings, file)
            return
        if not resume:
            raise ConfigError(
                f"--out must be a new folder; got {str(self.path)!r}, which holds a run. "
                "Pass --resume to go on with it."
            )
        earlier = _as_dict(_read_config(file))
        grown = {name for name in _GROWING if all(entry in settings[name] for entry in earlier[name])}
        differing = sorted(set(_differences(earlier, settings)) - grown)
        if differing:
            raise ConfigError(
                f"settings must be those of the run in {str(self.path)!r} to resume it; got other values of "
                f"{', '.join(differing)}. Repeat its command, or choose another folder. (Seeds, variants and "
                "references may be added, not taken away.)"
            )
        write_json(settings, file)

    def read_config(self) -> RunConfig:
        """Return the settings of the run in this folder.

        Raises:
            DataError: there is no run in it.
        """
        file = self.path / "config.json"
        if not file.is_file():
            raise DataError(
                f"run must be a folder that `tailwise run --out` made; got {str(self.path)!r}, which holds "
                "no config.json."
            )
        return _read_config(file)


def holds_settings_alone(folder: Path) -> bool:
    """Whether settings are all that a run or audit has left in its folder: nothing was begun."""
    return all(
        file.name in ("config.json", _LOCK) or file.name.startswith(".config.json.")
        for file in folder.rglob("*")
        if not file.is_dir()
    )


def _as_dict(config: RunConfig) -> dict[str, Any]:
    """Settings as they are written: of each variant, those that it uses."""
    return config_as_dict(config) | {"variants": [variant.as_dict() for variant in config.variants]}


def _read_config(file: Path) -> RunConfig:
    """Settings that this or an earlier version wrote; those that were not there yet have their defaults."""
    content = json.loads(file.read_text())
    content["variants"] = [recorded_settings(variant) for variant in content["variants"]]
    return config_from_dict(RunConfig, content)


def _differences(a: Any, b: Any, path: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            difference
            for key in a.keys() | b.keys()
            for difference in _differences(a.get(key), b.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if a == b else [path]
