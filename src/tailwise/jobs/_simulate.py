"""``tailwise simulate``: two weeks of visitors against a running service, in minutes."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from tailwise.errors import ConfigError
from tailwise.experiments import Experiment, Rollout
from tailwise.jobs._experiments_decider import Decider, Look
from tailwise.jobs._experiments_serving import POLL_S
from tailwise.jobs._run_data import load_run_data
from tailwise.jobs._run_folder import RunFolder
from tailwise.jobs._serve_deployment import DeploymentFolder
from tailwise.jobs._serve_models import parse_source
from tailwise.jobs._simulate_client import ServiceClient
from tailwise.jobs._simulate_place import Place
from tailwise.jobs._simulate_scenarios import find_scenario
from tailwise.jobs._simulate_users import Shoppers, fit_shoppers
from tailwise.jobs._simulate_visits import Crowd, Visit, plan_visits

__all__ = ["SimulateConfig", "Simulation", "people_of", "simulate"]

DAY_S = 86_400.0
_VISITS_AT_ONCE = 200  # between two looks at the stop flag
_EVENTS_AT_ONCE = 500
_MOST_HISTORY = 50
_SECONDS = {"impression": 1.0, "click": 10.0, "purchase": 90.0}  # after the list


@dataclass(frozen=True)
class SimulateConfig:
    """What is simulated.

    Attributes:
        url: Of the service.
        users: People who may visit, >= 1.
        days: Of simulated time, > 0.
        visits_per_day: Mean per user, > 0.
        scenario: Name of a world; see docs/rollout.md.
        k: Length of the lists, 1..500.
        rate: Most requests per second, > 0.
        concurrency: Requests at a time, 1..64.
        seed: One seed, one course of events, as far as the service's answers are the same.
        decides: Let the machine look every ``policy.look_every_hours`` of simulated time, and act.
        resume: Go on with a simulation that was stopped.
    """

    url: str = "http://127.0.0.1:8000"
    users: int = 20_000
    days: float = 14.0
    visits_per_day: float = 0.4
    scenario: str = "as-fitted"
    k: int = 10
    rate: float = 200.0
    concurrency: int = 8
    seed: int = 0
    decides: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (
            ("users", 1, 10**7),
            ("k", 1, 500),
            ("concurrency", 1, 64),
            ("seed", 0, 2**31),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"--{name} must be in {low:,}..{high:,}; got {getattr(self, name)}.")
        for name in ("days", "visits_per_day", "rate"):
            if not 0 < getattr(self, name) < 1e6:
                raise ConfigError(f"--{name.replace('_', '-')} must be > 0; got {getattr(self, name)}.")
        find_scenario(self.scenario)

    def course(self) -> dict[str, Any]:
        """Return what decides the course of events: these may not change when it is resumed."""
        names = ("users", "days", "visits_per_day", "scenario", "k", "seed")
        return {name: getattr(self, name) for name in names}


@dataclass(eq=False)
class Simulation:
    """What happened.

    Attributes:
        crowd: Who visited.
        began_at: Unix seconds of simulated time.
        now: Simulated time reached, unix seconds.
        n_visits: Lists that were asked for.
        n_events: Events that were sent.
        looks: Those at which the machine did something other than hold.
        is_finished: False where it was stopped.
        bought: What each user bought, by number, in the order of time.
    """

    crowd: Crowd
    began_at: float
    now: float
    n_visits: int = 0
    n_events: int = 0
    looks: list[Look] = field(default_factory=list)
    is_finished: bool = False
    bought: dict[int, list[str]] = field(default_factory=dict)


def simulate(
    name: str,
    config: SimulateConfig,
    shoppers: Shoppers,
    decider: Decider,
    *,
    state: Path,
    say: Callable[[str], None] = print,
    pause: Callable[[float], None] = time.sleep,
) -> Simulation:
    """Let people visit the service, in simulated time, until the days are over or the experiment has ended.

    Each visit asks for one list and tells the service what was seen, clicked and bought, at its own time.
    A signal (SIGINT, SIGTERM) finishes what has begun and keeps the place for ``resume``.

    Args:
        name: Of a running experiment.
        config: See :class:`SimulateConfig`.
        shoppers: The user model.
        decider: Reads the service's database; its clock is set to the simulated time.
        state: Folder where the place is kept.
        say: Given a line for each day and each decision.
        pause: Called with the seconds that workers take to follow a decision.

    Raises:
        ConfigError: the experiment does not run, the service does not take the time from requests, or the
            scenario does not fit the models.
        TailwiseError: the service refuses, or does not recover.
    """
    rollout = decider.store.get(name)
    if rollout.state != "running" or rollout.stage_began_at is None:
        raise ConfigError(
            f"experiment {name!r} must be running; got {rollout.state}. tailwise experiment start {name}"
        )
    file = state / "experiments" / f"{name}.simulation.json"
    course = config.course()
    place = Place.read(file, course) if config.resume else Place.new(course, rollout, decider)
    client = ServiceClient(config.url, rate=config.rate)
    try:
        drills = client.check(place.began_at)
        for drilled, drill in drills.items():
            say(f"The service breaks {drilled} on purpose: {drill}.")
        if config.decides:
            for sentence in rollout.experiment.out_of_reach(config.users):
                say(sentence)
        run = _Run(config, shoppers, decider, client, rollout, place=place, say=say, pause=pause)
        if find_scenario(config.scenario).needs_equal_models:
            run.check_models_are_one()
        if find_scenario(config.scenario).needs_drill:
            run.check_treatment_is_drilled(drills)
        with _told_to_stop() as told:
            run.go(told, lambda: place.write(file))
    finally:
        client.close()
    if run.found.is_finished:
        file.unlink(missing_ok=True)
    else:
        place.write(file)
    return run.found


def people_of(
    experiment: Experiment, *, data: str | None, run: Path | None, state: Path, root: Path
) -> Shoppers:
    """Fit the user model on the test part of the run that control is served from, or of another.

    Args:
        experiment: Names control.
        data: Name of the data set that the run must be of. None: any.
        run: Whose test part. None: that of control's run.
        state: The service's.
        root: The service's ``model_root``.

    Raises:
        ConfigError: the run is of another data set, or control is not served.
        DataError: there is no run, or its test part is too small.
    """
    if run is None:
        deployed = DeploymentFolder(state).read().models.get(experiment.control)
        if deployed is None:
            raise ConfigError(f"control must be served from {str(state)!r}; got {experiment.control!r}.")
        run = parse_source(deployed.source, root).run
    found = load_run_data(RunFolder(run).data)
    if data is not None and found.summary["name"] != data:
        raise ConfigError(
            f"--data must be that of the run that is served, {found.summary['name']!r}; got {data!r}. "
            "People are fitted on the part of it that the models have never seen."
        )
    return fit_shoppers(found)


class _Run:
    """One simulation at work."""

    def __init__(
        self,
        config: SimulateConfig,
        shoppers: Shoppers,
        decider: Decider,
        client: ServiceClient,
        rollout: Rollout,
        *,
        place: Place,
        say: Callable[[str], None],
        pause: Callable[[float], None],
    ) -> None:
        self._config, self._decider, self._client = config, decider, client
        self._experiment: Experiment = rollout.experiment
        self._name = rollout.experiment.name
        self._place, self._say, self._pause = place, say, pause
        self._rollout = rollout
        crowd, self._visits = plan_visits(
            shoppers,
            find_scenario(config.scenario),
            n_users=config.users,
            days=config.days,
            visits_per_day=config.visits_per_day,
            began_at=place.began_at,
            seed=config.seed,
        )
        self.found = Simulation(
            crowd,
            place.began_at,
            place.began_at,
            n_visits=place.next_visit,
            n_events=place.n_events,
            bought=place.bought,
        )

    def check_models_are_one(self) -> None:
        """Refuse an A/A in which the models differ."""
        digests = {
            variant: self._client.post(
                "/v1/recommendations",
                {"surface": "home", "k": 1, "history": [], "variant": variant},
                self._place.began_at,
            )["model"]
            for variant in (self._experiment.control, self._experiment.treatment)
        }
        if len(set(digests.values())) > 1:
            raise ConfigError(
                "scenario a-a needs one model under both names; got two. Serve it: "
                f"tailwise serve --model {self._experiment.control}=RUN/VARIANT "
                f"--model {self._experiment.treatment}=RUN/VARIANT --clock-from-header"
            )

    def check_treatment_is_drilled(self, drills: Mapping[str, str]) -> None:
        """Refuse to call a treatment broken that is not."""
        treatment = self._experiment.treatment
        if treatment not in drills:
            raise ConfigError(
                f"scenario {self._config.scenario} needs a service that breaks {treatment!r}; got "
                f"{', '.join(drills) or 'none'} broken. Start it with "
                f"--drill {treatment}=fail:0.2,slow:600ms --clock-from-header"
            )

    def go(self, told: threading.Event, keep: Callable[[], None]) -> None:
        """Visit by visit to the end, or until told to stop."""
        began, n = self._place.began_at, self._place.next_visit
        step = self._experiment.policy.look_every_hours * 3600 if self._config.decides else DAY_S / 4
        looked = (self._visits[n - 1].at if n else began) - began
        next_look, end = began + (looked // step + 1) * step, began + self._config.days * DAY_S
        day = int(looked // DAY_S)
        with ThreadPoolExecutor(self._config.concurrency, thread_name_prefix="visitor") as pool:
            while not told.is_set():
                chunk = self._chunk(n, next_look)
                self._send([event for found in pool.map(self._visit, chunk) for event in found])
                n += len(chunk)
                self._place.next_visit = self.found.n_visits = n
                if n < len(self._visits) and self._visits[n].at < next_look:
                    continue
                self.found.now = min(next_look, end)
                if self._config.decides and not self._look():
                    self.found.is_finished = True
                    return
                if self.found.now >= end:
                    self.found.is_finished = True
                    return
                if int((self.found.now - began) / DAY_S) > day:
                    day = int((self.found.now - began) / DAY_S)
                    percent, treatment = self._rollout.percent, self._experiment.treatment
                    self._say(f"day {day:2}: {n:,} visits, {percent:g} % get {treatment}")
                    keep()
                next_look += step

    def _chunk(self, first: int, until: float) -> Sequence[Visit]:
        chunk = self._visits[first : first + _VISITS_AT_ONCE]
        return [visit for visit in chunk if visit.at < until]

    def _visit(self, visit: Visit) -> list[dict[str, Any]]:
        """Ask for a list, and return what the user did with it as events."""
        crowd, own = self.found.crowd, self.found.bought.setdefault(visit.user, [])
        person = int(crowd.person[visit.user])
        history = [*crowd.shoppers.histories[person], *own][-_MOST_HISTORY:]
        answer = self._client.post(
            "/v1/recommendations",
            {
                "surface": self._experiment.surface,
                "user_id": crowd.user_id(visit.user),
                "history": history,
                "k": self._config.k,
            },
            visit.at,
        )
        items = [entry["item_id"] for entry in answer["items"]]
        segments = [entry["segment"] for entry in answer["items"]]
        if answer["variant"] == self._experiment.treatment and _is_lost(crowd, visit):
            return []
        acts = crowd.act(visit, self.found.began_at, items, segments)
        own += [items[place] for place in acts["bought"]]
        return [
            self._event(visit, kind, answer["recommendation_id"], int(place), items[place])
            for kind, places in (
                ("impression", acts["looked"]),
                ("click", acts["clicked"]),
                ("purchase", acts["bought"]),
            )
            for place in places
        ]

    def _event(self, visit: Visit, kind: str, list_id: str, place: int, item: str) -> dict[str, Any]:
        crowd = self.found.crowd
        event = {
            "event_id": f"{self._name}-{self._config.seed}-{visit.number}-{place}-{kind}",
            "type": kind,
            "user_id": crowd.user_id(visit.user),
            "item_id": item,
            "occurred_at": round(visit.at + _SECONDS[kind] + place, 3),
            "recommendation_id": list_id,
            "position": place + 1,
            "session_id": f"{self._config.seed}-{visit.number}",
        }
        if kind == "purchase":
            event |= {"revenue": f"{crowd.shoppers.price(item):.2f}", "currency": "EUR"}
        return event

    def _send(self, events: list[dict[str, Any]]) -> None:
        for start in range(0, len(events), _EVENTS_AT_ONCE):
            batch = events[start : start + _EVENTS_AT_ONCE]
            self._client.post("/v1/events", {"events": batch}, batch[-1]["occurred_at"])
        self.found.n_events += len(events)
        self._place.n_events = self.found.n_events

    def _look(self) -> bool:
        """Let the machine decide at this moment; False when the experiment has ended."""
        self._decider.clock = lambda: self.found.now
        look = self._decider.look(self._name, apply=True)
        if look.after is None or look.after.version == look.rollout.version:
            return True
        self._rollout = look.after
        self.found.looks.append(look)
        days = (self.found.now - self.found.began_at) / DAY_S
        self._say(f"day {days:4.1f}: {look.decision.action.upper()}. {look.decision.reason}")
        if look.after.state != "running":
            return False
        self._pause(POLL_S + 1.0)  # until every worker serves the next stage
        return True


def _is_lost(crowd: Crowd, visit: Visit) -> bool:
    """Whether a list of the treatment does not reach the screen, in a world where that happens."""
    share = crowd.scenario.lost_share
    return share > 0 and float(np.random.default_rng((crowd.seed, visit.number, 1)).random()) < share


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """Set when a signal says to stop; a second one ends the process as usual."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return

    def stop(number: int, frame: FrameType | None) -> None:
        told.set()
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
