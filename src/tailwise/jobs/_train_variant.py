"""One training and its measurement: one variant, one seed."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailwise.errors import ConfigError
from tailwise.evaluation import Rankings, join_rankings, mean_ndcg, rank_targets
from tailwise.interactions import HeldOut
from tailwise.jobs._config import RunConfig
from tailwise.jobs._config_file import config_as_dict
from tailwise.jobs._language_recommender import (
    LanguageRecommender,
    Titles,
    build_recommender,
    choose_device,
)
from tailwise.jobs._progress import Narrator, TaskProgress
from tailwise.jobs._rescoring import RescoringConfig, rescored
from tailwise.jobs._run_data import RunData, sample_users, take_users
from tailwise.jobs._run_folder import ResultFolder
from tailwise.jobs._variants import VariantConfig, make_optimizer
from tailwise.optim import logit_offsets, loss_weights, row_sampling_weights
from tailwise.recommenders import (
    ItemKNN,
    ItemTokenRecommender,
    MostPopular,
    NegativeSampler,
    Recommender,
    build_sasrec,
    save_recommender,
)
from tailwise.training import (
    FitResult,
    Processes,
    TrainingConfig,
    describe_surroundings,
    fit,
    matmul_precision,
    shard,
)

__all__ = [
    "build_reference",
    "build_sasrec_reference",
    "check_moved_parameters",
    "cost_of",
    "fit_variant",
    "measure_reference",
    "rank",
    "test_part",
    "train_sasrec",
    "train_variant",
]

VALIDATION_K = 10
_NEGATIVES_POWER = 0.5


def check_moved_parameters(
    config: RunConfig, variants: Sequence[VariantConfig], *, data: RunData, titles: Titles
) -> None:
    """Refuse a pattern of parameter names that matches none, before hours of training rather than after.

    Raises:
        ConfigError: names the variant, the pattern and some of the parameters.
    """
    by_name = {variant for variant in variants if variant.moves_by_name}
    if not by_name:
        return
    recommender = build_recommender(config, titles, seed=0)
    for variant in by_name:
        groups = recommender.parameter_groups(config.training.learning_rate)
        make_optimizer(variant, groups, torch.from_numpy(data.counts), seed=0)


def train_variant(
    config: RunConfig,
    variant: VariantConfig,
    *,
    seed: int,
    data: RunData,
    titles: Titles,
    folder: ResultFolder,
    narrator: Narrator,
    processes: Processes | None = None,
) -> None:
    """Train the run's recommender one way, measure it, and write everything into ``folder``."""
    recommender = build_recommender(config, titles, seed=seed)
    _train(
        recommender,
        config,
        config.training,
        variant,
        seed=seed,
        data=data,
        folder=folder,
        narrator=narrator,
        processes=processes or Processes(),
    )


def train_sasrec(
    config: RunConfig,
    *,
    seed: int,
    data: RunData,
    folder: ResultFolder,
    narrator: Narrator,
    processes: Processes | None = None,
) -> None:
    """Train the reference without a language model, by AdamW, and measure it."""
    recommender = build_sasrec_reference(config, data, seed=seed)
    variant = VariantConfig("sasrec")
    training = config.sasrec.training
    _train(
        recommender,
        config,
        training,
        variant,
        seed=seed,
        data=data,
        folder=folder,
        narrator=narrator,
        processes=processes or Processes(),
    )


def build_sasrec_reference(config: RunConfig, data: RunData, *, seed: int) -> ItemTokenRecommender:
    """Build the reference without a language model, untrained."""
    return build_sasrec(
        data.n_items,
        config.sasrec.architecture,
        replace(config.sasrec.tokens, max_length=config.recommender.max_length),
        seed=seed,
        device=choose_device(config.device),
    )


def build_reference(name: str, data: RunData) -> Recommender:
    """Fit a reference that needs no training, ``most-popular`` or ``item-knn``, on the whole log."""
    if name == "most-popular":
        return MostPopular(data.counts)
    return ItemKNN(data.training_histories(), data.n_items)


