"""One cell of a benchmark: a method trained and measured once, in one setting, with one seed."""

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import polars as pl
import torch

from tailwise.errors import ConfigError, DataError
from tailwise.evaluation import Rankings, evaluate_variant, target_values
from tailwise.jobs._bench_config import BenchConfig, Knobs
from tailwise.jobs._bench_folder import BenchFolder, rank_columns, sole_process_at
from tailwise.jobs._bench_settings import check_settings_of_record, settings_of
from tailwise.jobs._config import RunConfig
from tailwise.jobs._language_recommender import (
    LanguageRecommender,
    Titles,
    build_recommender,
    choose_device,
    read_titles,
)
from tailwise.jobs._measure import cut_segments
from tailwise.jobs._progress import Narrator
from tailwise.jobs._run_data import RunData, prepare_run_data, sample_users
from tailwise.jobs._run_folder import ResultFolder, write_json
from tailwise.jobs._train_variant import (
    build_reference,
    build_sasrec_reference,
    cost_of,
    fit_variant,
    rank,
    test_part,
)
from tailwise.jobs._variants import VariantConfig
from tailwise.recommenders import (
    PopularityPenalised,
    Recommender,
    load_recommender,
    save_recommender,
)
from tailwise.schema import ITEM_INDEX, PRICE, QUANTITY, REVENUE, USER_INDEX
from tailwise.segments import Segments
from tailwise.training import describe_surroundings

__all__ = ["Cell", "finished_record", "prepare_data", "prepare_setting", "run_cell", "run_trial"]

K = 10
_RANKS = "ranks.parquet"
_SEGMENTS = ("head", "tail")


@dataclass(frozen=True)
class Cell:
    """What is trained and measured.

    Attributes:
        setting: Name.
        method: Name.
        seed: Of the training.
        knobs: All that decides the training (:meth:`BenchConfig.knobs`).
        point: Of the method's curve: knob and value; None for the method as chosen.
        trial: Number of the trial, where this is one; else None.
        is_as_chosen: A point of the curve where the method is anyway: the outcome is the chosen cell's.
    """

    setting: str
    method: str
    seed: int
    knobs: Knobs
    point: tuple[str, float] | None = None
    trial: int | None = None
    is_as_chosen: bool = False

    @property
    def value(self) -> float | None:
        """Of the knob, at a point of a curve."""
        return None if self.point is None else float(self.point[1])

    @property
    def curve(self) -> dict[str, Any] | None:
        """The point, as records have it."""
        return None if self.point is None else {"knob": self.point[0], "value": self.point[1]}

    @property
    def text(self) -> str:
        """What people read."""
        at = f" {self.point[0]}={self.point[1]:g}" if self.point else ""
        what = f"trial {self.trial}" if self.trial is not None else f"seed {self.seed}"
        return f"{self.setting}, {self.method}{at}, {what}"


@dataclass(frozen=True)
class _Scene:
    """The data of a setting, as all its cells share them."""

    data: RunData
    segments: Segments
    titles: Titles


_scenes: dict[tuple[Path, str], _Scene] = {}  # the last one: a process stays at a setting for a while


def _scene(config: BenchConfig, out: Path, setting: str) -> _Scene:
    if (out, setting) not in _scenes:
        _scenes.clear()
        _scenes[out, setting] = _read_scene(config, out, setting)
    return _scenes[out, setting]


def _read_scene(config: BenchConfig, out: Path, setting: str) -> _Scene:
    quiet = Narrator(quiet=True)
    run = _any_run(config, setting)
    data = prepare_run_data(run.data, BenchFolder(out).setting(setting).data, quiet.say)
    return _Scene(data, cut_segments(data, run.segments), read_titles(run, data, quiet))


def _any_run(config: BenchConfig, setting: str) -> RunConfig:
    """Settings that all cells of a setting share."""
    baseline = config.baseline
    return config.run_config(
        config.setting(setting), baseline, config.knobs(baseline, {}, {}), seed=config.seeds[0]
    )


