"""A shop without a shop: an experiment's tables, a log, titles that mean harm, all in memory."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from fastapi import FastAPI

from tailwise.dashboard import (
    Access,
    Alarm,
    Deliveries,
    ExperimentTables,
    ListMaker,
    LiveTables,
    Outcome,
    PageCache,
    ShownItem,
    ShownList,
    dashboard_routes,
)
from tailwise.errors import LogUnavailableError, TailwiseError
from tailwise.experiments import (
    METRICS,
    AuditEntry,
    CatalogueShare,
    EffectEvidence,
    Evidence,
    Experiment,
    Policy,
    RateEvidence,
    Rollout,
    SampleEvidence,
    check_guardrails,
    evidence_as_plain,
    transition,
)
from tailwise.serving._http_keys import KeyStore

DAY = 86_400.0
START = 1_790_000_000.0  # a day of September 2026
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'
RTL = "\u202egnp.exe"


def experiment(name: str = "discovery-eisam", **changes: object) -> Experiment:
    given = Experiment(
        name,
        "discovery",
        "control",
        "treatment",
        policy=Policy(first_look_users=50, first_look_active_users=20, tuned_for_users=2000),
    )
    return replace(given, **changes)  # type: ignore[arg-type]


def running(given: Experiment | None = None, stages: int = 3) -> Rollout:
    """A rollout in its third stage: 25 %."""
    rollout = transition(Rollout(given or experiment()), "start", START)
    for stage in range(1, stages):
        rollout = transition(rollout, "ramp", START + 4 * stage * DAY)
    return rollout


def outcomes(
    n: int = 4000, *, tail_lift: float = 1.6, head_lift: float = 0.97, seed: int = 0
) -> pl.DataFrame:
    """Users of three stages; what the treatment shows more of the tail it shows less of the head."""
    rng = np.random.default_rng(seed)
    treated = rng.integers(0, 2, n).astype(bool)
    taste = rng.gamma(2.0, 0.5, n)
    exposed = np.sort(rng.uniform(START, START + 12 * DAY, n))
    stage = ((exposed - START) // (4 * DAY)).astype(int)
    tail_clicks = rng.poisson(0.3 * taste * np.where(treated, tail_lift, 1.0))
    head_clicks = rng.poisson(0.9 * taste * np.where(treated, head_lift, 1.0))
    tail_purchases, head_purchases = rng.binomial(tail_clicks, 0.3), rng.binomial(head_clicks, 0.3)
    orders = tail_purchases + head_purchases
    impressions = rng.poisson(10 * taste) + 1
    tail_impressions = rng.binomial(impressions, np.where(treated, 0.35, 0.25))
    return pl.DataFrame(
        {
            "user_id": [f"u{i:05d}" for i in range(n)],
            "variant": np.where(treated, "treatment", "control"),
            "stage": stage,
            "exposed_at": exposed,
            "window_closes_at": exposed + 3 * DAY,
            "currency": ["EUR" if k else None for k in orders],
            "impressions": impressions,
            "tail_impressions": tail_impressions,
            "head_impressions": impressions - tail_impressions,
            "tail_clicks": tail_clicks,
            "head_clicks": head_clicks,
            "clicks": tail_clicks + head_clicks,
            "tail_purchases": tail_purchases,
            "head_purchases": head_purchases,
            "converted": (orders > 0).astype(int),
            "orders": orders,
            "gmv": orders * rng.lognormal(3, 0.4, n),
            "sessions": 1 + rng.poisson(taste),
        }
    )


def evidence(*, head: tuple[float, float, float] = (-0.02, -0.12, 0.08)) -> Evidence:
    limits = tuple(
        EffectEvidence(name, *numbers, alpha=0.05 / 3)
        for name, numbers in (
            ("clicks", (0.08, 0.02, 0.15)),
            ("gmv", (0.04, -0.05, 0.14)),
            ("head_purchases", head),
        )
    )
    goals = (
        EffectEvidence("tail_clicks", 0.55, 0.4, 0.7, 0.025),
        EffectEvidence("tail_purchases", 0.5, 0.2, 0.9, 0.025),
    )
    rates = (
        RateEvidence("errors", 0.001, 0.001, 0.0, -0.002, 0.002),
        RateEvidence("fallbacks", 0.01, 0.08, 0.07, 0.02, 0.12),
        RateEvidence("slow", 0.01, 0.02, -0.03, -0.04, -0.02),
    )
    return Evidence(START + 12 * DAY, 4.0, 1800, 600, limits, goals, rates, SampleEvidence(2010, 1990, 1.0))


def decisions() -> list[AuditEntry]:
    seen = evidence()
    lights = check_guardrails(seen, Policy())
    plain = evidence_as_plain(seen)

    def entry(seq: int, at: float, action: str, reason: str, stage: int, **rest: object) -> AuditEntry:
        given = {"by": "machine", "guardrails": lights, "evidence": plain, **rest}
        return AuditEntry(
            seq=seq,
            experiment="discovery-eisam",
            at=at,
            action=action,
            reason=reason,
            needs_person=False,
            state_before="running",
            stage_before=stage,
            state_after="running",
            stage_after=stage + (action == "ramp"),
            version_after=seq,
            **given,  # type: ignore[arg-type]
        )

    by_hand = {"by": f"person:{HOSTILE}", "guardrails": (), "evidence": {}}
    return [
        entry(3, START + 8 * DAY, "ramp", "No harm seen. On to 25 %.", 1),
        entry(2, START + 4 * DAY, "ramp", "No harm seen. On to 5 %.", 0),
        entry(1, START, "start", "By hand.", 0, **by_hand),
    ]


def slots(
    *, days: int = 9, per_day: int = 60, tail: float = 0.2, last_tail: float | None = None
) -> pl.DataFrame:
    """Lists of five places of i00..i39; i00..i07 are head, the rest tail. The last day may differ."""
    rng = np.random.default_rng(1)
    rows = []
    for day in range(days):
        share = tail if last_tail is None or day < days - 1 else last_tail
        for number in range(per_day):
            for position in range(1, 6):
                is_tail = bool(rng.random() < share)
                item = rng.integers(8, 40) if is_tail else rng.integers(0, 8)
                rows.append(
                    {
                        "recommendation_id": f"{day:03d}{number:05d}",
                        "user_id": f"u{number:03d}",
                        "served_at": START + (day + number / per_day) * DAY,
                        "variant": "treatment" if number % 2 else "control",
                        "method": "model",
                        "position": position,
                        "item_id": f"i{item:02d}",
                        "segment": "tail" if is_tail else "head",
                    }
                )
    return pl.DataFrame(rows)


def shown(given: pl.DataFrame) -> pl.DataFrame:
    """Count slots by day, variant and segment."""
    dated = given.with_columns(day=(pl.col("served_at") // DAY).cast(pl.Int64) * int(DAY))
    return dated.group_by("day", "variant", "segment").agg(n=pl.len())


def choices(*, days: int = 9, per_day: int = 80, shift: int = 0) -> pl.DataFrame:
    """Clicks, most of them on the first items; in the second half on items ``shift`` further on."""
    rng = np.random.default_rng(2)
    at = np.sort(rng.uniform(START, START + days * DAY, days * per_day))
    item = rng.geometric(0.2, at.size) - 1 + shift * (np.arange(at.size) >= at.size // 2)
    return pl.DataFrame(
        {
            "event_id": [f"e{i}" for i in range(at.size)],
            "type": "click",
            "item_id": [f"i{i % 40:02d}" for i in item],
            "occurred_at": at,
        }
    )


class Sink:
    """Takes alarms, or does not; keeps what it was sent."""

    def __init__(self, name: str = "hook", answer: Outcome = "taken") -> None:
        self.name, self.answer = name, answer
        self.alarms: list[tuple[Alarm, ...]] = []
        self.ids: list[str] = []

    def send(self, alarms: Sequence[Alarm], *, delivery: str) -> Outcome:
        self.alarms.append(tuple(alarms))
        self.ids.append(delivery)
        return self.answer


class FakeSource:
    """A source in memory; counts what it was asked, and fails when told to."""

    def __init__(self, *rollouts: Rollout, tables: ExperimentTables | None = None) -> None:
        self.given = list(rollouts)
        self.asked: list[str] = []
        self.number = 1
        self.is_away = False
        self.told: list[Alarm] = []
        self.owed = Deliveries()
        table = outcomes()
        self.made = tables or ExperimentTables(
            table,
            table.select("user_id", "variant", "stage", "exposed_at"),
            evidence(),
            (
                CatalogueShare(METRICS["coverage"], 900, 1300, of=2000, n_users=1900),
                CatalogueShare(METRICS["tail_sell_through"], 210, 340, of=1600, n_users=1900),
            ),
        )

    def version(self) -> Hashable:
        self._note("version")
        return self.number

    def rollouts(self) -> Sequence[Rollout]:
        self._note("rollouts")
        return self.given

    def decisions(self, name: str, limit: int) -> Sequence[AuditEntry]:
        self._note("decisions")
        return decisions()[:limit] if self._rollout(name).timeline else []

    def tables(self, name: str) -> ExperimentTables:
        self._note("tables")
        if not self._rollout(name).timeline:
            return ExperimentTables(pl.DataFrame(), pl.DataFrame())
        return self.made

    def live(self) -> LiveTables:
        self._note("live")
        if not self.given:
            return LiveTables(shown(slots().clear()), choices().clear())
        return LiveTables(shown(slots(last_tail=0.08)), choices(shift=8))

    def users(self, name: str, n: int) -> Sequence[str]:
        self._note("users")
        return ["u00001", "u00002", f"u-{HOSTILE}"][:n]

    def alarms(self) -> Sequence[Alarm]:
        self._note("alarms")
        return self.told

    def deliveries(self) -> Deliveries:
        self._note("deliveries")
        return self.owed

    def _rollout(self, name: str) -> Rollout:
        return next(r for r in self.given if r.experiment.name == name)

    def _note(self, call: str) -> None:
        self.asked.append(call)
        if self.is_away:
            raise LogUnavailableError("The event log cannot be read now: it is away.")


async def hostile_lists(given: Experiment, user_id: str, k: int) -> tuple[ShownList, ShownList]:
    if user_id == "unknown":
        raise TailwiseError("The models are busy; ask again.")
    titles = ["Garden hose, 20 m", HOSTILE, RTL, "Rosenschere", "A" * 90, "Gießkanne"]

    def listed(variant: str, order: list[int], tail: int) -> ShownList:
        return ShownList(
            variant,
            tuple(
                ShownItem(place, f"i{i}", titles[i], "tail" if i >= tail else "head")
                for place, i in enumerate(order, start=1)
            ),
        )

    return listed(given.control, [0, 1, 3, 2], 3), listed(given.treatment, [1, 5, 0, 4], 3)


def app(
    source: FakeSource,
    folder: Path,
    *,
    lists: ListMaker | None = hostile_lists,
    cache: PageCache | None = None,
    keys: KeyStore | None = None,
    now: float = START + 12.2 * DAY,
) -> FastAPI:
    """The dashboard alone, as a service would mount it."""
    store = keys or KeyStore(folder / "keys.json")
    access = Access(store, b"s" * 32, clock=lambda: now)
    made = FastAPI(openapi_url=None)
    made.include_router(
        dashboard_routes(
            source, access, lists=lists, cache=cache or PageCache(patience_s=math.inf), clock=lambda: now
        )
    )
    return made