def _train(
    recommender: LanguageRecommender,
    config: RunConfig,
    training: TrainingConfig,
    variant: VariantConfig,
    *,
    seed: int,
    data: RunData,
    folder: ResultFolder,
    narrator: Narrator,
    processes: Processes,
) -> None:
    with narrator.task(f"{variant.name}, seed {seed}") as progress:
        result = fit_variant(
            recommender,
            config,
            training,
            variant,
            seed=seed,
            data=data,
            checkpoints=folder.training,
            progress=progress,
            processes=processes,
        )
        rankings = rank(
            recommender, test_part(data, config), config, progress=progress.ranking, processes=processes
        )
        for how in config.rescorings:
            _measure_rescored(
                recommender,
                how,
                config,
                variant,
                seed=seed,
                data=data,
                folder=folder,
                progress=progress,
                processes=processes,
            )
        state = recommender.trainable_state()
        if processes.is_first:
            save_recommender(recommender, folder.model, state)
            rankings.save(folder.rankings)
    if processes.is_first:
        folder.write_record(
            {
                "variant": variant.as_dict(),
                "training": config_as_dict(training),
                "seed": seed,
                "cost": cost_of(result),
                "validation_ndcg@10": result.kept_value,
                "epochs": [asdict(epoch) for epoch in result.epochs],
                "data_checksum": data.summary["checksum"],
                "surroundings": describe_surroundings() | {"n_processes": processes.size},
            }
        )


def _measure_rescored(
    recommender: LanguageRecommender,
    how: RescoringConfig,
    config: RunConfig,
    variant: VariantConfig,
    *,
    seed: int,
    data: RunData,
    folder: ResultFolder,
    progress: TaskProgress,
    processes: Processes,
) -> None:
    """Rank by the trained weights scored another way; the folder beside the variant's gets the outcome."""
    scored = rescored(recommender, how, torch.from_numpy(data.counts))
    part = test_part(data, config)
    rankings = rank(scored, part, config, progress=progress.ranking, processes=processes)
    if processes.is_first:
        beside = folder.rescored(how.of(variant.name))
        rankings.save(beside.rankings)
        beside.write_record(
            {
                "variant": variant.as_dict(),
                "rescoring": config_as_dict(how),
                "seed": seed,
                "data_checksum": data.summary["checksum"],
                "surroundings": describe_surroundings(),
            }
        )


def fit_variant(
    recommender: LanguageRecommender,
    config: RunConfig,
    training: TrainingConfig,
    variant: VariantConfig,
    *,
    seed: int,
    data: RunData,
    checkpoints: Path,
    progress: TaskProgress,
    processes: Processes | None = None,
) -> FitResult:
    """Train a recommender one way, in place; a training that was stopped goes on from ``checkpoints``."""
    processes = processes or Processes()
    if processes.shards_parameters:
        shard(recommender, processes)
    counts = torch.from_numpy(data.counts)
    validation = sample_users(
        data.held_out("validation"), config.evaluation.validation_users, config.evaluation.seed
    )
    histories = data.training_histories(config.data.training_histories, seed=seed)
    groups = recommender.parameter_groups(training.learning_rate, training.weight_decay)
    if training.fused:
        groups = [{**group, "fused": True} for group in groups]
    return fit(
        recommender,
        make_optimizer(variant, groups, counts, seed=seed, ranks=processes.ranks()),
        histories,
        training,
        validate=lambda: mean_ndcg(
            rank(recommender, validation, config, progress=progress.ranking, processes=processes),
            k=VALIDATION_K,
        ),
        folder=checkpoints,
        seed=seed,
        identity=_identity(recommender, config, training, variant, seed=seed, data=data),
        logit_offsets=_logit_offsets(variant, counts),
        target_weights=_target_weights(variant, counts),
        history_weights=_history_weights(variant, counts, histories),
        negatives=_negatives(training, data, seed=seed),
        progress=progress.step,
        processes=processes,
    )


def cost_of(result: FitResult) -> dict[str, float]:
    """Give what a training cost, as records keep it: seconds, steps, epochs, MiB."""
    return {
        "train_seconds": result.train_seconds,
        "n_steps": result.n_steps,
        "n_epochs": result.n_epochs,
        "best_epoch": result.best_epoch,
        "kept_epoch": result.kept_epoch,
        "targets_per_second": result.targets_per_second,
        "peak_memory_mib": result.peak_memory_mib,
        "seconds_per_step": result.train_seconds / result.n_steps,
    }


