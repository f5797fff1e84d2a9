"""Where a service keeps what it knows: flags by which commands of experiments find it, the same in each."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from tailwise.jobs._experiments_decider import Decider

__all__ = ["FOLDERS", "LOG", "MODELS", "AsJson", "Flag", "Folders", "Log", "Models", "say"]

Flag = Parameter(negative=())
AsJson = Annotated[bool, Parameter(name="--json", negative=())]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Log:
    """The service's log.

    Attributes:
        database: Of the service's log.
    """

    database: str = "sqlite:///tailwise-events.db"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Folders(Log):
    """The log, and the folder that tells the service what to do.

    Attributes:
        database: Of the service's log.
        state: The service's state folder.
    """

    state: Path = Path("tailwise-state")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Models(Folders):
    """The same, and where the models lie.

    Attributes:
        database: Of the service's log.
        state: The service's state folder.
        model_root: As of the service.
    """

    model_root: Path = Path()

    @contextmanager
    def decider(self, at: str | None = None) -> Iterator["Decider"]:
        """Open a decider for the service; it is closed at the end.

        Args:
            at: The moment of its looks, as :func:`tailwise.jobs._experiments.parse_at` reads it; None: the
                computer's clock.
        """
        from tailwise.jobs._experiments import parse_at
        from tailwise.jobs._experiments_decider import Decider

        moment = None if at is None else parse_at(at, self.database)
        clock = time.time if moment is None else lambda: moment
        decider = Decider.of_service(self.database, state=self.state, root=self.model_root, clock=clock)
        try:
            yield decider
        finally:
            decider.close()


LOG, FOLDERS, MODELS = Log(), Folders(), Models()
"""The defaults."""


def say(text: str) -> None:
    """Print a line of a command's result."""
    print(text)  # noqa: T201 - the command's result
