"""What is seen while the two halves of the users take turns: one gives the direction, the other judges."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailwise.diagnosis._group_targets import GroupTargets
from tailwise.diagnosis._moved_losses import MovedLosses, inner
from tailwise.diagnosis._sharpness import GroupSharpness
from tailwise.diagnosis._uncertain import Uncertain
from tailwise.diagnosis._user_influence import by_user, clustered_error, clustered_interval
from tailwise.optim._wrapper import direction_norm, perturbation_scale, perturbed

__all__ = ["Roles"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_PROBE = 0.1  # of ρ: short enough for a one-sided difference, far above the rounding of float32


class Roles:
    """Takes splits one by one and gives averages over them, with the influence of every user.

    Args:
        at: Evaluates losses.
        targets: Their groups and users.
        drawn: All that will be added, of any shape: users without a target in it have no influence.
        rho: Length of every step.
        progress: Told of the passes over one half that are done.
    """

    def __init__(
        self,
        at: MovedLosses,
        targets: GroupTargets,
        drawn: Ints,
        *,
        rho: float,
        progress: Callable[[int], None],
    ) -> None:
        users = np.unique(targets.users[drawn])
        self._user = np.searchsorted(users, targets.users)  # [n_targets], meaningless for those not drawn
        self._n_users = users.size
        self._at = at
        self._targets = targets
        self._rho = rho
        self._progress = progress
        self._n_passes = 0
        self._halves: list[Ints] = []
        self._losses: list[Floats] = []  # of the halves of the present split: [2], [n_groups, n]
        # By what is seen and of which group: one entry per turn (per direction, where random).
        self._means: dict[tuple[str, int], list[float]] = defaultdict(list)
        self._influences: dict[tuple[str, int], list[Floats]] = defaultdict(list)
        self._cross: dict[tuple[int, int], list[tuple[float, float | None]]] = defaultdict(list)

    def add_split(self, halves: Ints) -> None:
        """Let both halves give the direction in turn: ``halves`` is ``[2, n_groups, n]``."""
        self._halves.append(halves)
        graded = [self._at.values_and_gradients(half, list(half)) for half in halves]
        self._done(2)
        self._losses = [losses for losses, _ in graded]
        for half, losses in zip(halves, self._losses, strict=True):
            for g in range(len(half)):
                self._see("loss", g, losses[g], half[g])
        for here, there in ((0, 1), (1, 0)):
            for g in range(halves.shape[1]):
                self._take_turn(g, here, there, graded[here][1][g], graded[there][1][g])

    def _take_turn(
        self, g: int, here: int, there: int, gradient: list[Tensor], judging: list[Tensor]
    ) -> None:
        """Move to where group ``g`` is at its worst by its gradient ``here``; read the other half."""
        own, judges = self._halves[-1][here], self._halves[-1][there]  # [n_groups, n] each
        before = self._losses[there]
        norm, judging_norm = direction_norm(gradient), direction_norm(judging)
        scale = perturbation_scale(self._rho, norm)
        with perturbed(self._at.parameters, gradient, scale):
            inside = self._at.values(own[g]) - self._losses[here][g]
            moved, (above,) = self._at.values_and_gradients(judges, [judges[g]])
        with perturbed(self._at.parameters, gradient, -scale):
            behind = self._at.values(judges[g]) - before[g]
        rises = moved - before  # [n_groups, n]
        self._done(3)
        for h, rise in enumerate(rises):
            self._cross[g, h].append((float(rise.mean()), clustered_error(self._by_user(rise, judges[h]))))
        bending = [a - j for a, j in zip(above, judging, strict=True)]
        self._see("held_out", g, rises[g], judges[g])
        self._influences["held_out", g][-1] += self._through_direction(g, here, gradient, norm, above)
        self._see("curvature", g, (rises[g] + behind) / 2, judges[g])
        self._influences["curvature", g][-1] += self._through_direction(g, here, gradient, norm, bending)
        product = inner(gradient, judging)
        self._means["in_sample", g].append(float(inside.mean()))
        self._means["gradient_norm", g].append(norm)
        self._means["agreement", g].append(product / (norm * judging_norm) if norm and judging_norm else 0.0)

    def _through_direction(
        self, g: int, here: int, gradient: list[Tensor], norm: float, pull: list[Tensor]
    ) -> Floats:
        """Influence on a rise of the users whose gradient G gives the direction u = G/‖G‖: ``[n_users]``.

        The rise changes by ρ qᵀdG/‖G‖, where dG is a user's part in G and q = (I − uuᵀ) ``pull``, the
        derivative of the rise by the moved parameters. qᵀ∇l of every target is a difference of its
        losses. The pull of the rise is ∇L(θ + ρu) on the judging half; that of its even part is
        [∇L(θ + ρu) − ∇L(θ − ρu)] / 2, for which ∇L(θ + ρu) − ∇L(θ) stands here, alike up to O(ρ²).
        """
        own = self._halves[-1][here][g]
        self._done(1)
        if norm == 0:
            return np.zeros(self._n_users)
        along = inner(gradient, pull) / norm**2
        across = [a - along * d for a, d in zip(pull, gradient, strict=True)]
        length = direction_norm(across)
        step = _PROBE * self._rho
        with perturbed(self._at.parameters, across, perturbation_scale(step, length)):
            steepness = (self._at.values(own) - self._losses[here][g]) / step * length
        return self._by_user(steepness, own) * (self._rho / norm)

    def add_random(self, *, seed: tuple[int, ...]) -> None:
        """Move in a random direction and read both halves of the present split."""
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        direction = [torch.randn(p.shape, generator=generator).to(p) for p in self._at.parameters]
        halves = self._halves[-1]
        with perturbed(
            self._at.parameters, direction, perturbation_scale(self._rho, direction_norm(direction))
        ):
            rises = self._at.values(halves) - np.stack(self._losses)  # [2, n_groups, n]
        self._done(2)
        for g in range(halves.shape[1]):
            self._see("random", g, rises[:, g].ravel(), halves[:, g].ravel())

    # What comes out

    def influences(self, what: str) -> Floats:
        """Influence of every user on the average: ``[n_users, n_groups]``."""
        groups = range(len(self._targets.names))
        return np.stack([np.mean(self._influences[what, g], axis=0) for g in groups], axis=1)

    def group(self, g: int) -> GroupSharpness:
        """Put together what was seen of one group."""
        value = {
            what: float(np.mean(seen)) for (what, of_group), seen in self._means.items() if of_group == g
        }
        loss, held_out, curvature, random = (
            self.influences(what)[:, g] for what in ("loss", "held_out", "curvature", "random")
        )
        spread = float(np.std(self._means["random", g], ddof=1))
        of_directions = spread**2 / len(self._means["random", g])
        relative = Uncertain(None)
        if value["loss"] > 0:
            ratio = value["held_out"] / value["loss"]
            relative = clustered_interval(ratio, (held_out - ratio * loss) / value["loss"])
        return GroupSharpness(
            name=self._targets.names[g],
            n_available=self._targets.n_in_groups[g],
            n_users=int(np.unique(self._user[np.stack(self._halves)[:, :, g]]).size),
            loss=clustered_interval(value["loss"], loss),
            held_out=clustered_interval(value["held_out"], held_out),
            in_sample=value["in_sample"],
            random=clustered_interval(value["random"], random, extra=of_directions),
            random_spread=spread,
            above_random=clustered_interval(
                value["held_out"] - value["random"], held_out - random, extra=of_directions
            ),
            relative=relative,
            slope=clustered_interval(value["held_out"] - value["curvature"], held_out - curvature),
            curvature=clustered_interval(value["curvature"], curvature),
            gradient_norm=value["gradient_norm"],
            agreement=value["agreement"],
        )

    def cross(self) -> tuple[tuple[Uncertain, ...], ...]:
        """Rise of every group where every group is at its worst; errors as if all turns erred alike."""
        groups = range(len(self._targets.names))
        return tuple(
            tuple(self.group(g).held_out if g == h else self._cell(g, h) for h in groups) for g in groups
        )

    def _cell(self, g: int, h: int) -> Uncertain:
        seen = self._cross[g, h]
        value = float(np.mean([mean for mean, _ in seen]))
        errors = [error for _, error in seen if error is not None]
        return Uncertain.normal(value, float(np.mean(errors))) if errors else Uncertain(value)

    def _see(self, what: str, g: int, values: Floats, targets: Ints) -> None:
        self._means[what, g].append(float(values.mean()))
        self._influences[what, g].append(self._by_user(values, targets))

    def _by_user(self, values: Floats, targets: Ints) -> Floats:
        return by_user(values, self._user[targets], self._n_users)

    def _done(self, n_passes: int) -> None:
        self._n_passes += n_passes
        self._progress(self._n_passes)