def prepare_setting(config: BenchConfig, out: Path, setting: str, narrator: Narrator) -> None:
    """Do :func:`prepare_data`, and encode the titles, before processes work side by side."""
    data = prepare_data(config, out, setting, narrator)
    read_titles(_any_run(config, setting), data, narrator)


def prepare_data(config: BenchConfig, out: Path, setting: str, narrator: Narrator) -> RunData:
    """Read, split and keep the data of a setting, and describe it for the tables; or take what is there."""
    folder = BenchFolder(out).setting(setting)
    run = _any_run(config, setting)
    data = prepare_run_data(run.data, folder.data, narrator.say)
    if folder.is_prepared():
        return data
    segments = cut_segments(data, run.segments)
    held_out = test_part(data, run)
    split = data.split
    description = {
        "data": data.summary["name"],
        "histories": run.data.training_histories,
        "n_users": split.n_users,
        "n_items": split.n_items,
        "n_interactions": data.summary["n_interactions"],
        "checksum": data.summary["checksum"],
        "split": data.summary["split"],
        "test": {
            "n_users": held_out.n_users,
            "n_targets": len(held_out.target_items),
            "n_tied": split.n_tied_test,
        },
        "segments": {"rule": segments.rule, "parameters": dict(segments.parameters)},
        "backbone": f"{run.model.model}, {run.model.depth or 'all'} layers, LoRA {run.model.lora_rank}",
    }
    _check_description(description, folder.description)
    popular = rank(build_reference("most-popular", data), held_out, run)  # any ranking: for its targets
    labels = np.array(segments.names)[segments.labels]
    folder.write_targets(popular, labels, _revenue(split.test))
    items = pl.DataFrame({ITEM_INDEX: np.arange(data.n_items), "count": data.counts, "segment": labels})
    items.write_parquet(folder.items)
    write_json(description, folder.description)
    return data


def _check_description(description: dict[str, Any], file: Path) -> None:
    """Refuse other data than those that records were made with."""
    if not file.is_file():
        return
    earlier = json.loads(file.read_text())
    for key in ("checksum", "n_users", "n_items", "n_interactions", "test"):
        if earlier[key] != description[key]:
            raise DataError(
                f"{key} must be {earlier[key]}, as of the data that the records beside {str(file)!r} were "
                f"made with; got {description[key]}.\n  Give the same files, or choose another --out."
            )


def _revenue(held_out: pl.DataFrame) -> pl.DataFrame:
    """Money of the held-out interactions: as given, else price times quantity, else null."""
    if REVENUE in held_out.columns:
        money = pl.col(REVENUE)
    elif {PRICE, QUANTITY} <= set(held_out.columns):
        money = pl.col(PRICE) * pl.col(QUANTITY)
    else:
        money = pl.lit(None)
    return held_out.select(USER_INDEX, ITEM_INDEX, money.cast(pl.Float64).alias(REVENUE))


def run_trial(config: BenchConfig, out: Path, cell: Cell, baseline_trial: int | None) -> dict[str, Any]:
    """Train one trial with each of its seeds, measure it on validation users; what is finished is read back.

    Args:
        config: The benchmark.
        out: Its folder.
        cell: The trial, at the first of its seeds.
        baseline_trial: That was chosen for the baseline, whose model methods without a training rescore; None
            for the baseline itself.

    Returns:
        ``settings``, ``validation`` (overall, head, tail NDCG at ``tuning_k``), ``seconds``; of several seeds
        the mean and the sum, and ``by_seed``, ``validation`` of each.
    """
    records = [
        _run_trial_of_seed(config, out, replace(cell, seed=seed), baseline_trial)
        for seed in config.trial_seeds
    ]
    if len(records) == 1:
        return records[0]
    found = [record["validation"] for record in records]
    return {
        "settings": records[0]["settings"],
        "validation": {name: fmean(one[name] for one in found) for name in found[0]},
        "seconds": sum(record["seconds"] for record in records),
        "by_seed": found,
    }


