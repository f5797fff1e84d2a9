"""Draws of recommended titles for a sample of users, kept in the cache a few users at a time."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailwise.diagnosis._prior_cache import Arrays, PriorCache
from tailwise.diagnosis._prior_estimate import PriorCost
from tailwise.diagnosis._recommendation_prompts import RecommendationPrompt
from tailwise.diagnosis._title_draws import spread_draws
from tailwise.recommenders._text_model import TextModel
from tailwise.recommenders._title_trie import TitleTrie

__all__ = ["Asked", "OutputDraws", "sample_users"]

Ints = NDArray[np.int64]

_USERS_PER_CHUNK = 16  # at most; a run that is stopped goes on at the next chunk
_TOKENS_PER_CHUNK = 1200  # of prompts; attention costs their square
_RECIPE = "output-frequency/1"  # raise when what is stored changes


@dataclass(frozen=True)
class Asked:
    """What one user is asked: the tokens of the filled prompt, and items not to be recommended."""

    user: int
    ids: list[int]
    excluded: list[int]


class OutputDraws:
    """Draws under one prompt, a chunk of users at a time, each chunk computed once and kept."""

    def __init__(
        self,
        model: TextModel,
        prompt: RecommendationPrompt,
        title_tokens: Sequence[list[int]],
        draws_per_user: int,
        seed: int,
    ) -> None:
        self._model = model
        self._tokens = title_tokens
        self._n_draws = draws_per_user
        self._seed = seed
        self._mark = '"' if prompt.is_quoted else "\n"
        self._chunks: list[list[Asked]] = []
        self._items = np.flatnonzero([bool(ids) for ids in title_tokens])
        self._trie: TitleTrie | None = None

    def add(self, asked: Asked) -> None:
        """Put a user into the last chunk, or begin another where it is full."""
        last = self._chunks[-1] if self._chunks else []
        n_tokens = sum(len(other.ids) for other in last) + len(asked.ids)
        if last and len(last) < _USERS_PER_CHUNK and n_tokens <= _TOKENS_PER_CHUNK:
            last.append(asked)
        else:
            self._chunks.append([asked])

    def draw(self) -> Iterator[tuple[int, Arrays, PriorCost]]:
        """Yield for each chunk how many users it has, what they were recommended, and what it cost."""
        cache = PriorCache(
            self._model.fingerprint,
            _RECIPE,
            {
                "dtype": str(self._model.dtype),
                "depth": self._model.depth,
                "titles": hashlib.sha256(json.dumps(self._tokens).encode()).hexdigest(),
                "draws_per_user": self._n_draws,
                "seed": self._seed,
            },
        )
        for chunk in self._chunks:
            content = [[asked.user, asked.ids, asked.excluded] for asked in chunk]
            found, cost = cache.get(
                content,
                lambda chunk=chunk: self._compute(chunk),  # type: ignore[misc]
                n_answers=len(chunk) * self._n_draws,
            )
            yield len(chunk), found, cost

    def _compute(self, chunk: Sequence[Asked]) -> tuple[Arrays, int]:
        if self._trie is None:
            self._trie = TitleTrie([self._tokens[item] for item in self._items.tolist()], self._model.n_words)
        shares, n_tokens = spread_draws(
            self._model,
            self._trie,
            [asked.ids for asked in chunk],
            [np.searchsorted(self._items, asked.excluded) for asked in chunk],
            closing=self._model.closing(self._mark),
            n_draws=self._n_draws,
            seeds=[[self._seed, asked.user, 0] for asked in chunk],
        )
        drawn = np.zeros(len(self._items), dtype=np.int64)
        for asked, share in zip(chunk, shares, strict=True):
            lots = np.random.default_rng([self._seed, asked.user, 1])
            drawn += lots.multinomial(self._n_draws, share / share.sum())
        expected = self._n_draws * shares.sum(axis=0)
        some = np.flatnonzero(expected)
        return {"items": self._items[some], "expected": expected[some], "draws": drawn[some]}, n_tokens


def sample_users(
    histories: Sequence[ArrayLike],
    is_titled: NDArray[np.bool_],
    n_users: int,
    *,
    exclude_seen: bool,
    seed: int,
) -> Ints:
    """Draw users with a title to show and something left to recommend; a larger sample begins alike."""
    fits = []
    for user, history in enumerate(histories):
        items = np.unique(np.asarray(history).astype(np.int64))
        if items.size and not 0 <= items[0] <= items[-1] < is_titled.size:
            wrong = items[0] if items[0] < 0 else items[-1]
            raise ValueError(
                f"histories must hold items in 0..{is_titled.size - 1}; got {wrong} in history {user}.\n"
                "  Positions count the titles."
            )
        n_titled = int(is_titled[items].sum())
        if n_titled and (n_titled < is_titled.sum() or not exclude_seen):
            fits.append(user)
    if not fits:
        raise ValueError(
            f"histories must hold a user with a title to show and something left to recommend; got "
            f"{len(histories)} histories and none.\n  Pass those of the training part."
        )
    chosen: Ints = np.random.default_rng(seed).permutation(np.array(fits, dtype=np.int64))[:n_users]
    return chosen
