"""A finished variant of a run, written for use without Tailwise."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

import tailwise
from tailwise import assets
from tailwise.errors import ConfigError, DataError
from tailwise.jobs._config import DataConfig, RunConfig
from tailwise.jobs._export_folder import ExportFolder
from tailwise.jobs._language_recommender import choose_device
from tailwise.jobs._progress import Narrator
from tailwise.jobs._run_data import RunData, load_run_data
from tailwise.jobs._run_folder import ResultFolder, RunFolder
from tailwise.recommenders import (
    ItemTokenRecommender,
    TitleRecommender,
    describe_base_model,
    export_recommender,
    load_recommender,
)
from tailwise.reports import ExportFacts, model_card, read_metrics
from tailwise.schema import ITEM, ITEM_INDEX, TITLE
from tailwise.segments import PopularityWindow, popularity, segment_items

__all__ = ["export"]


def export(
    run: Path,
    variant: str,
    out: Path,
    *,
    seed: int | None = None,
    merged: bool = True,
    device: str | None = None,
    quiet: bool = False,
) -> Path:
    """Write a trained variant in the layouts of transformers, peft, safetensors and the model hub.

    The folder gets ``adapter/``, ``base/`` and ``model/`` with ``items.safetensors`` or
    ``titles.safetensors`` (:func:`tailwise.recommenders.export_recommender`), ``catalogue.parquet``, the
    model card ``README.md``, and ``export.json``. It is put into place whole; an earlier export of the
    same is replaced.

    Args:
        run: The run's folder.
        variant: A finished variant of the run with a language model.
        out: The folder; new, empty, or an earlier export of the same training.
        seed: Of the training. None: the first of the run's seeds.
        merged: Write ``model/``, the backbone with its adapters merged.
        device: ``auto``, ``cpu`` or ``cuda``, which decides what a dtype ``auto`` is. None: the run's.
        quiet: Say nothing on standard error.

    Returns:
        ``out``.

    Raises:
        ConfigError: an argument does not fit the run, ``out`` holds something else, or another
            process is at work at it.
        DataError: there is no run, or the variant is not finished or not measured.
        CheckpointError: the saved recommender is missing or damaged.
    """
    narrator = Narrator(quiet=quiet)
    folder = RunFolder(run)
    config = folder.read_config()
    result, seed = _trained(folder, config, variant, seed)
    data = load_run_data(folder.data)
    metrics = _measured(folder, variant, seed)
    name = f"export of {variant}, seed {seed}"
    identity = {
        "variant": variant,
        "seed": seed,
        "model": result.model_digest(),
        "data_checksum": data.summary["checksum"],
    }
    notes = {
        "run": folder.path.resolve().name,
        "tailwise_version": tailwise.__version__,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with narrator.task(name), ExportFolder(out, identity).replaced(notes) as partial:
        recommender = load_recommender(result.model, device=choose_device(device or config.device))
        if recommender.n_items != data.n_items:
            raise DataError(
                f"recommender must score the run's {data.n_items:,} items; got {recommender.n_items:,}.\n"
                f"  {str(result.path)!r} and {str(folder.data)!r} belong to different runs."
            )
        export_recommender(recommender, partial, merged=merged)
        _catalogue(data, metrics["segments"]).write_parquet(partial / "catalogue.parquet")
        facts = _facts(config, result, recommender, variant=variant, seed=seed, merged=merged)
        (partial / "README.md").write_text(model_card(metrics, facts), encoding="utf-8")
    return out


def _trained(
    folder: RunFolder, config: RunConfig, variant: str, seed: int | None
) -> tuple[ResultFolder, int]:
    """The finished folder of a variant with a language model, and its seed."""
    names = [v.name for v in config.variants]
    if variant not in names:
        why = ", a reference without a language model" if variant in config.references else ""
        raise ConfigError(f"--variant must be one of the run's {', '.join(names)}; got {variant!r}{why}.")
    result, found = folder.finished(config, variant, seed)
    assert found is not None  # every variant has seeds
    return result, found


def _measured(folder: RunFolder, variant: str, seed: int) -> dict[str, Any]:
    """The run's metrics, which must know the training that is exported."""
    metrics = read_metrics(folder.metrics)
    if not any(v["name"] == variant and seed in v["seeds"] for v in metrics["variants"]):
        raise DataError(
            f"{folder.metrics} must hold what is exported; got nothing of {variant!r}, seed {seed}.\n"
            "  Finish the run with `tailwise run ... --resume`, or measure it again with `tailwise evaluate`."
        )
    return metrics


def _catalogue(data: RunData, segments: dict[str, Any]) -> pl.DataFrame:
    """Every item with its training count and its segment, cut as the metrics were."""
    window = segments["popularity_window"]
    window = None if window is None else PopularityWindow(**window)
    counts = popularity(data.split.train, data.n_items, window=window)
    cut = segment_items(
        counts, segments["rule"], trained=data.counts > 0, window=window, **segments["parameters"]
    )
    return data.catalogue.items.select(
        ITEM,
        TITLE,
        pl.int_range(data.n_items, dtype=pl.Int64).alias(ITEM_INDEX),
        pl.Series("n_training_interactions", data.counts),
        pl.Series("segment", [cut.names[label] for label in cut.labels]),
    )


def _facts(
    config: RunConfig,
    result: ResultFolder,
    recommender: ItemTokenRecommender | TitleRecommender,
    *,
    variant: str,
    seed: int,
    merged: bool,
) -> ExportFacts:
    return ExportFacts(
        variant=variant,
        seed=seed,
        record=result.read_record(),
        base=describe_base_model(recommender),
        kind=recommender.recipe["kind"],
        settings=recommender.recipe["config"],
        training_histories=config.data.training_histories,
        data_licence=_licence(config.data),
        merged=merged,
        tailwise_version=tailwise.__version__,
    )


def _licence(data: DataConfig) -> str | None:
    """What the registry says about a named data set; nothing is known of one's own."""
    known = {asset.name: asset.licence for asset in assets.list_assets() if asset.kind == "dataset"}
    return known.get(data.name or "")
