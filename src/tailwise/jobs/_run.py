"""The main job: from an interaction log to a report of what EISAM did to the tail."""

from pathlib import Path
from typing import Any

from tailwise.jobs._config import RunConfig, SegmentConfig
from tailwise.jobs._language_recommender import choose_device, read_titles
from tailwise.jobs._measure import measure_run
from tailwise.jobs._progress import Narrator
from tailwise.jobs._run_data import RunData, load_run_data, prepare_run_data
from tailwise.jobs._run_folder import RunFolder
from tailwise.jobs._train_variant import (
    check_moved_parameters,
    measure_reference,
    train_sasrec,
    train_variant,
)
from tailwise.jobs._variants import VariantConfig
from tailwise.reports import read_metrics, write_metrics, write_report
from tailwise.training import Processes, joined_processes

__all__ = ["evaluate", "report", "run"]


def run(
    config: RunConfig, out: Path, *, resume: bool = False, quiet: bool = False, shard: bool = False
) -> dict[str, Any]:
    """Read the data, train every variant and seed, measure them, write ``metrics.json`` and the page.

    A run may be stopped at any moment, by any means, and taken up again with ``resume``;
    what is finished is not repeated, and trainings go on from their last checkpoint.

    Called in each of several processes, as ``torchrun`` starts them, it trains every variant in all of
    them together and splits users between them to measure; ``out`` lies where all can read it. The
    settings keep their meaning: ``training.positions_per_batch`` is what all processes evaluate in a step.

    Args:
        config: What to compute.
        out: The run's folder; new, unless ``resume``.
        resume: Go on with the run in ``out``, if there is one; with any number of processes.
        quiet: Say nothing on standard error.
        shard: Each process holds a shard of every parameter (FSDP2) rather than all of them.

    Returns:
        The content of ``metrics.json``.

    Raises:
        ConfigError: ``out`` holds another run, a setting is out of range, or the launcher's environment
            is not whole.
        DataError: the data break a rule.
        AssetError: data or model could not be fetched.
        TrainingInterrupted: the process was asked to stop; the state is saved.
        StoppedElsewhereError: the first of several processes raised one of these.
    """
    device = choose_device(config.device)  # a clear error before any work
    folder = RunFolder(out)
    with joined_processes(device, shard=shard) as processes:
        narrator = Narrator(quiet=quiet or not processes.is_first)
        with processes.first_holds(folder.locked()):
            processes.first_does(lambda: _begin(config, folder, resume=resume, narrator=narrator))
            data = load_run_data(folder.data)
            _train_all(config, folder, data, narrator, processes)
            return processes.first_does(lambda: evaluate(out))


def _begin(config: RunConfig, folder: RunFolder, *, resume: bool, narrator: Narrator) -> None:
    """Make the folder the run's, read the data, and measure what needs no training."""
    folder.claim(config, resume=resume)
    data = prepare_run_data(config.data, folder.data, narrator.say)
    narrator.say(_data_line(data))
    for name in config.references:
        if name != "sasrec" and not folder.result(name).is_done():
            measure_reference(name, config, data=data, folder=folder.result(name), narrator=narrator)


def _data_line(data: RunData) -> str:
    split = data.split
    return (
        f"{data.summary['name']}: {split.n_users:,} users, {split.n_items:,} items, "
        f"{data.summary['n_interactions']:,} interactions; {split.method}: "
        f"{split.n_test_targets:,} test targets, {split.n_tied_test:,} of them tied in time"
    )


def _train_all(
    config: RunConfig, folder: RunFolder, data: RunData, narrator: Narrator, processes: Processes
) -> None:
    """Train what is not finished, seed by seed, so that a part of a run already holds pairs."""
    todo, todo_sasrec = processes.first_does(lambda: _unfinished(config, folder))
    if todo:
        titles = processes.first_of_machine_does(lambda: read_titles(config, data, narrator))
        check_moved_parameters(config, [v for _, v in todo], data=data, titles=titles)
    for seed, variant in todo:
        train_variant(
            config,
            variant,
            seed=seed,
            data=data,
            titles=titles,
            folder=folder.result(variant.name, seed),
            narrator=narrator,
            processes=processes,
        )
    for seed in todo_sasrec:
        train_sasrec(
            config,
            seed=seed,
            data=data,
            folder=folder.result("sasrec", seed),
            narrator=narrator,
            processes=processes,
        )


def _unfinished(config: RunConfig, folder: RunFolder) -> tuple[list[tuple[int, VariantConfig]], list[int]]:
    """Seeds and variants without a record; seeds of SASRec without one."""
    variants = [
        (seed, variant)
        for seed in config.seeds
        for variant in config.variants
        if not folder.result(variant.name, seed).is_done()
    ]
    has_sasrec = "sasrec" in config.references
    return variants, [s for s in config.seeds if has_sasrec and not folder.result("sasrec", s).is_done()]


def evaluate(out: Path, segments: SegmentConfig | None = None) -> dict[str, Any]:
    """Measure a run again from its stored rankings; write ``metrics.json`` and the page.

    Args:
        out: The run's folder.
        segments: Cut head and tail another way; None as the run's settings say.

    Returns:
        The content of ``metrics.json``.

    Raises:
        DataError: ``out`` holds no run, or nothing of it is finished.
    """
    folder = RunFolder(out)
    metrics = measure_run(folder, folder.read_config(), segments)
    write_metrics(metrics, folder.metrics)
    write_report(metrics, folder.report)
    return metrics


def report(out: Path) -> Path:
    """Write the page again from ``metrics.json``; return its path."""
    folder = RunFolder(out)
    write_report(read_metrics(folder.metrics), folder.report)
    return folder.report