def _run_trial_of_seed(
    config: BenchConfig, out: Path, cell: Cell, baseline_trial: int | None
) -> dict[str, Any]:
    assert cell.trial is not None
    more_seed = None if cell.seed == config.tuning_seed else cell.seed
    setting = BenchFolder(out).setting(cell.setting)
    folder = setting.trial(cell.method, cell.trial, more_seed)
    if record := _finished_trial(cell, folder):
        return record
    model_of_baseline = None
    if baseline_trial is not None:
        model_of_baseline = setting.trial(config.baseline.name, baseline_trial, more_seed).model
    with sole_process_at(folder.path, cell.text):  # it may have been finished just now
        return _finished_trial(cell, folder) or _measure_trial(config, out, cell, folder, model_of_baseline)


def _finished_trial(cell: Cell, folder: ResultFolder) -> dict[str, Any] | None:
    if not folder.is_done():
        return None
    record = folder.read_record()
    check_settings_of_record(cell.text, record["settings"], cell.knobs, folder.path)
    return record


def _measure_trial(
    config: BenchConfig, out: Path, cell: Cell, folder: ResultFolder, model_of_baseline: Path | None
) -> dict[str, Any]:
    began = time.perf_counter()
    scene = _scene(config, out, cell.setting)
    recommender, run, cost = _recommender(config, out, cell, folder, model_of_baseline)
    record = {
        "settings": dict(cell.knobs),
        "validation": _validation(config, run, recommender, scene, k=config.tuning_k),
        "seconds": cost["train_seconds"] if cost else time.perf_counter() - began,
    }
    if config.method(cell.method).role != "baseline":
        shutil.rmtree(folder.model, ignore_errors=True)
    shutil.rmtree(folder.training, ignore_errors=True)
    folder.write_record(record)
    return record


def run_cell(config: BenchConfig, out: Path, cell: Cell, model_of_baseline: Path | None) -> dict[str, Any]:
    """Train one cell and measure it on test users; what is finished is read back.

    Raises:
        ConfigError: its record is of other settings, another process is at it, or the baseline's model that
            it rescores is gone.
    """
    if record := finished_record(config, out, cell):
        return record
    work = BenchFolder(out).setting(cell.setting).cell_work(cell.method, cell.seed, cell.value)
    with sole_process_at(work.path, cell.text):  # it may have been finished just now
        return finished_record(config, out, cell) or _measure_cell(config, out, cell, model_of_baseline)


def finished_record(config: BenchConfig, out: Path, cell: Cell) -> dict[str, Any] | None:
    """Return the record of a cell; None where it is not finished.

    Raises:
        ConfigError: the record is of other settings.
    """
    kept = BenchFolder(out).setting(cell.setting).cell(cell.method, cell.seed, cell.value)
    if not kept.is_done():
        return None
    record = kept.read_record()
    wanted = settings_of(config.method(cell.method), cell.knobs)
    check_settings_of_record(cell.text, record["settings"], wanted, kept.path)
    return record


def _measure_cell(
    config: BenchConfig, out: Path, cell: Cell, model_of_baseline: Path | None
) -> dict[str, Any]:
    folder = BenchFolder(out).setting(cell.setting)
    kept = folder.cell(cell.method, cell.seed, cell.value)
    work = folder.cell_work(cell.method, cell.seed, cell.value)
    if cell.is_as_chosen:
        return _copy_chosen(cell, folder.cell(cell.method, cell.seed), kept)
    scene = _scene(config, out, cell.setting)
    recommender, run, cost = _recommender(config, out, cell, work, model_of_baseline)
    ranked = rank(recommender, test_part(scene.data, run), run)
    kept.path.mkdir(parents=True, exist_ok=True)
    rank_columns(ranked).write_parquet(kept.path / _RANKS, compression_level=19)
    record = {
        "schema_version": 1,
        "cell": {
            "setting": cell.setting,
            "method": cell.method,
            "seed": cell.seed,
            "curve": cell.curve,
        },
        "settings": settings_of(config.method(cell.method), cell.knobs),
        "cost": cost,
        "validation": _validation(config, run, recommender, scene, k=K),
        "test": _means(ranked, scene.segments, k=K),
        "exposure": _exposure(ranked, scene.segments),
        "surroundings": describe_surroundings(),
    }
    is_baseline = config.method(cell.method).role == "baseline" and cell.point is None
    shutil.rmtree(work.training if is_baseline else work.path, ignore_errors=True)
    kept.write_record(record)
    return record


