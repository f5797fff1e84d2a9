"""The command `tailwise simulate`: simulated people visit the running service."""

from pathlib import Path
from typing import Annotated, Any

from tailwise._cli_place import MODELS, Flag, Models, say

__all__ = ["simulate"]


def simulate(
    name: str,
    *,
    data: str | None = None,
    users: int | None = None,
    days: float | None = None,
    scenario: str | None = None,
    visits_per_day: float | None = None,
    url: str | None = None,
    rate: float | None = None,
    concurrency: int | None = None,
    seed: int | None = None,
    decide: Annotated[bool, Flag] = False,
    resume: Annotated[bool, Flag] = False,
    run: Path | None = None,
    place: Models = MODELS,
) -> None:
    """Let simulated people visit the running service for days that pass in minutes; see docs/rollout.md.

    The service must be started with --clock-from-header, and the experiment too. People are fitted on the
    test part of the run that is served, which its models have never seen. Ctrl-C keeps the place.

    Args:
        name: Of a running experiment.
        data: The data set that the run must be of, such as completejourney; a check, nothing is loaded.
        users: People who may visit; by default 20,000.
        days: Of simulated time; by default 14.
        scenario: as-fitted, real-uplift, a-a, over-correction, broken (needs tailwise serve --drill), lost,
            novelty, drift or bots.
        visits_per_day: Of a user, on average; by default 0.4.
        url: Of the service; by default http://127.0.0.1:8000.
        rate: Most requests per second; by default 200.
        concurrency: Requests at a time; by default 8.
        seed: One seed, one course of events.
        decide: Let the machine decide in simulated time, as often as the policy says.
        resume: Go on with a simulation that was stopped.
        run: Whose test part people are fitted on; by default the run of the control model.
    """
    from tailwise.jobs import _simulate as jobs
    from tailwise.jobs._simulate_report import finish

    given: dict[str, Any] = {
        "url": url,
        "users": users,
        "days": days,
        "visits_per_day": visits_per_day,
        "scenario": scenario,
        "rate": rate,
        "concurrency": concurrency,
        "seed": seed,
    }
    settings = {key: value for key, value in given.items() if value is not None}
    config = jobs.SimulateConfig(**settings, decides=decide, resume=resume)
    with place.decider() as decider:
        shoppers = jobs.people_of(
            decider.store.get(name).experiment, data=data, run=run, state=place.state, root=place.model_root
        )
        found = jobs.simulate(name, config, shoppers, decider, state=place.state, say=say)
        if not found.is_finished:
            say("Stopped. Go on with the same command and --resume.")
            return
        for line in finish(name, config, found, decider):
            say(line)
