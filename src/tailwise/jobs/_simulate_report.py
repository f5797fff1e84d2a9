"""The end of a simulation: what happened, and the truth beside what the experiment estimated."""

from tailwise.jobs._experiments_decider import Decider
from tailwise.jobs._experiments_status import status_of
from tailwise.jobs._simulate import SimulateConfig, Simulation
from tailwise.jobs._simulate_client import ServiceClient
from tailwise.jobs._simulate_truth import truth_of, truth_table

__all__ = ["finish"]


def finish(name: str, config: SimulateConfig, found: Simulation, decider: Decider) -> list[str]:
    """Return the lines that a simulation ends with.

    Args:
        name: Of the experiment.
        config: Of the simulation.
        found: What happened.
        decider: Reads the service's database.
    """
    decider.clock = lambda: found.now
    status = status_of(decider, name)
    client = ServiceClient(config.url, rate=config.rate)
    try:
        truth = truth_of(
            client,
            found.crowd,
            status.rollout.experiment,
            k=config.k,
            at=found.now,
            concurrency=config.concurrency,
        )
    finally:
        client.close()
    days = (found.now - found.began_at) / 86_400
    shoppers = found.crowd.shoppers
    return [
        f"{found.n_visits:,} visits and {found.n_events:,} events in {days:.1f} simulated days; "
        f"{found.crowd.scenario.words}.",
        f"People: copies of {shoppers.n_people:,} held-out users; prices: {shoppers.prices_from}.",
        f"{name}: {status.rollout.state}, {status.rollout.percent:g} %. Effects, with {truth.n_people} "
        "people asked for the truth:",
        truth_table(truth, status.effects),
    ]