def _copy_chosen(cell: Cell, chosen: ResultFolder, kept: ResultFolder) -> dict[str, Any]:
    kept.path.mkdir(parents=True, exist_ok=True)  # it is there where an earlier copy was stopped
    shutil.copyfile(chosen.path / _RANKS, kept.path / _RANKS)
    record = chosen.read_record()
    record["cell"]["curve"] = cell.curve
    kept.write_record(record)
    return record


def _recommender(
    config: BenchConfig, out: Path, cell: Cell, work: ResultFolder, model_of_baseline: Path | None
) -> tuple[Recommender, RunConfig, dict[str, float] | None]:
    """Return a cell's recommender, trained, its settings, and what the training cost."""
    scene, method = _scene(config, out, cell.setting), config.method(cell.method)
    run = config.run_config(config.setting(cell.setting), method, cell.knobs, seed=cell.seed)
    if method.is_rerank:
        assert model_of_baseline is not None  # the order of the work
        if not model_of_baseline.is_dir():
            raise ConfigError(_without_model(config, out, cell, model_of_baseline))
        trained = load_recommender(model_of_baseline, device=choose_device(run.device))
        counts = torch.from_numpy(scene.data.counts)
        return PopularityPenalised(trained, counts, method.rerank(cell.knobs)), run, None
    if method.reference in ("most-popular", "item-knn"):
        return build_reference(method.reference, scene.data), run, None
    recommender: LanguageRecommender
    if method.reference == "sasrec":
        recommender = build_sasrec_reference(run, scene.data, seed=cell.seed)
        training, variant = run.sasrec.training, VariantConfig("sasrec")
    else:
        recommender = build_recommender(run, scene.titles, seed=cell.seed)
        training, variant = run.training, run.variants[0]
    with Narrator(quiet=True).task(cell.text) as progress:
        result = fit_variant(
            recommender,
            run,
            training,
            variant,
            seed=cell.seed,
            data=scene.data,
            checkpoints=work.training,
            progress=progress,
        )
    save_recommender(recommender, work.model)
    return recommender, run, cost_of(result)


def _without_model(config: BenchConfig, out: Path, cell: Cell, model: Path) -> str:
    setting, baseline = BenchFolder(out).setting(cell.setting), config.baseline.name
    made_by = setting.cell(baseline, cell.seed).path if cell.trial is None else setting.tuning(baseline)
    trials = "" if cell.trial is None else f" and '{model.parent.parent}'"
    return (
        f"model of the baseline must be there to be re-ranked; got no {str(model)!r}, for {cell.text}.\n"
        f"  Put the folder work/ back, or delete {str(made_by)!r}{trials} and run the benchmark again, which "
        f"then trains {baseline} anew."
    )


def _validation(
    config: BenchConfig, run: RunConfig, recommender: Recommender, scene: _Scene, *, k: int
) -> dict[str, float]:
    users = sample_users(scene.data.held_out("validation"), config.tuning_users, run.evaluation.seed + 1)
    return _means(rank(recommender, users, run), scene.segments, k=k)


def _means(ranked: Rankings, segments: Segments, *, k: int) -> dict[str, float]:
    """NDCG@k overall and per segment."""
    values = target_values(ranked, "ndcg", k)
    items = ranked.targets[ITEM_INDEX].to_numpy()
    found = {"overall": float(values.mean())}
    for name in _SEGMENTS:
        of_segment = values[segments.mask(name)[items]]
        found[name] = float(of_segment.mean()) if of_segment.size else 0.0
    return found


def _exposure(ranked: Rankings, segments: Segments) -> dict[str, float]:
    rows = evaluate_variant(ranked, segments, ks=[K], metrics=["ndcg"], n_resamples=100)["exposure"]

    def value(metric: str, segment: str | None) -> float:
        return next(float(r["value"]) for r in rows if (r["metric"], r["segment"]) == (metric, segment))

    return {"tail_slot_share": value("slot_share", "tail"), "coverage": value("coverage", None)}
