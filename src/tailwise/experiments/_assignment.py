"""Who gets which model: a hash of the user, cut where the ramp stands."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailwise.experiments._experiment import Experiment
from tailwise.experiments._rollout import Rollout
from tailwise.serving import Assigned, Surface

__all__ = ["Cohorts", "HashAssignment", "assign_within", "bucket", "cohorts_of", "is_in_layer_part"]


def bucket(space: str, user_id: str) -> float:
    """Place a user in [0, 1), evenly and for good.

    The first 53 bits of SHA-256 over ``space``, a line feed and ``user_id`` (UTF-8), divided by 2^53.
    Anybody can recompute it, a database too.

    Example:
        >>> round(bucket("layer/default", "u1"), 6)
        0.797508
    """
    digest = hashlib.sha256(f"{space}\n{user_id}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


class Cohorts(NamedTuple):
    """Who is served the treatment, and who is counted; ``[n]`` bool each."""

    is_treated: NDArray[np.bool_]
    is_counted: NDArray[np.bool_]


def cohorts_of(places: NDArray[np.float64], share: float, hold_out: float) -> Cohorts:
    """Cut [0, 1): the treatment's cohort grows from the left end, control's from the right.

    At share s <= 1/2 they are [0, s) and [1-s, 1), and everybody between is served control and not
    counted. So both only grow, and nobody of one is ever in the other. They meet at 1/2. At 100 %
    with hold-out h everybody but [1-h, 1) is served the treatment; that hold-out and [0, h) are counted.

    Args:
        places: ``[n]``, each in [0, 1).
        share: s, in (0, 0.5], or 1.
        hold_out: h, in [0, 0.5]; nothing below 100 %.
    """
    if share < 1:
        is_treated = places < share
        return Cohorts(is_treated, is_treated | (places >= 1 - share))
    is_treated = places < 1 - hold_out
    return Cohorts(is_treated, (places < hold_out) | ~is_treated)


def is_in_layer_part(experiment: Experiment, user_id: str) -> bool:
    """Say whether a user belongs to the experiment's part of its layer."""
    start, end = experiment.layer_percent
    return start / 100 <= bucket(f"layer/{experiment.layer}", user_id) < end / 100


def place_within(experiment: Experiment, user_id: str) -> float:
    """Place a user in the experiment's own [0, 1), independent of its layer's."""
    return bucket(f"experiment/{experiment.name}/{experiment.seed}", user_id)


def assign_within(rollout: Rollout, user_id: str) -> Assigned:
    """Assign a user who belongs to the experiment's part of its layer."""
    experiment, stage = rollout.experiment, rollout.stage
    if not rollout.serves_treatment:
        return Assigned(experiment.control, experiment.name, stage)
    place = np.array([place_within(experiment, user_id)])
    treated, counted = cohorts_of(place, experiment.share(stage), experiment.hold_out)
    variant = experiment.treatment if treated[0] else experiment.control
    return Assigned(variant, experiment.name, stage, in_experiment=bool(counted[0]))


class HashAssignment:
    """Assigns by the rollouts as they were at one moment; keeps nothing about users.

    Anonymous users, users outside of every experiment's part of its layer, and everybody while nothing
    runs, get the surface's control and are not counted. A request that carries a stable visitor id as its
    ``user_id`` is a user.

    Args:
        rollouts: Every experiment that may serve or count; others are passed over.
        default: Name of the served model that answers where no experiment is.
    """

    def __init__(self, rollouts: Iterable[Rollout], default: str = "control") -> None:
        self.default = default
        self._by_surface: dict[str, list[Rollout]] = {}
        for rollout in rollouts:
            if rollout.is_live:
                self._by_surface.setdefault(rollout.experiment.surface, []).append(rollout)

    def assign(self, user_id: str | None, surface: Surface) -> Assigned:
        """Assign; see :class:`tailwise.serving.Assignment`."""
        rollouts = self._by_surface.get(surface, ())
        if user_id is not None:
            for rollout in rollouts:
                if is_in_layer_part(rollout.experiment, user_id):
                    return assign_within(rollout, user_id)
        return Assigned(rollouts[0].experiment.control if rollouts else self.default)
