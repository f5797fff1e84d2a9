"""What lies where in an audit's folder.

::

    <audit>/config.json         what is audited
            data/               catalogue and split, where no run holds them
            run/                a run of our own, where neither a run nor lists were given
            shuffled/           the run with titles shuffled among items, on request
            parts/              finished parts of the audit that take long
            tables/             items.parquet, grid.parquet, exposure.parquet, columns.parquet
            audit.json  audit.html
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailwise.errors import ConfigError
from tailwise.jobs._run_folder import RunFolder, holds_settings_alone, write_json

__all__ = ["AuditFolder", "PartStore"]


@dataclass(frozen=True)
class AuditFolder:
    """An audit's folder; knows where things lie."""

    path: Path

    @property
    def data(self) -> Path:
        """Snapshot of catalogue and split, for lists without a run."""
        return self.path / "data"

    @property
    def run(self) -> RunFolder:
        """Of our own training."""
        return RunFolder(self.path / "run")

    @property
    def shuffled(self) -> RunFolder:
        """Of the intervention check."""
        return RunFolder(self.path / "shuffled")

    @property
    def tables(self) -> Path:
        """Parquet files."""
        return self.path / "tables"

    @property
    def results(self) -> Path:
        """All results, see ``docs/audit-schema.md``."""
        return self.path / "audit.json"

    @property
    def page(self) -> Path:
        """The page."""
        return self.path / "audit.html"

    @property
    def parts(self) -> "PartStore":
        """Finished parts."""
        return PartStore(self.path / "parts")

    def claim(self, identity: dict[str, Any]) -> None:
        """Make the folder this audit's, or go on with the audit that is in it.

        Other questions about the same data and models are welcome; other data or models are not, unless
        nothing came of the first.

        Raises:
            ConfigError: the folder holds the audit of something else, or other files.
        """
        file = self.path / "config.json"
        identity = json.loads(json.dumps(identity))
        if file.is_file() and not holds_settings_alone(self.path):
            earlier = json.loads(file.read_text())
            if earlier != identity:
                other = sorted(
                    key for key in identity.keys() | earlier.keys() if identity.get(key) != earlier.get(key)
                )
                raise ConfigError(
                    f"--out must be a new folder, or that of the same audit; got {str(self.path)!r}, which "
                    f"holds one with other {', '.join(other)}. Choose another folder."
                )
            return
        if not holds_settings_alone(self.path):
            raise ConfigError(
                f"--out must be a new or empty folder, or hold an audit; got {str(self.path)!r}, which holds "
                "other files."
            )
        write_json(identity, file)


@dataclass
class PartStore:
    """Keeps what took long: each part is a file, found again while what decides it is unchanged.

    Attributes:
        folder: Where the files are.
        seconds: Part -> what it took when it was computed.
        kept: Names of the parts that were found.
    """

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)

    def get(self, name: str, decided_by: Any, compute: Callable[[], Any]) -> Any:
        """Return the stored value of a part, or compute and store it; a value of plain JSON."""
        key = hashlib.sha256(json.dumps(decided_by, sort_keys=True).encode()).hexdigest()
        file = self.folder / f"{name}.json"
        found = _read_part(file)
        if found is not None and found["key"] == key:
            self.seconds[name] = found["seconds"]
            self.kept.add(name)
            return found["value"]
        began = time.perf_counter()
        value = compute()
        self.seconds[name] = time.perf_counter() - began
        write_json({"key": key, "seconds": self.seconds[name], "value": value}, file)
        return value


def _read_part(file: Path) -> dict[str, Any] | None:
    """A stored part; None where there is none, or what is there is not whole."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and {"key", "seconds", "value"} <= found.keys()
    return found if whole else None
