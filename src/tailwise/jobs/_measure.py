"""From the rankings in a run's folder to ``metrics.json``."""

from datetime import UTC, datetime
from typing import Any

import numpy as np

import tailwise
from tailwise.errors import DataError
from tailwise.evaluation import Rankings, compare_variants, evaluate_variant
from tailwise.jobs._config import RunConfig, SegmentConfig
from tailwise.jobs._config_file import config_as_dict
from tailwise.jobs._rescoring import RescoringConfig
from tailwise.jobs._run_data import RunData, load_run_data
from tailwise.jobs._run_folder import ResultFolder, RunFolder
from tailwise.jobs._train_variant import test_part
from tailwise.jobs._variants import VariantConfig
from tailwise.reports import SCHEMA_VERSION
from tailwise.segments import PopularityWindow, Segments, concentration, popularity, segment_items

__all__ = [
    "REFERENCE_LABELS",
    "cut_segments",
    "describe_data",
    "finished_results",
    "label_of",
    "measure_run",
    "role_of",
]

_COMPARED = (
    ("ndcg", "recall", "mrr"),
    ("slot_share", "aplt", "aclt", "arp", "novelty"),
)  # accuracy, exposure
REFERENCE_LABELS = {"most-popular": "Most popular", "item-knn": "Item-kNN", "sasrec": "SASRec"}


def measure_run(
    folder: RunFolder, config: RunConfig, segments: SegmentConfig | None = None
) -> dict[str, Any]:
    """Compute all results of a run from what lies in its folder.

    Args:
        folder: Of a run with at least one finished result.
        config: The run's settings.
        segments: Cut head and tail another way than the run's settings say.

    Returns:
        The content of ``metrics.json``.

    Raises:
        DataError: nothing is finished yet.
    """
    data = load_run_data(folder.data)
    cut = segments or config.segments
    items = cut_segments(data, cut)
    results = finished_results(folder, config)
    rankings = {name: [Rankings.load(r.rankings) for r in found] for name, found in results.items()}
    variants = [
        _describe_variant(name, config, found, rankings[name], items) for name, found in results.items()
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "tailwise_version": tailwise.__version__,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": describe_data(data),
        "segments": items.as_dict(test_part(data, config).target_items),
        "variants": variants,
        "comparisons": _compare(config, rankings, items),
    }


def cut_segments(data: RunData, cut: SegmentConfig) -> Segments:
    """Cut the catalogue by its training interactions."""
    window = None if cut.window_days is None else PopularityWindow(last_days=cut.window_days)
    counts = popularity(data.split.train, data.n_items, window=window)
    return segment_items(counts, cut.rule, trained=data.counts > 0, window=window, **cut.parameters)


def finished_results(folder: RunFolder, config: RunConfig) -> dict[str, list[ResultFolder]]:
    """Finished folders by variant, references first; a variant counts when all its seeds are there."""
    found: dict[str, list[ResultFolder]] = {}
    for name in config.references:
        seeds = config.seeds if name == "sasrec" else (None,)
        found[name] = [folder.result(name, seed) for seed in seeds]
    for variant in config.variants:
        found[variant.name] = [folder.result(variant.name, seed) for seed in config.seeds]
        for how in config.rescorings:
            name = how.of(variant.name)
            found[name] = [folder.result(name, seed) for seed in config.seeds]
    finished = {name: results for name, results in found.items() if all(r.is_done() for r in results)}
    if not finished:
        raise DataError(
            f"run in {str(folder.path)!r} must have a finished variant; got none. "
            "Finish it with `tailwise run ... --resume`."
        )
    return finished


def describe_data(data: RunData) -> dict[str, Any]:
    """Give what results say about their data."""
    kept = {key: value for key, value in data.summary.items() if key != "checks"}
    return {
        **kept,
        "n_training_interactions": int(data.counts.sum()),
        "concentration": concentration(data.counts).as_dict(),
        "checks": data.summary["checks"],
    }


def _describe_variant(
    name: str,
    config: RunConfig,
    results: list[ResultFolder],
    rankings: list[Rankings],
    items: Segments,
) -> dict[str, Any]:
    measured = evaluate_variant(
        rankings, items, n_resamples=config.evaluation.n_resamples, seed=config.evaluation.seed
    )
    variant, _ = _made_by(name, config)
    records = [result.read_record() for result in results]
    trained = "cost" in records[0]
    return {
        "name": name,
        "role": role_of(name, config),
        "label": label_of(name, config),
        "seeds": [record["seed"] for record in records if "seed" in record],
        "settings": _settings(variant, config, records[0]),
        "accuracy": measured["accuracy"],
        "exposure": measured["exposure"],
        "exposure_deciles": measured["exposure_deciles"],
        "cost": _mean_cost([record["cost"] for record in records]) if trained else None,
    }


def _made_by(name: str, config: RunConfig) -> tuple[VariantConfig | None, RescoringConfig | None]:
    """The variant and the way to score behind a result; no variant behind a reference."""
    for variant in config.variants:
        if name == variant.name:
            return variant, None
        for how in config.rescorings:
            if name == how.of(variant.name):
                return variant, how
    return None, None


def role_of(name: str, config: RunConfig) -> str:
    """Say what a result is in its run: ``baseline``, ``treatment`` or ``reference``."""
    variant, how = _made_by(name, config)
    if variant is None:
        return "reference"
    return "baseline" if variant == config.baseline and how is None else "treatment"


def label_of(name: str, config: RunConfig) -> str:
    """Say what people read of a result in tables."""
    variant, how = _made_by(name, config)
    if variant is None:
        return REFERENCE_LABELS[name]
    return variant.label if how is None else f"{variant.label}, {how.words}"


def _settings(variant: VariantConfig | None, config: RunConfig, record: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {"surroundings": record["surroundings"]}
    if variant is not None:
        if "rescoring" in record:
            settings["rescoring"] = record["rescoring"]
        settings |= {
            "variant": variant.as_dict(),
            "model": config_as_dict(config.model),
            "recommender": config_as_dict(config.title or config.recommender),
        }
    if "training" in record:
        settings["training"] = record["training"]
    return settings


def _mean_cost(costs: list[dict[str, float]]) -> dict[str, float]:
    shared = [key for key in costs[0] if all(key in cost for cost in costs)]  # older seeds recorded less
    return {key: float(np.mean([cost[key] for cost in costs])) for key in shared}


def _compare(config: RunConfig, rankings: dict[str, list[Rankings]], items: Segments) -> list[dict[str, Any]]:
    """Treatments against the baseline, rescored variants against their own, the baseline against the rest."""
    baseline = config.baseline.name
    if baseline not in rankings:
        return []
    pairs = [(v.name, baseline) for v in config.variants if v.name != baseline and v.name in rankings]
    rescored = [(how.of(v.name), v.name) for v in config.variants for how in config.rescorings]
    pairs += [pair for pair in rescored if pair[0] in rankings]
    pairs += [(baseline, name) for name in config.references if name in rankings]
    rows: list[dict[str, Any]] = []
    for variant, against in pairs:
        treatment, control = rankings[variant], rankings[against]
        if len(control) == 1:  # a reference without a seed meets every seed of the variant
            control = control * len(treatment)
        for metrics in _COMPARED:
            rows += compare_variants(
                control, treatment, items, variant=variant, against=against, metrics=metrics
            )
    return rows
