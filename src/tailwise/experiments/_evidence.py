"""From users in order of enrolment to the evidence at any number of looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tailwise.experiments._anytime import AnytimePath, BurnIn, anytime_path
from tailwise.experiments._arrays import OutcomeArrays
from tailwise.experiments._guardrails import EffectEvidence, Evidence, RateEvidence, SampleEvidence
from tailwise.experiments._metrics import METRICS
from tailwise.experiments._outcome_table import PRE
from tailwise.experiments._rollout import Rollout
from tailwise.experiments._sample_ratio import follow_sample_ratio
from tailwise.experiments._shares import excess_bounds, share_bounds

__all__ = ["SERVICE_COLUMNS", "Enrolled", "evidence_at", "evidence_path"]

Floats = NDArray[np.float64]
DAY_S = 86_400.0
SERVICE_COLUMNS = ("requests", "errors", "fallbacks", "slow_requests")
"""Requests of a user within ``policy.service.window_hours`` of the first: all, failed (the model did, or
there was no list at all), answered by the fallback, and slower than ``policy.service.latency_p95_ms``."""


@dataclass(frozen=True, eq=False)
class Enrolled:
    """Every user that was ever exposed and counted, in order of first exposure.

    Attributes:
        exposed_at: ``[n]`` unix seconds of the first exposure, ascending.
        treated: ``[n]`` bool.
        stage: ``[n]`` int64; stage of the first exposure.
        columns: ``[n]`` each: what the metrics add up, within ``policy.window_days``; ``pre_`` of it where it
            is known, NaN for users of whom it is not; and :data:`SERVICE_COLUMNS`, unless ``asked`` has
            them. What happens after a look may be missing or wrong: windows that are open are not read.
        asked: Everybody who ever asked for a list, answered or not, in order of the first request, whose
            moment ``exposed_at`` is there; with :data:`SERVICE_COLUMNS` alone. The service's limits look at
            them, since who is refused is never exposed. None: those exposed are those who asked.
    """

    exposed_at: Floats
    treated: NDArray[np.bool_]
    stage: NDArray[np.int64]
    columns: Mapping[str, Floats]
    asked: "Enrolled | None" = None

    def __post_init__(self) -> None:
        n = self.exposed_at.size
        for name, column in (("treated", self.treated), ("stage", self.stage), *self.columns.items()):
            if column.shape != (n,):
                raise ValueError(f"{name} must have one entry per user, {n}; got shape {column.shape}.")
        if (np.diff(self.exposed_at) < 0).any():
            raise ValueError("exposed_at must ascend; got users out of order. Sort them by first exposure.")

    def unbroken(self, window_s: float, breaks: Sequence[float]) -> NDArray[np.bool_]:
        """Whose window holds no break. ``[n]``."""
        kept = np.ones(self.exposed_at.size, dtype=np.bool_)
        for moment in breaks:
            kept &= (moment <= self.exposed_at) | (self.exposed_at + window_s <= moment)
        return kept


def evidence_at(enrolled: Enrolled, rollout: Rollout, at: float) -> Evidence:
    """Return the evidence at one look; see :func:`evidence_path`."""
    return evidence_path(enrolled, rollout, np.array([at]))[0]


def evidence_path(enrolled: Enrolled, rollout: Rollout, looks: Floats) -> list[Evidence]:
    """Return what was known at each look of the stage the rollout is in.

    A look at time t counts the users whose windows closed by t without a break (``Rollout.breaks``). Earlier
    looks do not change what later ones say, so looks may be taken together, one by one, or both.

    Args:
        enrolled: Users up to the last look at least.
        rollout: As it stands at all of these looks.
        looks: ``[L]`` unix seconds, ascending.

    Raises:
        ValueError: the rollout has not started, or a column is missing.
    """
    began = rollout.stage_began_at
    if began is None:
        raise ValueError(f"{rollout.experiment.name!r} must have started; got state {rollout.state!r}.")
    policy = rollout.experiment.policy
    closed = _Closed.of(enrolled, rollout, looks, policy.window_days * DAY_S)
    served = _Closed.of(enrolled.asked or enrolled, rollout, looks, policy.service.window_hours * 3600)
    burn_in = BurnIn(users=2 * policy.first_look_users, active_users=policy.first_look_active_users)

    def paths(names: Sequence[str], alpha: float) -> list[tuple[str, float, AnytimePath]]:
        each = alpha / max(1, len(names))
        return [
            (
                name,
                each,
                anytime_path(
                    closed.metric(name),
                    closed.looks,
                    alpha=each,
                    tuned_for=policy.tuned_for_users,
                    burn_in=burn_in,
                ),
            )
            for name in names
        ]

    limits = paths([limit.metric for limit in policy.effects], policy.alpha)
    goals = paths(rollout.experiment.metrics, policy.alpha_effect)
    rates = [(name, served.rate(name, policy.alpha_service / 3)) for name in _RATES]
    n_users, n_in_stage = closed.smaller_cohort(), closed.smaller_cohort(rollout.stage)
    samples = _samples(enrolled, looks)
    return [
        Evidence(
            at=float(at),
            days_in_stage=float(at - began) / DAY_S,
            n_users=int(n_users[i]),
            n_users_in_stage=int(n_in_stage[i]),
            limits=_effects_of(limits, i),
            goals=_effects_of(goals, i),
            rates=tuple(path.at(i) for _, path in rates),
            sample=samples[i],
        )
        for i, at in enumerate(looks)
    ]


def _effects_of(paths: list[tuple[str, float, AnytimePath]], i: int) -> tuple[EffectEvidence, ...]:
    return tuple(
        EffectEvidence(
            name,
            float(path.relative[i]),
            float(path.relative_lower[i]),
            float(path.relative_upper[i]),
            alpha,
        )
        for name, alpha, path in paths
    )


RateName = Literal["errors", "fallbacks", "slow"]
_RATES: dict[RateName, str] = {"errors": "errors", "fallbacks": "fallbacks", "slow": "slow_requests"}
_MAY_BE_SLOW = 0.05  # share of requests


@dataclass(frozen=True, eq=False)
class _RatePath:
    """Mean over users of their shares of requests, at each look, ``[L]`` each."""

    name: RateName
    control: Floats
    treatment: Floats
    excess: Floats
    low: Floats
    high: Floats

    def at(self, i: int) -> RateEvidence:
        columns = (self.control, self.treatment, self.excess, self.low, self.high)
        return RateEvidence(self.name, *(float(column[i]) for column in columns))


@dataclass(frozen=True, eq=False)
class _Closed:
    """Users whose windows no break cut, and how many of them had closed windows at each look."""

    enrolled: Enrolled
    kept: NDArray[np.int64]
    looks: NDArray[np.int64]
    rollout: Rollout

    @classmethod
    def of(cls, enrolled: Enrolled, rollout: Rollout, looks: Floats, window_s: float) -> "_Closed":
        # Users whose windows are open at the last look are left out, whatever their columns hold.
        is_kept = enrolled.unbroken(window_s, rollout.breaks) & (enrolled.exposed_at + window_s <= looks[-1])
        kept = np.flatnonzero(is_kept)
        n_closed = np.searchsorted(enrolled.exposed_at[kept] + window_s, looks, side="right")
        return cls(enrolled, kept, n_closed.astype(np.int64), rollout)

    def column(self, name: str) -> Floats:
        if name not in self.enrolled.columns:
            raise ValueError(f"columns must hold {name!r}; got {', '.join(self.enrolled.columns) or 'none'}.")
        return self.enrolled.columns[name][self.kept]

    @property
    def treated(self) -> NDArray[np.bool_]:
        return self.enrolled.treated[self.kept]

    @property
    def stage(self) -> NDArray[np.int64]:
        return self.enrolled.stage[self.kept]

    def metric(self, name: str) -> OutcomeArrays:
        columns = METRICS[name].columns
        pre = [PRE + column for column in columns if PRE + column in self.enrolled.columns]
        covariates = np.stack([self.column(column) for column in pre], axis=1) if pre else None
        values = [self.column(column) for column in columns]
        return OutcomeArrays.of(
            self.treated, self.stage, values[0], values[1] if len(values) == 2 else None, covariates
        )

    def rate(self, name: RateName, alpha: float) -> _RatePath:
        """Follow the mean over users of the share of each one's requests to which something bad happened."""
        bad, requests = self.column(_RATES[name]), self.column("requests")
        asked = requests > 0
        shares = np.divide(bad, requests, out=np.zeros_like(bad), where=asked)

        def running(mine: NDArray[np.bool_]) -> tuple[Floats, Floats]:
            sums, users = np.cumsum(shares * mine), np.cumsum(asked & mine)
            return np.append(0.0, sums)[self.looks], np.append(0, users)[self.looks].astype(np.float64)

        (treated, n_treated), (control, n_control) = running(self.treated), running(~self.treated)
        with np.errstate(invalid="ignore", divide="ignore"):
            of_treatment, of_control = treated / n_treated, control / n_control
        if name == "slow":  # 95 of 100 requests are to be fast, whatever control's are
            low, high = (ends - _MAY_BE_SLOW for ends in share_bounds(treated, n_treated, alpha))
            return _RatePath(name, of_control, of_treatment, of_treatment - _MAY_BE_SLOW, low, high)
        low, high = excess_bounds(treated, n_treated, control, n_control, alpha)
        return _RatePath(name, of_control, of_treatment, of_treatment - of_control, low, high)

    def smaller_cohort(self, stage: int | None = None) -> NDArray[np.int64]:
        mine = np.ones(self.kept.size, dtype=np.bool_) if stage is None else self.stage == stage
        running = np.zeros((2, self.kept.size + 1), dtype=np.int64)
        np.cumsum(self.treated & mine, out=running[0, 1:])
        np.cumsum(~self.treated & mine, out=running[1, 1:])
        return np.asarray(running[:, self.looks].min(axis=0))


def _samples(enrolled: Enrolled, looks: Floats) -> list[SampleEvidence]:
    """The sample ratio at each look."""
    n = int(np.searchsorted(enrolled.exposed_at, looks[-1], side="right"))
    path = np.append(1.0, follow_sample_ratio(enrolled.treated[:n], enrolled.stage[:n]))
    treated = np.append(0, np.cumsum(enrolled.treated[:n]))
    seen = np.searchsorted(enrolled.exposed_at, looks, side="right")
    return [SampleEvidence(int(m - treated[m]), int(treated[m]), float(path[m])) for m in seen]
