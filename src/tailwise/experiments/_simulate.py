"""Whole experiments without a service: users come, the machine looks, decides, and the next stage begins."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailwise.experiments._assignment import cohorts_of
from tailwise.experiments._evidence import Enrolled, evidence_path
from tailwise.experiments._experiment import Experiment
from tailwise.experiments._rollout import Decision, Rollout, State, decide, transition
from tailwise.experiments._world import Outcomes, Scenario, population, simulate_windows

__all__ = ["SimulatedDecision", "SimulatedRollout", "run_experiment"]

Floats = NDArray[np.float64]
DAY_S = 86_400.0
AHEAD_DAYS = 6.0  # looks of so many days are prepared at once, then of twice as many


@dataclass(frozen=True)
class SimulatedDecision:
    """One decision that was not to hold.

    Attributes:
        day: Days since the start.
        percent: Share of users that were served the treatment before it.
        decision: What, and why.
    """

    day: float
    percent: float
    decision: Decision


@dataclass(frozen=True, eq=False)
class SimulatedRollout:
    """How an experiment went.

    Attributes:
        rollout: As it ended, or stood when the time was over.
        decisions: All that changed something, in order.
        last: What the machine said at the last look.
        days: Days until the end, or until the time was over.
        highest_percent: Largest share that was ever served the treatment.
        enrolled: Every user that was counted, for other statistics on the same data.
        looks: How often the machine looked.
    """

    rollout: Rollout
    decisions: tuple[SimulatedDecision, ...]
    last: Decision
    days: float
    highest_percent: float
    enrolled: Enrolled
    looks: int

    @property
    def state(self) -> State:
        """State at the end."""
        return self.rollout.state

    def day_of(self, action: str) -> float | None:
        """Day of the first decision to do this; None if there was none."""
        return next((made.day for made in self.decisions if made.decision.action == action), None)


def run_experiment(
    scenario: Scenario, experiment: Experiment, *, seed: int, days: float = 60.0, began_at: float = 0.0
) -> SimulatedRollout:
    """Run an experiment from its start to its end, or for so many days.

    The machine looks every ``policy.look_every_hours`` and acts by itself with the same
    :func:`evidence_path` and :func:`decide` as in service. Users draw their place in the hash at random,
    which is what a hash of new salt does.

    Args:
        scenario: The truth.
        experiment: Its definition; names of models do not matter.
        seed: One seed, one course of events.
        days: After which it ends undecided.
        began_at: Unix seconds of the start.
    """
    crowd = _Crowd(scenario, experiment, np.random.default_rng(seed))
    rollout = transition(Rollout(experiment), "start", began_at)
    decisions: list[SimulatedDecision] = []
    step = experiment.policy.look_every_hours / 24
    look, n_looks, highest = 1, 0, rollout.percent
    last: Decision | None = None
    n_all, ahead = int(days / step), AHEAD_DAYS
    while look <= n_all and rollout.state == "running":
        until = min(n_all, look + max(1, round(ahead / step)) - 1)
        ahead *= 2
        stage_began = ((rollout.stage_began_at or began_at) - began_at) / DAY_S
        crowd.come(rollout.stage, stage_began, until * step)
        looks: Floats = began_at + np.arange(look, until + 1, dtype=np.float64) * (step * DAY_S)
        for evidence in evidence_path(crowd.enrolled(began_at), rollout, looks):
            look += 1
            n_looks += 1
            last = decide(evidence, experiment.policy, rollout)
            if last.action != "hold":
                decisions.append(SimulatedDecision((evidence.at - began_at) / DAY_S, rollout.percent, last))
                rollout = transition(rollout, last.action, evidence.at)
                highest = max(highest, rollout.percent)
                crowd.forget_after((evidence.at - began_at) / DAY_S)
                ahead = AHEAD_DAYS
                break
    if last is None:
        raise ValueError(f"days must leave time for one look, {step:g} days; got {days}.")
    return SimulatedRollout(
        rollout, tuple(decisions), last, (look - 1) * step, highest, crowd.enrolled(began_at), n_looks
    )


class _Crowd:
    """Users, and those among them who were exposed and counted so far."""

    def __init__(self, scenario: Scenario, experiment: Experiment, rng: np.random.Generator) -> None:
        self._scenario, self._experiment, self._rng = scenario, experiment, rng
        self._people = population(scenario.world, rng)
        self._is_out = np.ones(scenario.world.n_users, dtype=np.bool_)  # not exposed yet
        self._reached = 0.0  # day up to which exposures are drawn
        self._days: Floats = np.empty(0)
        self._treated = np.empty(0, dtype=np.bool_)
        self._stage = np.empty(0, dtype=np.int64)
        self._users = np.empty(0, dtype=np.int64)
        self._columns: Outcomes = {}

    def come(self, stage: int, stage_began: float, until: float) -> None:
        """Expose who visits up to this day; visits are without memory, so drawing may stop and go on."""
        start = max(self._reached, stage_began)
        if until <= start:
            return
        cohorts = cohorts_of(self._people.place, self._experiment.share(stage), self._experiment.hold_out)
        may = np.flatnonzero(cohorts.is_counted & self._is_out)
        wait = self._rng.exponential(size=may.size) / self._people.rate[may]
        is_old = self._people.came_at[may] < start
        # Whoever comes for the first time comes with a visit.
        at = np.where(is_old, start + wait, self._people.came_at[may])
        order = np.argsort(at, kind="stable")
        order = order[: int(np.searchsorted(at[order], until, side="right"))]
        users, at = may[order], at[order]
        treated = cohorts.is_treated[users]
        outcomes = simulate_windows(
            self._scenario,
            self._people.of(users),
            treated,
            at,
            window_days=self._experiment.policy.window_days,
            service_window_days=self._experiment.policy.service.window_hours / 24,
            rng=self._rng,
        )
        self._is_out[users] = False
        self._users = np.concatenate([self._users, users])
        self._days = np.concatenate([self._days, at])
        self._treated = np.concatenate([self._treated, treated])
        self._stage = np.concatenate([self._stage, np.full(users.size, stage)])
        self._columns = {
            name: np.concatenate([self._columns[name], column]) if self._columns else column
            for name, column in outcomes.items()
        }
        self._reached = until

    def forget_after(self, day: float) -> None:
        """Take back the exposures after a day: another stage began."""
        n = int(np.searchsorted(self._days, day, side="right"))
        self._is_out[self._users[n:]] = True
        self._users, self._days = self._users[:n], self._days[:n]
        self._treated, self._stage = self._treated[:n], self._stage[:n]
        self._columns = {name: column[:n] for name, column in self._columns.items()}
        self._reached = min(self._reached, day)

    def enrolled(self, began_at: float) -> Enrolled:
        """Everybody so far."""
        return Enrolled(began_at + self._days * DAY_S, self._treated, self._stage, self._columns)
