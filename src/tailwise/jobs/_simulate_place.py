"""Where a simulation has come to, kept on disk so that it can be stopped and go on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailwise.errors import ConfigError
from tailwise.experiments import Rollout
from tailwise.jobs._experiments import latest_in_log
from tailwise.jobs._experiments_decider import Decider
from tailwise.jobs._run_folder import write_json

__all__ = ["Place"]


@dataclass(eq=False)
class Place:
    """How far a simulation has come, as it is kept on disk.

    Attributes:
        course: Settings that decide what happens.
        began_at: Unix seconds of simulated time.
        next_visit: Number of the first visit that was not made.
        n_events: Events that were sent.
        bought: What each user bought, by number, in the order of time.
    """

    course: dict[str, Any]
    began_at: float
    next_visit: int = 0
    n_events: int = 0
    bought: dict[int, list[str]] = field(default_factory=dict)

    @classmethod
    def new(cls, course: Mapping[str, Any], rollout: Rollout, decider: Decider) -> "Place":
        """Begin where the stage did; where the log goes further, after that.

        People of an earlier simulation must not act in this one's time.
        """
        url = decider.database.url.render_as_string(hide_password=False)
        began = rollout.stage_began_at or 0.0
        return cls(dict(course), max(began, latest_in_log(url, began)))

    @classmethod
    def read(cls, file: Path, course: Mapping[str, Any]) -> "Place":
        """Read what :meth:`write` kept; the course must be the same.

        Raises:
            ConfigError: there is nothing, or it was another course.
        """
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except OSError:
            raise ConfigError(f"--resume needs a simulation that was stopped; got none in {file}.") from None
        if content["course"] != course:
            raise ConfigError(
                f"--resume needs the settings of the simulation that was stopped, {content['course']}; got "
                f"{dict(course)}."
            )
        bought = {int(user): list(items) for user, items in content["bought"].items()}
        return cls(**(content | {"bought": bought}))

    def write(self, file: Path) -> None:
        """Keep it, as a whole."""
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(vars(self), file)
