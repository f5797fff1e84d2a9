"""What a simulated experiment should have found: both models asked for the same people, by expectation."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tailwise.experiments import Effects, Experiment
from tailwise.jobs._simulate_client import ServiceClient
from tailwise.jobs._simulate_visits import MEASURED, Crowd

__all__ = ["Truth", "truth_of", "truth_table"]


@dataclass(frozen=True)
class Truth:
    """The true effect of the treatment, as a share of control's mean.

    Attributes:
        relative: By metric.
        standard_error: Of each: it is a mean over the people asked.
        n_people: How many were asked.
    """

    relative: Mapping[str, float]
    standard_error: Mapping[str, float]
    n_people: int


def truth_of(
    client: ServiceClient,
    crowd: Crowd,
    experiment: Experiment,
    *,
    k: int,
    at: float,
    n_people: int = 300,
    concurrency: int = 8,
) -> Truth:
    """Ask both models for the same people's first lists, and compare what these bring by expectation.

    No chance of clicks or purchases is in it, and no difference between cohorts; season and novelty are left
    out. The lists name their model outright, so no experiment counts them.

    Args:
        client: Of the service; its key may choose the model.
        crowd: Who visited.
        experiment: Names both models.
        k: Length of the lists.
        at: Simulated time, unix seconds.
        n_people: Users to ask for, drawn evenly.
        concurrency: Requests at a time: a model that is slow takes no longer for several.
    """
    users = np.random.default_rng((crowd.seed, 7)).permutation(crowd.person.size)[:n_people]
    sums: dict[str, list[list[float]]] = {metric: [] for metric in MEASURED}

    def bring(user: int) -> list[Mapping[str, float]]:
        history = crowd.shoppers.histories[int(crowd.person[user])]
        found = []
        for variant in (experiment.control, experiment.treatment):
            body = {
                "surface": experiment.surface,
                "history": history,
                "k": k,
                "variant": variant,
            }
            entries = client.post("/v1/recommendations", body, at)["items"]
            items = [entry["item_id"] for entry in entries]
            found.append(crowd.expect(user, items, [entry["segment"] for entry in entries]))
        return found

    with ThreadPoolExecutor(concurrency, thread_name_prefix="truth") as pool:
        for found in pool.map(bring, users.tolist()):
            for metric in MEASURED:
                sums[metric].append([each[metric] for each in found])
    relative, error = {}, {}
    for metric, pairs in sums.items():
        values = np.array(pairs)  # [n_people, 2]
        control, treatment = values.mean(axis=0)
        relative[metric] = float(treatment / control - 1) if control > 0 else float("nan")
        rest = values[:, 1] - (1 + relative[metric]) * values[:, 0]
        error[metric] = float(rest.std() / (control * np.sqrt(len(pairs)))) if control > 0 else float("nan")
    return Truth(relative, error, len(users))


def truth_table(truth: Truth, effects: Effects | None) -> str:
    """Write the truth beside what the experiment estimated, one metric a line."""
    lines = [f"{'metric':16} {'truth':>15}   {'estimated':>9}   at any look"]
    known = {} if effects is None else {effect.metric.name: effect.deciding for effect in effects.metrics}
    for metric, value in truth.relative.items():
        shown = f"{value:+.1%} ±{1.96 * truth.standard_error[metric]:.1%}"
        found = known.get(metric)
        if found is None or not np.isfinite(found.relative):
            lines.append(f"{metric:16} {shown:>15}   {'–':>9}   too early")
            continue
        low, high = found.relative_interval.low, found.relative_interval.high
        interval = f"{low:+.1%} to {high:+.1%}" if np.isfinite([low, high]).any() else "too early"
        lines.append(f"{metric:16} {shown:>15}   {found.relative:>+9.1%}   {interval}")
    return "\n".join(lines)
