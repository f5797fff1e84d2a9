"""The benchmark: a declared grid of data sets, methods and seeds, cell by cell, resumable at any point."""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tailwise.errors import ConfigError
from tailwise.jobs._bench_cell import Cell, finished_record, prepare_data, prepare_setting, run_cell
from tailwise.jobs._bench_config import BenchConfig, BenchMethod, Knobs
from tailwise.jobs._bench_folder import BenchFolder
from tailwise.jobs._bench_settings import settings_of
from tailwise.jobs._bench_tuning import Chosen, listed_trials, read_choice, run_listed_trial, tune
from tailwise.jobs._config_file import config_as_dict
from tailwise.jobs._progress import Narrator
from tailwise.jobs._run_folder import write_json
from tailwise.training import differing_surroundings

__all__ = ["bench", "bench_cell", "prepare_tables"]

_GRACE_SECONDS = 20.0
Task = tuple[Callable[..., str], tuple[Any, ...]]
Untuned = tuple[str, BenchMethod, Chosen | None]
"""A setting, a method, and what was chosen there for the baseline (None for the baseline itself)."""


def bench(
    config: BenchConfig,
    out: Path,
    *,
    processes: int = 1,
    settings: Sequence[str] = (),
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
    curves: bool = True,
    quiet: bool = False,
) -> None:
    """Tune every method on validation users, then train and measure every cell that is missing.

    Tuning comes first, for the choices must stand before any test user is looked at; the baseline's
    before the others', which take over its training. What has nothing to search is not tuned. Cells go
    seed by seed, so that a benchmark that was stopped holds pairs; the points of curves come after the
    methods as chosen. The same call goes on where it was.

    Args:
        config: What is compared.
        out: The benchmark's folder; new, or of the same benchmark (settings, methods and seeds may be added;
            what is left out now still binds when it is declared again).
        processes: Cells at a time, one thread each; 1 uses all threads on one cell.
        settings: Names of those to work at; all if empty.
        methods: Likewise; the baseline is always among them.
        seeds: Likewise.
        curves: Measure points of curves as well; if not, another call will.
        quiet: Say nothing on standard error.

    Raises:
        ConfigError: a name is unknown, ``out`` holds another benchmark or a record of other settings, another
            process is at one of the cells, or a model to be re-ranked is gone.
    """
    narrator = Narrator(quiet=quiet)
    chosen_settings = _chosen("settings", settings, [s.name for s in config.settings])
    chosen_methods = [
        method
        for method in config.methods
        if method.role == "baseline"
        or method.name in _chosen("methods", methods, [m.name for m in config.methods])
    ]
    chosen_seeds = _chosen("seeds", seeds, list(config.seeds))
    _declare(config, out)
    for name in chosen_settings:
        if not _is_finished(config, out, name, chosen_methods, chosen_seeds, curves=curves):
            prepare_setting(config, out, name, narrator)
    with _Workers(processes) as run_all:
        for stage in _stages(config, out, chosen_settings, chosen_methods, chosen_seeds, curves=curves):
            for done, total, line in run_all(stage):
                narrator.say(f"[{done}/{total}] {line}")


def prepare_tables(config: BenchConfig, out: Path, *, quiet: bool = False) -> None:
    """Make again what tables need and what is not kept with the records: the data of each setting.

    What the declaration calls methods, and the comparisons that it wants shown, are taken over.

    Args:
        config: The benchmark.
        out: Its folder; settings that have records there are made ready, the others left alone.
        quiet: Say nothing on standard error.

    Raises:
        ConfigError: ``out`` holds another benchmark.
        DataError: data of a setting are not where ``config`` says.
    """
    if BenchFolder(out).declaration.is_file():
        _declare(config, out)
    for setting in config.settings:
        folder = BenchFolder(out).setting(setting.name)
        if folder.description.is_file() and not folder.is_prepared():
            prepare_data(config, out, setting.name, Narrator(quiet=quiet))


def _chosen(what: str, asked: Sequence[Any], known: list[Any]) -> list[Any]:
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise ConfigError(
            f"{what} must be among {', '.join(map(str, known))}; got {', '.join(map(str, unknown))}."
        )
    return [name for name in known if not asked or name in asked]


