"""Sharpness before and after a treatment, on the same targets, with the seeds of training paired."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.diagnosis._sharpness import Sharpness
from tailwise.diagnosis._sharpness_change import GroupChange
from tailwise.diagnosis._sharpness_words import sharpness_notes, sharpness_sentence
from tailwise.diagnosis._uncertain import Uncertain
from tailwise.diagnosis._user_influence import clustered_interval

__all__ = ["SharpnessComparison", "compare_sharpness"]

Floats = NDArray[np.float64]

_ALIKE = ("names", "fingerprint", "rho", "n_parameters", "perturb", "n_random")


@dataclass(frozen=True)
class SharpnessComparison:
    """What :func:`compare_sharpness` found.

    Attributes:
        groups: Most popular first.
        n_seeds: Pairs of trainings.
        variance: ``"users"`` for one seed: the intervals say nothing of what another training would
            give; ``"users+seeds"`` for several.
        rho: Length of the step.
        sentence: For people.
        notes: What one has to know beside it.
        rises: ``[n_users, n_groups]``; influence of each user on ``difference``.
        differences: ``[n_seeds, n_groups]``; of each pair of trainings.
    """

    groups: tuple[GroupChange, ...]
    n_seeds: int
    variance: str
    rho: float
    sentence: str
    notes: tuple[str, ...]
    rises: Floats = field(repr=False, compare=False)
    differences: Floats = field(repr=False, compare=False)

    def group(self, name: str) -> GroupChange:
        """Return one group; an unknown name is a ``ValueError``."""
        return self.groups[self._position(name)]

    def between(self, one: str, other: str) -> Uncertain:
        """``difference`` of ``one`` less that of ``other``: did the treatment do more to one of them?"""
        g, h = self._position(one), self._position(other)
        return _interval(self.differences[:, g] - self.differences[:, h], self.rises[:, g] - self.rises[:, h])

    def _position(self, name: str) -> int:
        names = [group.name for group in self.groups]
        if name not in names:
            raise ValueError(f"group must be one of {', '.join(names)}; got {name!r}.")
        return names.index(name)

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; influences of single users are left out."""
        return {
            "groups": [group.as_dict() for group in self.groups],
            "n_seeds": self.n_seeds,
            "variance": self.variance,
            "rho": self.rho,
            "sentence": self.sentence,
            "notes": list(self.notes),
        }


def compare_sharpness(
    baseline: Sharpness | Sequence[Sharpness],
    treatment: Sharpness | Sequence[Sharpness],
    *,
    treatment_name: str = "the treatment",
) -> SharpnessComparison:
    """Say whether a treatment flattened the loss of each group.

    The estimate is the mean over seeds of the difference. Its variance: users' influences on that mean,
    paired since both models were measured on the same targets, plus the sample variance of
    the seeds' differences over their number; t with seeds - 1 degrees of freedom. With one seed, t
    with users - 1, and nothing is said about training again.

    Args:
        baseline: One per training seed; measured with the same data and the same seed of measurement.
        treatment: As many, paired in order.
        treatment_name: For the sentence.

    Raises:
        ValueError: numbers of seeds differ, or two measurements are not of the same targets, radius
            or parameters.
    """
    pairs = [[s] if isinstance(s, Sharpness) else list(s) for s in (baseline, treatment)]
    before, after = pairs
    if not before or len(before) != len(after):
        raise ValueError(
            f"baseline and treatment must have as many seeds, at least one; got {len(before)} and "
            f"{len(after)}.\n  Train both with the same seeds."
        )
    for name in _ALIKE:
        first = getattr(before[0], name)
        for other in (*before, *after):
            if getattr(other, name) != first:
                raise ValueError(
                    f"{name} must be the same in all measurements; got {first} and {getattr(other, name)}.\n"
                    "  Measure every model on the same histories, with the same settings and seed."
                )
    groups = tuple(_change(before, after, g) for g in range(len(before[0].names)))
    return SharpnessComparison(
        groups=groups,
        n_seeds=len(before),
        variance="users+seeds" if len(before) > 1 else "users",
        rho=before[0].rho,
        sentence=sharpness_sentence(groups, treatment_name, n_seeds=len(before)),
        notes=sharpness_notes(groups, n_seeds=len(before)),
        rises=_mean([s.rises for s in after]) - _mean([s.rises for s in before]),
        differences=_held_out(after) - _held_out(before),
    )


def _change(before: Sequence[Sharpness], after: Sequence[Sharpness], g: int) -> GroupChange:
    def values(measured: Sequence[Sharpness], what: str) -> Floats:
        found = [getattr(s.groups[g], what) for s in measured]
        return np.array([f.value if isinstance(f, Uncertain) else f for f in found], dtype=np.float64)

    rises = [values(side, "held_out") for side in (before, after)]
    bends = [values(side, "curvature") for side in (before, after)]
    losses = [values(side, "loss") for side in (before, after)]
    of_rises = [_mean([s.rises[:, g] for s in side]) for side in (before, after)]
    of_bends = [_mean([s.bends[:, g] for s in side]) for side in (before, after)]
    of_shares = [
        _mean([_share_influence(s, g) for s in side]) if (loss > 0).all() else None
        for side, loss in zip((before, after), losses, strict=True)
    ]
    ratio = relative = Uncertain(None)
    if all((r > 0).all() for r in rises):
        logs = np.log(rises[1]) - np.log(rises[0])
        log_ratio = float(np.log(rises[1].mean() / rises[0].mean()))
        found = _interval(
            logs - logs.mean() + log_ratio, of_rises[1] / rises[1].mean() - of_rises[0] / rises[0].mean()
        )
        ratio = Uncertain(*(None if end is None else float(np.exp(end)) for end in vars(found).values()))
    if of_shares[0] is not None and of_shares[1] is not None:
        relative = _interval(rises[1] / losses[1] - rises[0] / losses[0], of_shares[1] - of_shares[0])
    in_sample, random = (
        (float(values(before, what).mean()), float(values(after, what).mean()))
        for what in ("in_sample", "random")
    )
    return GroupChange(
        name=before[0].names[g],
        before=float(rises[0].mean()),
        after=float(rises[1].mean()),
        difference=_interval(rises[1] - rises[0], of_rises[1] - of_rises[0]),
        ratio=ratio,
        relative_difference=relative,
        curvature_before=float(bends[0].mean()),
        curvature_after=float(bends[1].mean()),
        curvature_difference=_interval(bends[1] - bends[0], of_bends[1] - of_bends[0]),
        in_sample=in_sample,
        random=random,
    )


def _share_influence(measured: Sharpness, g: int) -> Floats:
    """Influence of every user on ``relative``: ``[n_users]``."""
    group = measured.groups[g]
    loss, share = group.loss.value or 0.0, group.relative.value or 0.0
    return (measured.rises[:, g] - share * measured.losses[:, g]) / loss


def _interval(per_seed: Floats, influences: Floats) -> Uncertain:
    """Mean over seeds, its variance from users and, where there are several, seeds."""
    n_seeds = per_seed.size
    if n_seeds == 1:
        return clustered_interval(float(per_seed[0]), influences)
    extra = float(per_seed.var(ddof=1)) / n_seeds
    return clustered_interval(float(per_seed.mean()), influences, extra=extra, dof=n_seeds - 1)


def _mean(arrays: Sequence[Floats]) -> Floats:
    mean: Floats = np.mean(np.stack(arrays), axis=0)
    return mean


def _held_out(measured: Sequence[Sharpness]) -> Floats:
    """``[n_seeds, n_groups]``."""
    return np.array([[group.held_out.value for group in s.groups] for s in measured], dtype=np.float64)
