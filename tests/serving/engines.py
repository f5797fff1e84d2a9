"""Small models and catalogues for tests of the engine."""

import threading
from collections.abc import Sequence

import numpy as np
import torch

from tailwise.recommenders import ItemTokenConfig, ItemTokenRecommender, SASRecConfig, build_sasrec
from tailwise.serving import Engine, EngineSettings, KnownHistories, ServedCatalogue, ServedModel

N_ITEMS, MAX_LENGTH = 40, 12
IDS = [f"i{i}" for i in range(N_ITEMS)]
COUNTS = np.array([(7 * i) % 11 for i in range(N_ITEMS)])  # with ties
KINDS = [("red", "blue", None)[i % 3] for i in range(N_ITEMS)]
PRICES = [None if i % 5 == 0 else float(i) for i in range(N_ITEMS)]
NOBODY = KnownHistories([], [0], [])


def catalogue() -> ServedCatalogue:
    return ServedCatalogue(
        IDS,
        [f"title {i}" for i in range(N_ITEMS)],
        COUNTS,
        ["cold" if count == 0 else "head" if count > 8 else "tail" for count in COUNTS],
        categories=KINDS,
        brands=[f"b{i % 4}" for i in range(N_ITEMS)],
        prices=PRICES,
        in_stock=[i % 7 != 0 for i in range(N_ITEMS)],
    )


def sasrec(seed: int = 0) -> ItemTokenRecommender:
    config = ItemTokenConfig(max_length=MAX_LENGTH)
    return build_sasrec(N_ITEMS, SASRecConfig(width=16, n_heads=2), config, seed=seed)


class Scripted:
    """Scores the item after the last one best; waits for a gate; fails at a poisonous item."""

    def __init__(self, poison: int = -1) -> None:
        self.n_items = N_ITEMS
        self.poison = poison
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[list[list[int]]] = []

    def scores(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
        self.batches.append([list(map(int, h)) for h in histories])
        self.entered.set()
        if not self.gate.wait(20):
            raise RuntimeError("the gate stayed shut")
        if any(self.poison in h for h in self.batches[-1]):
            raise RuntimeError("poison")
        items = np.arange(N_ITEMS)
        return torch.stack([-torch.tensor((items - h[-1] - 1) % N_ITEMS).float() for h in histories])


def engine(recommender: object, **settings: object) -> Engine:
    chosen = {"warm_up": False} | settings
    model = ServedModel("control", "d1", recommender, catalogue(), NOBODY)  # type: ignore[arg-type]
    return Engine(model, EngineSettings(**chosen))  # type: ignore[arg-type]
