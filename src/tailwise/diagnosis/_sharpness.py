"""How sharp the loss of each popularity group is around the parameters of a trained model."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.diagnosis._uncertain import Uncertain
from tailwise.diagnosis._user_influence import clustered_interval

__all__ = ["GroupSharpness", "Sharpness"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GroupSharpness:
    """One popularity group: how much its loss rises a distance ρ away. Losses are in nats per target.

    Attributes:
        name: Of the group.
        n_available: Training targets of the group.
        n_users: Users of the targets that were drawn.
        loss: At the parameters as they are.
        held_out: Rise of the loss of targets of other users than those whose gradient gave the
            direction. The number to read. Below the rise in the true worst direction, since the
            gradient of a sample misses it; equally many targets per group miss it alike, other things equal.
        in_sample: Rise of the loss of the targets that gave the direction. Larger from noise alone; the
            gap to ``held_out`` says how much.
        random: Rise in random directions of the same length. Where it comes near ``held_out``, the loss
            rises in any direction and not in a particular one.
        random_spread: Standard deviation over those directions.
        above_random: ``held_out - random``.
        relative: ``held_out / loss``: a group of larger loss has larger gradients. No value where
            the loss is 0.
        curvature: The even part of ``held_out``: mean of the rises at θ+ε and θ−ε. What the bend of the
            landscape adds, whichever way one moves along the direction.
        slope: The odd part, ``held_out - curvature``: the group's loss is not at its minimum,
            because the training has not ended there or other groups pull the other way.
        gradient_norm: Of the group's mean loss, over one half; noise included.
        agreement: Cosine between the gradients of two halves: 1 where the direction is the group's,
            0 where it is noise.
    """

    name: str
    n_available: int
    n_users: int
    loss: Uncertain
    held_out: Uncertain
    in_sample: float
    random: Uncertain
    random_spread: float
    above_random: Uncertain
    relative: Uncertain
    curvature: Uncertain
    slope: Uncertain
    gradient_norm: float
    agreement: float

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            name: value.as_dict() if isinstance(value, Uncertain) else value
            for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class Sharpness:
    """What :func:`measure_sharpness` found.

    Attributes:
        groups: Most popular first.
        cross: ``cross[g][h]``: rise of the loss of group h where group g is at its worst, held out. The
            interval takes the directions as given; on the diagonal it is that of ``held_out``.
        rho: Length of the step, in the units of the parameters.
        n_per_group: Targets of every group in each half.
        n_repeats: Splits of the users.
        n_random: Random directions, over all splits.
        n_parameters: Entries that moved.
        perturb: Which parameters moved.
        seed: Of splits, draws and random directions.
        fingerprint: Of targets and draws; equal where two models were measured on the same.
        seconds: The measurement took.
        losses: ``[n_users, n_groups]``; influence on ``loss`` of each user that was drawn.
        rises: ``[n_users, n_groups]``; on ``held_out``, as judge and through the direction.
        bends: ``[n_users, n_groups]``; likewise on ``curvature``.
    """

    groups: tuple[GroupSharpness, ...]
    cross: tuple[tuple[Uncertain, ...], ...]
    rho: float
    n_per_group: int
    n_repeats: int
    n_random: int
    n_parameters: int
    perturb: str | tuple[str, ...]
    seed: int
    fingerprint: str
    seconds: float
    losses: Floats = field(repr=False, compare=False)
    rises: Floats = field(repr=False, compare=False)
    bends: Floats = field(repr=False, compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the groups."""
        return tuple(group.name for group in self.groups)

    def group(self, name: str) -> GroupSharpness:
        """Return one group; an unknown name is a ``ValueError``."""
        return self.groups[self.position(name)]

    def position(self, name: str) -> int:
        """Return the place of a group among ``groups``; an unknown name is a ``ValueError``."""
        if name not in self.names:
            raise ValueError(f"group must be one of {', '.join(self.names)}; got {name!r}.")
        return self.names.index(name)

    def difference(self, one: str, other: str) -> Uncertain:
        """``held_out`` of ``one`` less that of ``other``; users are in both, so it is paired."""
        g, h = self.position(one), self.position(other)
        values = [self.groups[i].held_out.value or 0.0 for i in (g, h)]
        return clustered_interval(values[0] - values[1], self.rises[:, g] - self.rises[:, h])

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; influences of single users are left out."""
        return {
            "groups": [group.as_dict() for group in self.groups],
            "cross": [[cell.as_dict() for cell in row] for row in self.cross],
            "rho": self.rho,
            "n_per_group": self.n_per_group,
            "n_repeats": self.n_repeats,
            "n_random": self.n_random,
            "n_parameters": self.n_parameters,
            "perturb": self.perturb if isinstance(self.perturb, str) else list(self.perturb),
            "seed": self.seed,
            "fingerprint": self.fingerprint,
            "seconds": self.seconds,
        }
