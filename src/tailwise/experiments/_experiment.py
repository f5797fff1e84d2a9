"""What an experiment is: two models, a surface, a ramp, and the policy that decides about it."""

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailwise._settings import from_plain, plain_of, read_toml_file, toml_of
from tailwise.errors import ConfigError
from tailwise.experiments._policy import Policy, check_metric
from tailwise.serving import SURFACES, Surface

__all__ = [
    "Experiment",
    "experiment_as_json",
    "experiment_as_toml",
    "experiment_from_json",
    "parse_ramp",
    "read_experiment",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}")


@dataclass(frozen=True)
class Experiment:
    """Two served models compared on one surface, over a share of users that grows.

    Attributes:
        name: Lower-case letters, digits, ``.``, ``_`` and ``-``; at most 60.
        surface: Where the lists are shown.
        control: Name of the served model that answers everybody else.
        treatment: Name of the served model that is tried.
        ramp_percent: Share of users in the treatment's cohort, rising, ending in 100 or below it. The control
            cohort has the same size, so only 100 may stand above 50.
        hold_out_percent: Share of users who stay with control at 100 %, in [0, 50].
        layer: Experiments of one layer share its users and never overlap. Its name seeds the hash that
            deals users out to them.
        layer_percent: The part of the layer that belongs to this experiment, as start and end in
            [0, 100]. Every other percentage is of this part.
        seed: Another seed deals the users anew. Never change it in an experiment that has begun.
        metrics: What the experiment is for: names of the metric registry, the first one foremost. Where
            the policy asks for ``effect-shown``, one of them has to be better.
        policy: See :class:`Policy`.
    """

    name: str
    surface: Surface
    control: str
    treatment: str
    ramp_percent: tuple[float, ...] = (1.0, 5.0, 25.0, 50.0, 100.0)
    hold_out_percent: float = 5.0
    layer: str = "default"
    layer_percent: tuple[float, ...] = (0.0, 100.0)
    seed: int = 0
    metrics: tuple[str, ...] = ("tail_clicks", "tail_purchases")
    policy: Policy = Policy()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                "name must be 1 to 60 lower-case letters, digits, '.', '_' or '-', beginning with a letter "
                f"or digit; got {self.name!r}."
            )
        if self.surface not in SURFACES:
            raise ValueError(f"surface must be one of {', '.join(SURFACES)}; got {self.surface!r}.")
        if not self.control or not self.treatment or self.control == self.treatment:
            raise ValueError(
                "control and treatment must be two served models; got "
                f"{self.control!r} and {self.treatment!r}."
            )
        if not self.layer:
            raise ValueError("layer must be named; got ''.")
        _check_ramp(self.ramp_percent)
        if not 0 <= self.hold_out_percent <= 50:
            raise ValueError(f"hold_out_percent must be in [0, 50]; got {self.hold_out_percent}.")
        part = self.layer_percent
        if len(part) != 2 or not 0 <= part[0] < part[1] <= 100:
            raise ValueError(f"layer_percent must be start and end in [0, 100], rising; got {list(part)}.")
        if not self.metrics or len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics must name at least one, each once; got {list(self.metrics)}.")
        for metric in self.metrics:
            check_metric(metric)
        for override in self.policy.stages:
            if override.percent not in self.ramp_percent:
                raise ValueError(
                    f"policy.stages must name stages of the ramp; got {override.percent:g}. "
                    f"The ramp is {', '.join(f'{p:g}' for p in self.ramp_percent)}."
                )

    @property
    def last_stage(self) -> int:
        """Number of the last stage; the first is 0."""
        return len(self.ramp_percent) - 1

    def share(self, stage: int) -> float:
        """Size of the treatment's cohort in a stage, as a share in (0, 1]."""
        return self.ramp_percent[stage] / 100

    @property
    def hold_out(self) -> float:
        """Share of users who stay with control at 100 %, in [0, 0.5]."""
        return self.hold_out_percent / 100

    def out_of_reach(self, n_users: int) -> list[str]:
        """Say which stages cannot be left, since a cohort holds fewer users than the policy asks for.

        Args:
            n_users: All who may ever come, >= 0.

        Returns:
            A sentence for each such stage; empty: none.

        Example:
            >>> shelf = Experiment("shelf", "home", "control", "treatment", (1.0, 50.0), hold_out_percent=0.0)
            >>> shelf.out_of_reach(20_000)
            ['At 1 % a cohort holds at most 200 of 20,000 users; the policy asks for 500 before it is left.']
        """
        start, end = self.layer_percent
        sentences = []
        for percent in self.ramp_percent:
            cohort = percent if percent <= 50 else self.hold_out_percent
            most = int(n_users * (end - start) * cohort / 1e4)
            asked = self.policy.rule_for(percent).minimum_users
            if cohort > 0 and most < asked:
                sentences.append(
                    f"At {percent:g} % a cohort holds at most {most:,} of {n_users:,} users; the policy asks "
                    f"for {asked:,} before it is left."
                )
        return sentences

    def overlaps(self, other: "Experiment") -> bool:
        """Say whether both may not run at once: they could meet in one user, or on one surface.

        Those of one layer must own disjoint parts of it. Those of different layers deal users
        independently, so they must be on different surfaces.
        """
        if self.layer != other.layer:
            return self.surface == other.surface
        (start, end), (other_start, other_end) = self.layer_percent, other.layer_percent
        return start < other_end and other_start < end