def _logit_offsets(variant: VariantConfig, counts: Tensor) -> Tensor | None:
    return logit_offsets(counts, variant.logit_adjustment) if variant.logit_adjustment else None


def _target_weights(variant: VariantConfig, counts: Tensor) -> Tensor | None:
    if variant.reweighting:
        return loss_weights(counts, "inverse", power=variant.reweighting)
    if variant.reweighting_beta:
        return loss_weights(counts, "effective-number", beta=variant.reweighting_beta)
    return None


def _history_weights(
    variant: VariantConfig, counts: Tensor, histories: Sequence[np.ndarray]
) -> np.ndarray | None:
    """Weights by the targets of each history: its first item is nobody's target."""
    if not variant.resampling:
        return None
    targets = [torch.from_numpy(history[1:]) for history in histories]
    return row_sampling_weights(targets, counts, power=variant.resampling).numpy()


def _negatives(training: TrainingConfig, data: RunData, *, seed: int) -> NegativeSampler | None:
    if training.negatives is None:
        return None
    if training.negatives >= data.n_items:
        raise ConfigError(
            f"training.negatives must be below the catalogue's {data.n_items:,} items; got "
            f"{training.negatives:,}. Leave it out: the whole catalogue costs less."
        )
    power = _NEGATIVES_POWER if training.negatives_power is None else training.negatives_power
    return NegativeSampler(data.counts, n=training.negatives, power=power, seed=seed)


def measure_reference(
    name: str, config: RunConfig, *, data: RunData, folder: ResultFolder, narrator: Narrator
) -> None:
    """Fit and measure a reference that needs no training: ``most-popular`` or ``item-knn``."""
    with narrator.task(name) as progress:
        recommender = build_reference(name, data)
        rank(recommender, test_part(data, config), config, progress=progress.ranking).save(folder.rankings)
    folder.write_record({"reference": name, "surroundings": describe_surroundings()})


def test_part(data: RunData, config: RunConfig) -> HeldOut:
    """Return histories and targets of the users who are measured."""
    return sample_users(data.held_out("test"), config.evaluation.test_users, config.evaluation.seed)


def rank(
    recommender: Recommender,
    held_out: HeldOut,
    config: RunConfig,
    progress: Callable[[int, int], None] | None = None,
    processes: Processes | None = None,
) -> Rankings:
    """Rank the held-out targets of every user over the whole catalogue.

    Several processes rank their shares of the users; each returns the rankings of all of them. Where
    they share the parameters out, they can only score together, and each ranks all users.
    """
    processes = processes or Processes()
    splits_users = processes.size > 1 and not processes.shards_parameters
    if splits_users:
        held_out = take_users(held_out, np.arange(held_out.n_users)[processes.part(held_out.n_users)])
    with matmul_precision(config.training.matmul_precision):
        own = rank_targets(
            recommender.scores,
            held_out.histories,
            held_out.target_offsets,
            held_out.target_items,
            n_items=recommender.n_items,
            exclude_seen=config.data.repeats == "first",
            batch_size=config.evaluation.batch_size,
            list_length=config.evaluation.list_length,
            users=held_out.users,
            progress=progress,
        )
    return join_rankings(processes.gathered(own)) if splits_users else own


def _identity(
    recommender: LanguageRecommender,
    config: RunConfig,
    training: TrainingConfig,
    variant: VariantConfig,
    *,
    seed: int,
    data: RunData,
) -> str:
    """Digest of all that decides a training's outcome; how often it is saved is not part of it."""
    content: dict[str, Any] = {
        "recommender": recommender.recipe,
        # Title encodings stand for the language model's content, which may change under its name.
        "buffers": recommender.content(),
        "training": config_as_dict(replace(training, checkpoint_seconds=0)),
        "variant": variant.as_dict(),
        "validation": [config.evaluation.validation_users, config.evaluation.seed],
        "seed": seed,
        "data": data.summary["checksum"],
        "split": data.summary["split"],
    }
    if config.data.training_histories is not None:
        content["training_histories"] = config.data.training_histories
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{variant.name}, seed {seed}, settings {digest[:12]}"
