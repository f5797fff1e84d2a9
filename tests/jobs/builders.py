"""A run that takes a second or two."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from tailwise.evaluation import Rankings
from tailwise.jobs import RunConfig, load_config

TINY = (
    "model.depth=1",
    "model.lora_rank=2",
    "model.dtype=float32",
    "recommender.max_length=8",
    "training.max_epochs=2",
    "training.positions_per_batch=40",
    "training.checkpoint_seconds=0",
    "evaluation.n_resamples=100",
    "evaluation.validation_users=20",
    "sasrec.architecture={width=8, depth=1}",
    "sasrec.training={max_epochs=2, positions_per_batch=100}",
)


def tiny_config(log: Path, items: Path, model: Path, *settings: str, **overrides: Any) -> RunConfig:
    return load_config(
        preset="quick",
        file=None,
        overrides={
            "data": {"interactions": str(log), "items": str(items)},
            "model": {"model": str(model)},
            **overrides,
        },
        settings=(*TINY, *settings),
    )


def final_weights(run: Path) -> dict[str, dict[str, Tensor]]:
    """Every trained recommender's parameters, by its place in the run's folder."""
    files = sorted(run.glob("*/seed-*/model/weights.safetensors"))
    return {str(file.relative_to(run)): load_file(file) for file in files}


def all_rankings(run: Path) -> dict[str, Rankings]:
    files = sorted(run.rglob("rankings.json"))
    return {str(file.parent.relative_to(run)): Rankings.load(file.parent) for file in files}
