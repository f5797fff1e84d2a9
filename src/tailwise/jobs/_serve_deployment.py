"""What every worker of a service shall serve: two files that all of them read and any may write.

::

    <state>/deployment.json     which model answers under which name; replaced as a whole
            catalogue.jsonl     changes of items' properties, one batch a line; grows at its end
            workers/<n>.json    what worker n serves, as it last said
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tailwise.errors import DataError
from tailwise.jobs._run_folder import write_json

__all__ = ["Deployed", "Deployment", "DeploymentFolder"]

_FORMAT = 1
_LOCK_S = 10.0

Change = dict[str, Any]
"""New properties of one item: ``item_id`` and those that change."""


@dataclass(frozen=True)
class Deployed:
    """The model of one name.

    Attributes:
        source: RUN/VARIANT or RUN/VARIANT/seed-N.
        generation: Of the deployment that named it.
    """

    source: str
    generation: int = 0


@dataclass(frozen=True)
class Deployment:
    """What shall be served.

    Attributes:
        generation: Number of swaps so far.
        models: By name, in the order of the start.
        start: Name -> source, as the service was started; swaps hold until it is started with others.
    """

    generation: int
    models: Mapping[str, Deployed]
    start: Mapping[str, str]


class DeploymentFolder:
    """The files.

    Args:
        folder: The service's state.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "deployment.json"
        self._changes = folder / "catalogue.jsonl"
        self._workers = folder / "workers"
        self._seen = (0, 0)  # number of the last batch that was looked at, and where the next begins

    def begin(self, models: Mapping[str, str]) -> Deployment:
        """Take up the deployment that is there, or make one if the service is started with other models.

        Changes of the catalogue are joined into one line, and what workers said before is forgotten. To
        be called once, before there is a worker.

        Raises:
            DataError: a file is damaged.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._workers.mkdir(exist_ok=True)
        for file in self._workers.glob("*.json"):
            file.unlink()
        with self._locked():
            self._compact()
            earlier = self.read() if self._file.exists() else None
            if earlier is not None and dict(earlier.start) == dict(models) and [*earlier.start] == [*models]:
                return earlier
            generation = 0 if earlier is None else earlier.generation + 1
            begun = Deployment(
                generation, {name: Deployed(s, generation) for name, s in models.items()}, dict(models)
            )
            self._write(begun)
            return begun

    def stamp(self) -> tuple[int, int, int, int]:
        """Return what differs after every change of either file; cheap."""
        deployment = self._file.stat()
        try:
            changes = self._changes.stat()
        except FileNotFoundError:
            return deployment.st_mtime_ns, deployment.st_ino, 0, 0
        return deployment.st_mtime_ns, deployment.st_ino, changes.st_size, changes.st_ino

    def read(self) -> Deployment:
        """Return what shall be served.

        Raises:
            DataError: the file is not there, or damaged.
        """
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']}")
            models = {
                name: Deployed(str(entry["source"]), int(entry["generation"]))
                for name, entry in content["models"].items()
            }
            return Deployment(int(content["generation"]), models, dict(content["start"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"deployment must be a file that the service wrote; got {type(error).__name__} in "
                f"{str(self._file)!r}.\n  Remove it: the service then starts with the models it is given."
            ) from None

    def swap(self, name: str, source: str) -> Deployment:
        """Name another model; every worker takes it up.

        Raises:
            DataError: the file is damaged.
        """
        with self._locked():
            old = self.read()
            generation = old.generation + 1
            new = replace(
                old, generation=generation, models={**old.models, name: Deployed(source, generation)}
            )
            self._write(new)
        return new

    def append_changes(self, changes: Sequence[Change]) -> int:
        """Add a batch of changes, durably; return how many batches there are now."""
        with self._locked():
            number = self._last_number() + 1
            line = json.dumps({"number": number, "items": list(changes)}, ensure_ascii=True)
            with self._changes.open("a+b") as stream:
                size = stream.seek(0, os.SEEK_END)
                if size:
                    stream.seek(size - 1)
                    if stream.read(1) != b"\n":  # a line whose writer was killed: nobody was told it was kept
                        stream.write(b"\n")
                stream.write(f"{line}\n".encode())
                stream.flush()
                os.fsync(stream.fileno())
        return number

    def changes_after(self, offset: int) -> tuple[list[Change], int, int | None]:
        """Return changes from a place of the file on.

        Returns:
            The changes in their order, the place where the next begin, and the number of the last
            batch; None where there was none.
        """
        try:
            with self._changes.open("rb") as stream:
                stream.seek(offset)
                content = stream.read()
        except FileNotFoundError:
            return [], offset, None
        whole = content[: content.rfind(b"\n") + 1]
        found: list[Change] = []
        number: int | None = None
        for line in whole.splitlines():
            try:
                batch = json.loads(line)
                found += batch["items"]
                number = int(batch["number"])
            except (ValueError, KeyError, TypeError):
                continue  # torn: see append_changes
        return found, offset + len(whole), number

    def write_worker(self, worker: int, state: Mapping[str, Any]) -> None:
        """Say what a worker serves."""
        write_json(dict(state), self._workers / f"{worker}.json")

    def forget_worker(self, worker: int) -> None:
        """Take back what a worker said: it is gone."""
        (self._workers / f"{worker}.json").unlink(missing_ok=True)

    def read_workers(self) -> list[dict[str, Any]]:
        """Return what the workers last said, by their numbers."""
        found = []
        for file in sorted(self._workers.glob("*.json"), key=lambda file: (len(file.name), file.name)):
            try:
                found.append(json.loads(file.read_text(encoding="utf-8")))
            except (OSError, ValueError):
                continue  # gone meanwhile
        return found

    def _last_number(self) -> int:
        number, offset = self._seen
        _, offset, later = self.changes_after(offset)
        self._seen = (number if later is None else later, offset)
        return self._seen[0]

    def _compact(self) -> None:
        changes, _, number = self.changes_after(0)
        if number is None:
            self._changes.unlink(missing_ok=True)
            return
        line = json.dumps({"number": number, "items": joined(changes)}, ensure_ascii=True)
        partial = self._changes.with_name(f".{self._changes.name}.{os.getpid()}")
        partial.write_text(f"{line}\n", encoding="ascii")
        partial.replace(self._changes)

    def _write(self, deployment: Deployment) -> None:
        content = {
            "format": _FORMAT,
            "generation": deployment.generation,
            "models": {
                name: {"source": model.source, "generation": model.generation}
                for name, model in deployment.models.items()
            },
            "start": dict(deployment.start),
        }
        write_json(content, self._file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / ".deployment.lock", timeout=_LOCK_S)
        try:
            lock.acquire()
        except Timeout:
            raise DataError(
                f"deployment must be free; got {str(self.folder)!r}, locked for {_LOCK_S:g} s.\n"
                "  Try again; if it stays so, look for a process that hangs."
            ) from None
        try:
            yield
        finally:
            lock.release()


def joined(changes: Sequence[Change]) -> list[Change]:
    """Join changes into one per item, later ones over earlier ones.

    Example:
        >>> joined([{"item_id": "a", "price": 1.0}, {"item_id": "a", "in_stock": False}])
        [{'item_id': 'a', 'price': 1.0, 'in_stock': False}]
    """
    found: dict[str, Change] = {}
    for change in changes:
        found.setdefault(change["item_id"], {}).update(change)
    return list(found.values())
