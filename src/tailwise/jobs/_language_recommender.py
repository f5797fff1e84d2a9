"""The recommender with a language model that a run trains, from its settings and its catalogue."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tailwise.errors import ConfigError
from tailwise.jobs._config import RunConfig
from tailwise.jobs._progress import Narrator
from tailwise.jobs._run_data import RunData
from tailwise.recommenders import (
    ItemTokenRecommender,
    TitleRecommender,
    build_item_token,
    build_title,
    encode_titles,
    resolve_language_model,
)

__all__ = ["LanguageRecommender", "Titles", "build_recommender", "choose_device", "read_titles"]

LanguageRecommender = ItemTokenRecommender | TitleRecommender


@dataclass(frozen=True, eq=False)
class Titles:
    """A catalogue's titles, as the run's recommender takes them.

    Attributes:
        texts: ``[n_items]``.
        encodings: ``[n_items, d]``, what the language model makes of each; None where the recommender reads
            the texts.
    """

    texts: Sequence[str]
    encodings: Tensor | None

    def dealt(self, order: np.ndarray) -> "Titles":
        """Return titles in another order: item i wears title ``order[i]``."""
        encodings = None if self.encodings is None else self.encodings[order]
        return Titles([self.texts[item] for item in order], encodings)


def choose_device(requested: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``."""
    if requested == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if requested == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device must be one that is there; got 'cuda', and torch sees no CUDA device.")
    return torch.device(requested)


def read_titles(config: RunConfig, data: RunData, narrator: Narrator) -> Titles:
    """Return the catalogue's titles; where items are tokens, encoded by the run's language model.

    Encodings are kept in the user's cache.
    """
    texts = data.catalogue.titles()
    if config.title is not None:
        resolve_language_model(config.model.model)  # fetched once, before all trainings
        return Titles(texts, None)
    with narrator.task(f"titles, by {config.model.model}") as progress:
        encodings = encode_titles(
            texts,
            resolve_language_model(config.model.model),
            device=choose_device(config.device),
            progress=progress.encoding,
        )
    return Titles(texts, encodings)


def build_recommender(config: RunConfig, titles: Titles, *, seed: int) -> LanguageRecommender:
    """Build the recommender that the run's variants train, untrained.

    Raises:
        ConfigError: a setting does not suit the language model or the titles.
    """
    device = choose_device(config.device)
    if config.title is not None:
        return build_title(titles.texts, config.model, config.title, seed=seed, device=device)
    assert titles.encodings is not None  # as read_titles made them
    return build_item_token(titles.encodings, config.model, config.recommender, seed=seed, device=device)
