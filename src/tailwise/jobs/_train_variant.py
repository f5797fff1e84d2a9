"""One training and its measurement: one variant, one seed."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from tailwise.errors import ConfigError
from tailwise.evaluation import Rankings, mean_ndcg, rank_targets
from tailwise.interactions import HeldOut
from tailwise.jobs._config import RunConfig, VariantConfig
from tailwise.jobs._config_file import config_as_dict
from tailwise.jobs._progress import Narrator
from tailwise.jobs._run_data import RunData, sample_users
from tailwise.jobs._run_folder import ResultFolder
from tailwise.optim import EISAM, ERM, SAM, PerTargetOptimizer, item_weights, logit_offsets
from tailwise.recommenders import (
    ItemKNN,
    ItemTokenRecommender,
    MostPopular,
    Recommender,
    build_item_token,
    build_sasrec,
    save_recommender,
)
from tailwise.training import TrainingConfig, describe_surroundings, fit

__all__ = ["choose_device", "measure_reference", "train_sasrec", "train_variant"]

VALIDATION_K = 10


def choose_device(requested: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``."""
    if requested == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if requested == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device must be one that is there; got 'cuda', and torch sees no CUDA device.")
    return torch.device(requested)


def train_variant(
    config: RunConfig,
    variant: VariantConfig,
    *,
    seed: int,
    data: RunData,
    encodings: Tensor,
    folder: ResultFolder,
    narrator: Narrator,
) -> None:
    """Train the item-token recommender one way, measure it, and write everything into ``folder``."""
    recommender = build_item_token(
        encodings, config.model, config.recommender, seed=seed, device=choose_device(config.device)
    )
    _train(
        recommender, config, config.training, variant, seed=seed, data=data, folder=folder, narrator=narrator
    )


def train_sasrec(
    config: RunConfig, *, seed: int, data: RunData, folder: ResultFolder, narrator: Narrator
) -> None:
    """Train the reference without a language model, by AdamW, and measure it."""
    recommender = build_sasrec(
        data.n_items,
        config.sasrec.architecture,
        replace(config.sasrec.tokens, max_length=config.recommender.max_length),
        seed=seed,
        device=choose_device(config.device),
    )
    variant = VariantConfig("sasrec")
    training = config.sasrec.training
    _train(recommender, config, training, variant, seed=seed, data=data, folder=folder, narrator=narrator)


def _train(
    recommender: ItemTokenRecommender,
    config: RunConfig,
    training: TrainingConfig,
    variant: VariantConfig,
    *,
    seed: int,
    data: RunData,
    folder: ResultFolder,
    narrator: Narrator,
) -> None:
    counts = torch.from_numpy(data.counts)
    validation = sample_users(
        data.held_out("validation"), config.evaluation.validation_users, config.evaluation.seed
    )
    offsets = logit_offsets(counts, variant.logit_adjustment) if variant.logit_adjustment else None
    with narrator.task(f"{variant.name}, seed {seed}") as progress:
        result = fit(
            recommender,
            make_optimizer(variant, recommender, training, counts),
            data.training_histories(),
            training,
            validate=lambda: mean_ndcg(
                rank(recommender, validation, config, progress=progress.ranking), k=VALIDATION_K
            ),
            folder=folder.training,
            seed=seed,
            identity=_identity(recommender, config, training, variant, seed=seed, data=data),
            logit_offsets=offsets,
            progress=progress.step,
        )
        save_recommender(recommender, folder.model)
        rank(recommender, data.held_out("test"), config, progress=progress.ranking).save(folder.rankings)
    folder.write_record(
        {
            "variant": asdict(variant),
            "training": asdict(training),
            "seed": seed,
            "cost": {
                "train_seconds": result.train_seconds,
                "n_steps": result.n_steps,
                "n_epochs": result.n_epochs,
                "best_epoch": result.best_epoch,
                "kept_epoch": result.kept_epoch,
                "targets_per_second": result.targets_per_second,
                "peak_memory_mib": result.peak_memory_mib,
                "seconds_per_step": result.train_seconds / result.n_steps,
            },
            "validation_ndcg@10": result.kept_value,
            "epochs": [asdict(epoch) for epoch in result.epochs],
            "data_checksum": data.summary["checksum"],
            "surroundings": describe_surroundings(),
        }
    )


def make_optimizer(
    variant: VariantConfig, recommender: ItemTokenRecommender, training: TrainingConfig, counts: Tensor
) -> PerTargetOptimizer:
    """Return the optimizer that a variant names, over the recommender's parameters."""
    groups = recommender.parameter_groups(training.learning_rate, training.weight_decay)
    if variant.optimizer == "adamw":
        return ERM(groups, torch.optim.AdamW)
    if variant.optimizer == "sam":
        return SAM(groups, torch.optim.AdamW, rho=variant.rho)
    return EISAM(
        groups,
        torch.optim.AdamW,
        item_weights=item_weights(counts, variant.weights, gamma=variant.gamma),
        rho=variant.rho,
        strength=variant.strength,
        estimator=variant.estimator,
    )


def measure_reference(
    name: str, config: RunConfig, *, data: RunData, folder: ResultFolder, narrator: Narrator
) -> None:
    """Fit and measure a reference that needs no training: ``most-popular`` or ``item-knn``."""
    with narrator.task(name) as progress:
        recommender: Recommender = (
            MostPopular(data.counts)
            if name == "most-popular"
            else ItemKNN(data.training_histories(), data.n_items)
        )
        rank(recommender, data.held_out("test"), config, progress=progress.ranking).save(folder.rankings)
    folder.write_record({"reference": name, "surroundings": describe_surroundings()})


def rank(
    recommender: Recommender,
    held_out: HeldOut,
    config: RunConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Rankings:
    """Rank the held-out targets of every user over the whole catalogue."""
    return rank_targets(
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


def _identity(
    recommender: ItemTokenRecommender,
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
        "buffers": {
            name: hashlib.sha256(buffer.cpu().numpy().tobytes()).hexdigest()
            for name, buffer in recommender.item_vectors.named_buffers()
        },
        "training": config_as_dict(replace(training, checkpoint_seconds=0)),
        "variant": config_as_dict(variant),
        "validation": [config.evaluation.validation_users, config.evaluation.seed],
        "seed": seed,
        "data": data.summary["checksum"],
        "split": data.summary["split"],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{variant.name}, seed {seed}, settings {digest[:12]}"
