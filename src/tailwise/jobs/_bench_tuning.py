"""Settings chosen on validation users, with as many trials for every method."""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tailwise.errors import ConfigError
from tailwise.jobs._bench_cell import Cell, run_trial
from tailwise.jobs._bench_config import BenchConfig, BenchMethod, Knobs, holds_whole_numbers
from tailwise.jobs._bench_folder import BenchFolder
from tailwise.jobs._run_folder import write_json

__all__ = [
    "Chosen",
    "combinations",
    "listed_trials",
    "measured",
    "read_choice",
    "run_listed_trial",
    "suggest",
    "tune",
]

Chosen = dict[str, Any]
"""``knobs``: what a method searches, as chosen; ``trial``: its number; ``best_overall`` of all trials."""


def listed_trials(
    config: BenchConfig, setting: str, method: BenchMethod, baseline: Chosen | None
) -> list[Cell]:
    """Return the trials of a method whose values are gone through: none rests on another's outcome.

    Args:
        config: The benchmark.
        setting: Where.
        method: Whose.
        baseline: As of :func:`tune`.

    Returns:
        In :func:`tune`'s order; empty where values are proposed one after another.
    """
    listed = combinations(method.search, at_most=config.n_trials)
    return [
        _trial(config, setting, method, baseline, own=own, number=number) for number, own in enumerate(listed)
    ]


def run_listed_trial(config: BenchConfig, out: Path, cell: Cell, baseline: Chosen | None) -> str:
    """Run one of :func:`listed_trials`, for :func:`tune` to find; return a line for people."""
    found = run_trial(config, out, cell, _trial_of(baseline))["validation"]
    return f"{cell.text}: {_text(found, config)}"


def _trial(
    config: BenchConfig,
    setting: str,
    method: BenchMethod,
    baseline: Chosen | None,
    *,
    own: Knobs,
    number: int,
) -> Cell:
    knobs = config.knobs(method, own, {} if baseline is None else baseline["knobs"])
    return Cell(setting, method.name, config.tuning_seed, knobs, trial=number)


def _trial_of(chosen: Chosen | None) -> int | None:
    return None if chosen is None else int(chosen["trial"])


def _text(found: Mapping[str, float], config: BenchConfig) -> str:
    return f"validation NDCG@{config.tuning_k} {found['overall']:.4f} overall, {found['tail']:.4f} tail"


def tune(config: BenchConfig, out: Path, setting: str, method: BenchMethod, baseline: Chosen | None) -> str:
    """Try a method's settings one after another and write ``tuning/<method>.json``.

    Lists of values that make no more combinations than there are trials are gone through. Otherwise
    values come from Optuna's TPE sampler with a fixed seed, told of each outcome before it is asked
    again. Either way a search that was stopped asks the same questions again, and finds the answers in its
    folder.

    Args:
        config: The benchmark.
        out: Its folder.
        setting: Where.
        method: With a search; a baseline may do without (one trial, which the others are held against).
        baseline: What was chosen for the baseline; None for the baseline itself.

    Returns:
        A line for people.
    """
    folder = BenchFolder(out).setting(setting)
    best_overall = None if baseline is None else float(baseline["best_overall"])
    trials: list[dict[str, Any]] = []
    seen: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}

    def measure(own: Knobs) -> float:
        key = tuple(sorted(own.items()))
        if key not in seen:
            cell = _trial(config, setting, method, baseline, own=own, number=len(trials))
            seen[key] = run_trial(config, out, cell, _trial_of(baseline))
        record = seen[key]
        value = judge(record["validation"], best_overall, margin=config.margin)
        trials.append({"settings": dict(own), "value": value, **measured(record)})
        return value

    if all_combinations := combinations(method.search, at_most=config.n_trials):
        for own in all_combinations:
            measure(own)
    else:
        _search(method.search, measure, n_trials=config.n_trials, seed=config.tuning_seed)
    if best_overall is None:  # only now is the best of the baseline's own known
        best_overall = max(float(trial["validation"]["overall"]) for trial in trials)
        for trial in trials:
            trial["value"] = judge(trial["validation"], best_overall, margin=config.margin)
    chosen = max(range(len(trials)), key=lambda i: (trials[i]["value"], -i))
    write_json(
        {"method": method.name, "rule": config.rule, "trials": trials, "chosen": chosen},
        folder.tuning(method.name),
    )
    found = trials[chosen]["validation"]
    values = sorted(trials[chosen]["settings"].items())
    text = ", ".join(f"{knob}={v:.3g}" if isinstance(v, float) else f"{knob}={v}" for knob, v in values)
    return f"{setting}, {method.name}: {text or 'nothing to choose'}; {_text(found, config)}"


def measured(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial found and took, and what its seeds found one by one, where it had several."""
    return {key: record[key] for key in ("validation", "seconds", "by_seed") if key in record}


def judge(validation: dict[str, float], best_overall: float | None, *, margin: float) -> float:
    """Value a trial: its tail where overall is kept, else below 0; overall where there is no best yet.

    Example:
        >>> judge({"overall": 0.099, "tail": 0.02}, 0.1, margin=0.02)
        0.02
        >>> round(judge({"overall": 0.05, "tail": 0.09}, 0.1, margin=0.02), 6)
        -0.5
    """
    if best_overall is None:
        return validation["overall"]
    if validation["overall"] >= (1 - margin) * best_overall:
        return validation["tail"]
    return validation["overall"] / best_overall - 1


def read_choice(out: Path, setting: str, method: str) -> Chosen:
    """Return what tuning chose: ``knobs``, ``trial``; and ``best_overall`` NDCG of all its trials.

    Raises:
        ConfigError: the method is not tuned yet.
    """
    file = BenchFolder(out).setting(setting).tuning(method)
    if not file.is_file():
        raise ConfigError(f"{method} must be tuned in {setting} first; got no {str(file)!r}.")
    content = json.loads(file.read_text())
    trials, number = content["trials"], content["chosen"]
    knobs = trials[number]["settings"]
    first = next(i for i, trial in enumerate(trials) if trial["settings"] == knobs)  # where its model is
    best = max(trial["validation"]["overall"] for trial in trials)
    return {"knobs": knobs, "trial": first, "best_overall": best}


def combinations(search: Mapping[str, Any], *, at_most: int) -> list[Knobs]:
    """Return all combinations of lists of values, if they are few; one empty one of nothing to search."""
    if not all(isinstance(space, list) for space in search.values()):
        return []
    found: list[Knobs] = [
        dict(zip(search, values, strict=True)) for values in itertools.product(*search.values())
    ]
    return found if len(found) <= at_most else []


def _search(
    search: Mapping[str, Any], measure: Callable[[Knobs], float], *, n_trials: int, seed: int
) -> None:
    """Let Optuna propose values; it is asked for the next when it was told of the last."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(n_trials // 2, 3))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(n_trials):
        trial = study.ask()
        own = {knob: suggest(trial, knob, space) for knob, space in sorted(search.items())}
        study.tell(trial, measure(own))


def suggest(trial: Any, knob: str, space: Any) -> float | int | str:
    """Let Optuna propose a value of a knob: of a list, or between ``low`` and ``high``."""
    value: float | int | str
    if isinstance(space, list):
        value = trial.suggest_categorical(knob, space)
    elif holds_whole_numbers(knob):
        value = trial.suggest_int(knob, space["low"], space["high"], log=bool(space.get("log")))
    else:
        value = trial.suggest_float(knob, space["low"], space["high"], log=bool(space.get("log")))
    return value