def _declare(config: BenchConfig, out: Path) -> None:
    """Write ``bench.json``, or check that what is there is a part of this benchmark."""
    file = BenchFolder(out).declaration
    declared = config_as_dict(config)
    for setting in declared["settings"]:  # where files lie is nobody else's business
        for key in ("interactions", "items"):
            if key in setting["data"]:
                setting["data"][key] = str(Path(*Path(setting["data"][key]).parts[-2:]))
    if file.is_file():
        earlier = json.loads(file.read_text())["declared"]
        of_before_it_could_be_said = {"tuning_k": 10, "more_tuning_seeds": []}
        earlier = {**of_before_it_could_be_said, **earlier}
        fixed = ("run", "tuning_seed", "more_tuning_seeds", "n_trials", "tuning_users", "tuning_k", "margin")
        differing = [key for key in fixed if earlier[key] != declared[key]]
        for what in ("settings", "methods"):
            now = {entry["name"]: entry for entry in declared[what]}
            differing += [
                f"{what}.{entry['name']}"
                for entry in earlier[what]
                if entry["name"] in now and not _agrees(entry, now[entry["name"]])
            ]
        if differing:
            raise ConfigError(
                f"--out must hold this benchmark or nothing; got {str(out)!r}, where "
                f"{', '.join(differing)} are declared otherwise.\n  Choose another folder, or change the "
                "name of what changed."
            )
        for what in ("settings", "methods"):  # what is not declared now may have records
            names = [entry["name"] for entry in declared[what]]
            declared[what] += [entry for entry in earlier[what] if entry["name"] not in names]
    write_json(
        {
            "schema_version": 1,
            "question": config.question,
            "baseline": config.baseline.name,
            "methods": [{"name": m.name, "label": m.text, "role": m.role} for m in config.methods],
            "seeds": list(config.seeds),
            "margin": config.margin,
            "rule": config.rule,
            "n_trials": config.n_trials,
            "settings": [setting.name for setting in config.settings],
            "comparisons": [
                {"method": c.method, "against": c.against, "family": c.family, "seeds": list(c.seeds)}
                for c in config.comparisons
            ],
            "declared": declared,
        },
        file,
    )


def _agrees(earlier: dict[str, Any], now: dict[str, Any]) -> bool:
    """A declaration may differ in what a method is called in tables, and in points added to a curve."""
    had, has = earlier.get("curve") or {}, now.get("curve") or {}
    is_kept = all(set(values) <= set(has.get(knob, ())) for knob, values in had.items())
    free = {"curve": None, "label": None}
    return is_kept and {**earlier, **free} == {**now, **free}


def _stages(
    config: BenchConfig,
    out: Path,
    settings: Sequence[str],
    methods: Sequence[BenchMethod],
    seeds: Sequence[int],
    *,
    curves: bool,
) -> Iterator[list[Task]]:
    """Yield lists of tasks; one list may rest on what the lists before it found."""
    baseline = config.baseline
    tuned = [method for method in methods if method.reference is None]

    def untuned(chosen: Sequence[BenchMethod], of_baseline: Callable[[str], Chosen | None]) -> list[Untuned]:
        return [
            (setting, method, of_baseline(setting))
            for setting in settings
            for method in chosen
            if _is_tuned(config, method)
            and not BenchFolder(out).setting(setting).tuning(method.name).is_file()
        ]

    yield from _tuning_stages(config, out, untuned([baseline], lambda _: None))
    others = [method for method in tuned if method is not baseline]
    yield from _tuning_stages(
        config, out, untuned(others, lambda setting: read_choice(out, setting, baseline.name))
    )
    yield from _cell_stages(config, out, settings, methods, seeds, curves=curves)


def _cell_stages(
    config: BenchConfig,
    out: Path,
    settings: Sequence[str],
    methods: Sequence[BenchMethod],
    seeds: Sequence[int],
    *,
    curves: bool,
) -> Iterator[list[Task]]:
    """Methods as chosen, points that are copies of them, other points; re-ranking after what it re-ranks."""
    todo = [
        cell
        for seed in seeds
        for setting in settings
        for method in methods
        for cell in _cells(config, out, setting, method, seed, curves=curves)
        if not finished_record(config, out, cell)
    ]
    for is_point in (False, True):
        for is_rerank in (False, True):
            yield [
                _task(config, out, cell)
                for cell in todo
                if not cell.is_as_chosen
                and (cell.point is not None) == is_point
                and config.method(cell.method).is_rerank == is_rerank
            ]
        if not is_point:
            yield [_task(config, out, cell) for cell in todo if cell.is_as_chosen]


def _tuning_stages(config: BenchConfig, out: Path, untuned: Sequence[Untuned]) -> Iterator[list[Task]]:
    """Trials that need not wait for each other first, side by side; then those that do, and the choice."""
    yield [
        (run_listed_trial, (config, out, cell, of_baseline))
        for setting, method, of_baseline in untuned
        for cell in listed_trials(config, setting, method, of_baseline)
    ]
    yield [(tune, (config, out, *entry)) for entry in untuned]


def _cells(
    config: BenchConfig, out: Path, setting: str, method: BenchMethod, seed: int, *, curves: bool
) -> list[Cell]:
    """The method as chosen, and the points of its curve where they are wanted."""
    chosen = _chosen_cell(config, out, setting, method, seed)
    if not (curves and method.curve):
        return [chosen]
    of_baseline = read_choice(out, setting, config.baseline.name)["knobs"]
    cells = [chosen]
    for knob, values in method.curve.items():
        for value in values:
            knobs = config.knobs(method, {**_own_choice(out, setting, method), knob: value}, of_baseline)
            is_as_chosen = settings_of(method, knobs) == settings_of(method, chosen.knobs)
            cells.append(
                Cell(setting, method.name, seed, knobs, point=(knob, value), is_as_chosen=is_as_chosen)
            )
    return cells


