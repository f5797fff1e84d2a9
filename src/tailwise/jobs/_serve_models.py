"""From the folder of a run to a model that can be served."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from tailwise.errors import ConfigError
from tailwise.jobs._load_recommender import load_finished, rescoring_of
from tailwise.jobs._measure import cut_segments
from tailwise.jobs._run_data import load_run_data
from tailwise.jobs._run_folder import RunFolder
from tailwise.jobs._stored_histories import StoredData
from tailwise.schema import BRAND, CATEGORY, PRICE, TIMESTAMP
from tailwise.serving._known_histories import KnownHistories
from tailwise.serving._served_catalogue import ServedCatalogue
from tailwise.serving._served_model import ServedModel

__all__ = ["LoadedModel", "ModelSource", "load_served", "parse_model", "parse_source"]

_USERS_AT_ONCE = 4096


@dataclass(frozen=True)
class ModelSource:
    """A trained variant in a run's folder.

    Attributes:
        run: The folder.
        variant: Of the run.
        seed: None: the first of the run's.
    """

    run: Path
    variant: str
    seed: int | None


@dataclass(frozen=True)
class LoadedModel:
    """A model, and what the service must know beside it.

    Attributes:
        model: See :class:`ServedModel`.
        known_until: Unix seconds of the last interaction that its known histories hold.
        exclude_seen: Items of the history are left out: the run's data keep no repeats.
    """

    model: ServedModel
    known_until: float
    exclude_seen: bool


def parse_model(text: str) -> tuple[str, str]:
    """Read ``NAME=RUN/VARIANT``.

    Raises:
        ConfigError: it is no such thing.
    """
    name, equals, source = text.partition("=")
    if not equals or not name or not source:
        raise ConfigError(f"--model must be NAME=RUN/VARIANT; got {text!r}.")
    return name, source


def parse_source(source: str, root: Path) -> ModelSource:
    """Read ``RUN/VARIANT`` or ``RUN/VARIANT/seed-N``, under a folder.

    Raises:
        ConfigError: it is no such thing, or lies elsewhere.
    """
    if "\0" in source:
        raise ConfigError("model must be RUN/VARIANT; got a path with a zero byte.")
    path = Path(source)
    seed: int | None = None
    if path.name.startswith("seed-") and path.name.removeprefix("seed-").isdecimal():
        seed, path = int(path.name.removeprefix("seed-")), path.parent
    if path.name in ("", "..") or path.parent == path:
        raise ConfigError(f"model must be RUN/VARIANT or RUN/VARIANT/seed-N; got {source!r}.")
    root = root.resolve()
    run = (root / path.parent).resolve()
    if not run.is_relative_to(root):
        raise ConfigError(
            f"model must lie under the model root {str(root)!r}; got {source!r}. Set another --model-root."
        )
    return ModelSource(run, path.name, seed)


def load_served(name: str, source: ModelSource, device: torch.device) -> LoadedModel:
    """Load a finished variant with its catalogue, its segments and its users' histories.

    Args:
        name: Under which it will answer.
        source: Where it is.
        device: Where it will compute.

    Raises:
        ConfigError: the run has no such variant or seed.
        DataError: there is no run, or the variant is not finished.
        CheckpointError: its files are damaged.
    """
    folder = RunFolder(source.run)
    config = folder.read_config()
    result, _ = folder.finished(config, source.variant, source.seed)
    data = StoredData.of(folder, "all")
    recommender = load_finished(source.variant, result, folder, data, device)
    run = load_run_data(folder.data)
    items = run.catalogue.items
    segments = cut_segments(run, config.segments)
    catalogue = ServedCatalogue(
        run.catalogue.item_ids(),
        run.catalogue.titles(),
        run.counts,
        [segments.names[label] for label in segments.labels.tolist()],
        categories=_column(items, CATEGORY),
        brands=_column(items, BRAND),
        prices=_column(items, PRICE),
    )
    parts = (run.split.train, run.split.validation, run.split.test)
    latest = [float(part[TIMESTAMP].to_numpy().max()) for part in parts if part.height]
    scored = rescoring_of(source.variant, folder)
    weights = result if scored is None else result.rescored(scored[0])
    digest = weights.model_digest() or _digest_of_reference(source.variant, data.summary)
    if scored is not None:
        digest = hashlib.sha256(f"{digest}\0{scored[1]}".encode()).hexdigest()
    return LoadedModel(
        ServedModel(name, digest, recommender, catalogue, _histories(data)),
        known_until=max(latest, default=-math.inf),
        exclude_seen=config.data.repeats == "first",
    )


def _column(items: pl.DataFrame, name: str) -> list[Any] | None:
    return items[name].to_list() if name in items.columns else None


def _digest_of_reference(variant: str, summary: Mapping[str, object]) -> str:
    """A reference has no files of its own; its data and its name decide what it says."""
    return hashlib.sha256(f"{variant}\0{summary['checksum']}".encode()).hexdigest()


def _histories(data: StoredData) -> KnownHistories:
    ids: list[str] = []
    items: list[np.ndarray] = []
    for start in range(0, data.n_users, _USERS_AT_ONCE):
        users = data.read_users(range(start, min(start + _USERS_AT_ONCE, data.n_users)))
        ids += users.ids
        items += [history.astype(np.int32) for history in users.histories]
    return KnownHistories.from_histories(ids, items)
