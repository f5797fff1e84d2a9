"""Quadratic losses of two groups, whose sharpness has a closed form."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tailwise.diagnosis._group_targets import GroupTargets
from tailwise.diagnosis._measure_sharpness import measure_sharpness
from tailwise.diagnosis._sharpness import Sharpness


@dataclass
class Quadratic:
    """l_j(θ) = ½ (θ − x_j)ᵀ diag(bend_g) (θ − x_j) + floor_g in float64, at θ = 0.

    ``goals`` are the mean x of each group; ``noise`` and ``user_noise`` scatter the x of targets and users.
    """

    goals: list[list[float]]
    bends: list[list[float]]
    n_users: int = 20
    n_per_user: tuple[int, ...] = (4, 4)
    noise: float = 0.0
    user_noise: float = 0.0
    floors: tuple[float, ...] = (1.0, 1.0)
    seed: int = 0
    names: tuple[str, ...] = ("head", "tail")
    point: torch.nn.Parameter = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        width = len(self.goals[0])
        groups, users = [], []
        for g, n in enumerate(self.n_per_user):
            groups += [g] * n * self.n_users
            users += list(np.repeat(np.arange(self.n_users), n))
        self.groups, self.users = np.array(groups), np.array(users)
        of_users = self.user_noise * rng.standard_normal((self.n_users, width))
        x = np.array(self.goals)[self.groups] + of_users[self.users]
        self.x = torch.from_numpy(x + self.noise * rng.standard_normal(x.shape))
        self.bend = torch.tensor(self.bends, dtype=torch.float64)[torch.from_numpy(self.groups)]
        self.floor = torch.tensor(self.floors, dtype=torch.float64)[torch.from_numpy(self.groups)]
        self.point = torch.nn.Parameter(torch.zeros(width, dtype=torch.float64))

    @property
    def targets(self) -> GroupTargets:
        return GroupTargets(self.names, self.groups, self.users)

    def losses(self, targets: np.ndarray) -> Tensor:
        chosen = torch.from_numpy(targets)
        apart = self.point - self.x[chosen]
        return 0.5 * (self.bend[chosen] * apart * apart).sum(1) + self.floor[chosen]

    def measure(self, **settings) -> Sharpness:
        settings = {"n_targets_per_group": None, "rho": 0.1} | settings
        return measure_sharpness(self.losses, [self.point], self.targets, **settings)