def _chosen_cell(config: BenchConfig, out: Path, setting: str, method: BenchMethod, seed: int) -> Cell:
    if method.reference:
        return Cell(setting, method.name, seed, {})
    of_baseline = read_choice(out, setting, config.baseline.name)["knobs"]
    knobs = config.knobs(method, _own_choice(out, setting, method), of_baseline)
    return Cell(setting, method.name, seed, knobs)


def _own_choice(out: Path, setting: str, method: BenchMethod) -> Knobs:
    knobs: Knobs = read_choice(out, setting, method.name)["knobs"] if method.search else {}
    return knobs


def _is_finished(
    config: BenchConfig,
    out: Path,
    setting: str,
    methods: Sequence[BenchMethod],
    seeds: Sequence[int],
    *,
    curves: bool,
) -> bool:
    folder = BenchFolder(out).setting(setting)
    is_tuned = all(folder.tuning(m.name).is_file() for m in methods if _is_tuned(config, m))
    return is_tuned and all(
        finished_record(config, out, cell) is not None
        for seed in seeds
        for method in methods
        for cell in _cells(config, out, setting, method, seed, curves=curves)
    )


def _is_tuned(config: BenchConfig, method: BenchMethod) -> bool:
    """The baseline always is: the others are held against its trials."""
    return bool(method.search) or method.name == config.baseline.name


def _task(config: BenchConfig, out: Path, cell: Cell) -> Task:
    return _measure, (config, out, cell)


def _measure(config: BenchConfig, out: Path, cell: Cell) -> str:
    """Run a cell; return a line for people."""
    baseline = BenchFolder(out).setting(cell.setting).cell_work(config.baseline.name, cell.seed)
    record = run_cell(config, out, cell, baseline.model)
    found, cost = record["test"], record["cost"]
    seconds = f"  ({cost['train_seconds']:.0f} s)" if cost else ""
    return f"{cell.text}: NDCG@10 {found['overall']:.4f} overall, {found['tail']:.4f} tail{seconds}"


class _Workers:
    """Processes that run tasks; one process is this one, with all its threads."""

    def __init__(self, processes: int) -> None:
        if processes < 1:
            raise ConfigError(f"--processes must be >= 1; got {processes}.")
        self._pool: ProcessPoolExecutor | None = None
        if processes > 1:
            self._pool = ProcessPoolExecutor(
                processes, multiprocessing.get_context("spawn"), initializer=_start_worker
            )

    def __enter__(self) -> Callable[[list[Task]], Iterator[tuple[int, int, str]]]:
        return self._run_all

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def _run_all(self, tasks: list[Task]) -> Iterator[tuple[int, int, str]]:
        if self._pool is None:
            for done, (call, arguments) in enumerate(tasks, start=1):
                yield done, len(tasks), call(*arguments)
            return
        waiting: set[Future[str]] = {self._pool.submit(call, *arguments) for call, arguments in tasks}
        done = 0
        while waiting:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                done += 1
                yield done, len(tasks), future.result()


def _start_worker() -> None:
    """Use one thread, and stop when the process that gave the work is gone, whatever ended it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a worker without work; a training handles it itself
    threading.Thread(target=_stop_with_parent, daemon=True).start()


def _stop_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # a training saves its state, between two steps
    time.sleep(_GRACE_SECONDS)
    os._exit(1)  # a worker that is not training waits for work that nobody will give


def bench_cell(config: BenchConfig, out: Path, *, setting: str, method: str, seed: int) -> dict[str, Any]:
    """Run one cell again, with the settings that tuning chose, and hold it against its record.

    Args:
        config: What is compared.
        out: Folder of the benchmark, with the records; it is not changed.
        setting: Name.
        method: Name.
        seed: Of the training.

    Returns:
        ``recorded`` and ``found`` test NDCG@10 (overall, head, tail), ``is_equal``, and ``differs``: what of
        machine and libraries is not as recorded, for on another machine sums are rounded otherwise.

    Raises:
        ConfigError: a name is unknown, or the cell is not in the records, or is there with other settings.
    """
    _chosen("setting", [setting], [s.name for s in config.settings])
    _chosen("method", [method], [m.name for m in config.methods])
    cell = _chosen_cell(config, out, setting, config.method(method), seed)
    record = finished_record(config, out, cell)
    if record is None:
        raise ConfigError(
            f"cell must be in the records; got {cell.text}, which {str(out)!r} does not hold.\n"
            "  Run the benchmark without --cell."
        )
    with TemporaryDirectory(prefix=f"{out.name}.", dir=out.parent) as folder:
        again = Path(folder)
        model = None
        if config.method(method).is_rerank:
            first = _chosen_cell(config, out, setting, config.baseline, seed)
            run_cell(config, again, first, None)
            model = BenchFolder(again).setting(setting).cell_work(config.baseline.name, seed).model
        found = run_cell(config, again, cell, model)
    return {
        "recorded": record["test"],
        "found": found["test"],
        "is_equal": record["test"] == found["test"],
        "differs": differing_surroundings(record["surroundings"], found["surroundings"]),
    }