def _check_ramp(ramp: tuple[float, ...]) -> None:
    shown = [float(f"{percent:g}") for percent in ramp]
    if not ramp or not all(0 < percent <= 100 for percent in ramp):
        raise ValueError(f"ramp_percent must hold percentages in (0, 100]; got {shown}.")
    if any(later <= earlier for earlier, later in itertools.pairwise(ramp)):
        raise ValueError(f"ramp_percent must rise from stage to stage; got {shown}.")
    between = [percent for percent in ramp if 50 < percent < 100]
    if between:
        raise ValueError(
            f"ramp_percent must go from 50 or less to 100; got {between[0]:g}. Above 50 % the control cohort "
            "cannot be as large as the treatment's, unless users of control switch."
        )


def parse_ramp(text: str) -> tuple[float, ...]:
    """Read a ramp as it is written on the command line.

    Raises:
        ConfigError: a part is not a number, or the ramp does not rise.

    Example:
        >>> parse_ramp("1,5,25,50,100")
        (1.0, 5.0, 25.0, 50.0, 100.0)
    """
    try:
        ramp = tuple(float(part.strip().removesuffix("%")) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--ramp must be percentages such as 1,5,25,50,100; got {text!r}.") from None
    try:
        _check_ramp(ramp)
    except ValueError as error:
        raise ConfigError(f"--ramp: {error}") from None
    return ramp


def read_experiment(file: Path) -> Experiment:
    """Read a definition from TOML.

    Raises:
        ConfigError: it is not there, not TOML, or a setting is unknown, of the wrong kind or out of range.
    """
    return from_plain(Experiment, read_toml_file(file, "experiment"), "experiment")


def experiment_as_toml(experiment: Experiment) -> str:
    """Write a definition that :func:`read_experiment` reads back."""
    return toml_of(plain_of(experiment))


def experiment_as_json(experiment: Experiment) -> str:
    """Write a definition as one line of JSON."""
    return json.dumps(plain_of(experiment), ensure_ascii=False, sort_keys=True)


def experiment_from_json(text: str) -> Experiment:
    """Read back what :func:`experiment_as_json` wrote.

    Raises:
        ConfigError: it is not JSON, or a setting is unknown, of the wrong kind or out of range.
    """
    try:
        values: Any = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"experiment must be valid JSON; got: {error}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"experiment must be a JSON object; got {type(values).__name__}.")
    return from_plain(Experiment, values, "experiment")
