"""Made-up questions of the sizes that will occur, so that no request waits for what is done only once."""

import time

import numpy as np
import torch

from tailwise.serving._engine_settings import EngineSettings
from tailwise.serving._ranker import Question, Ranker

__all__ = ["warm_up"]

_LENGTHS = (1, 20, 100)  # of histories; kernels and memory are chosen by size
_LENGTH_IN_BATCHES = 10
_ENOUGH_S = 10.0


def warm_up(ranker: Ranker, n_items: int, settings: EngineSettings) -> None:
    """Prepare the calling thread: set its number of threads, answer, forget.

    Batches of every power of two up to ``max_batch`` are answered for new users, for the same with one
    item more, and for the same once more; long histories alone. A slow model is let off after ten
    seconds. With ``settings.warm_up`` off, one question is asked: it shows that the model answers at all.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    begin = time.monotonic()
    rng = np.random.default_rng(0)
    n = min(n_items, max(50, settings.n_candidates))
    sizes = [2**i for i in range(settings.max_batch.bit_length()) if 2**i < settings.max_batch]
    sizes = [*sizes, settings.max_batch] if settings.warm_up else [1]
    for length in _LENGTHS if settings.warm_up else ():
        ranker.answer([Question(rng.integers(0, n_items, length), n)])
    for size in sizes:
        if time.monotonic() > begin + _ENOUGH_S:
            break
        histories = [rng.integers(0, n_items, _LENGTH_IN_BATCHES) for _ in range(size)]
        users = [f"{size}-{row}" for row in range(size)]
        for length in (_LENGTH_IN_BATCHES - 1, _LENGTH_IN_BATCHES, _LENGTH_IN_BATCHES):
            ranker.answer([Question(h[:length], n, user) for h, user in zip(histories, users, strict=True)])
        if ranker.has_vectors:
            ranker.answer([Question(h, n, is_like=True) for h in histories])
    if ranker.states is not None:
        ranker.states.clear()
