"""What is kept of returning users, so that they pay for their new items only."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailwise.errors import ConfigError
from tailwise.recommenders import IncrementalReader, ReadItems

__all__ = ["UserStates"]

_QUERIES_SHARE = 0.25  # of the memory, for vectors of unchanged histories: each is a hundredth of a reading
_OVERHEAD = 400  # bytes of Python objects around one user's arrays, about


class UserStates:
    """Histories in, vectors out; what was computed for a user is kept and checked before it is used.

    Two things are kept of a user, each until the least recently used ones have to go: the *query*, the
    vector of the history as it was (an unchanged history costs nothing more), and the *reading*, the
    backbone's keys and values (a grown history costs its new items). Both hold the very items they were made
    of. A query serves the same window only, a reading the beginning that the window shares with
    it, so a changed history is never answered from what is no longer true.

    A window that has to move at the next item leaves no reading: it could not be used.

    For one thread; counts and sizes may be looked at from others.

    Args:
        reader: Of the model.
        max_bytes: Kept at most, queries a quarter of it; 0 keeps nothing.
        window_hop: See ``EngineSettings``.

    Raises:
        ConfigError: ``window_hop`` is longer than the reader's ``max_length``.
    """

    def __init__(self, reader: IncrementalReader, *, max_bytes: int, window_hop: int = 1) -> None:
        if window_hop > reader.max_length:
            raise ConfigError(
                f"engine.window_hop must be at most the model's max_length ({reader.max_length}); "
                f"got {window_hop}."
            )
        self._reader = reader
        self._hop = window_hop
        self._max_bytes = max_bytes
        self._queries: OrderedDict[str, tuple[NDArray[np.int32], NDArray[np.float32]]] = OrderedDict()
        self._readings: OrderedDict[str, ReadItems] = OrderedDict()
        self._query_bytes = self._reading_bytes = 0
        self.n_unchanged = 0
        self.n_grown = 0
        self.n_anew = 0
        self.n_items_read = 0

    @property
    def nbytes(self) -> int:
        """Bytes held, about."""
        return self._query_bytes + self._reading_bytes

    @property
    def n_queries(self) -> int:
        """Users whose query is kept."""
        return len(self._queries)

    @property
    def n_readings(self) -> int:
        """Users whose reading is kept."""
        return len(self._readings)

    def clear(self) -> None:
        """Forget everybody, and the counts."""
        self._queries.clear()
        self._readings.clear()
        self._query_bytes = self._reading_bytes = 0
        self.n_unchanged = self.n_grown = self.n_anew = self.n_items_read = 0

    def users(self) -> list[str]:
        """Return of whom something is kept, each once."""
        return list(self._queries.keys() | self._readings.keys())

    def forget(self, users: Iterable[str]) -> None:
        """Drop what is kept of some users; nothing where nothing is."""
        for user in users:
            self._drop_query(user)
            self._drop_reading(user)

    def begin_of(self, length: int) -> int:
        """Number of a history's items that lie before the window, of a history of ``length`` items."""
        beyond = max(0, length - self._reader.max_length)
        return -(-beyond // self._hop) * self._hop

    def n_to_read(self, user: str | None, history: NDArray[np.int64]) -> int:
        """Items that would have to be read for a user's history now."""
        window = history[self.begin_of(len(history)) :]
        if user is None:
            return len(window)
        kept = self._queries.get(user)
        if kept is not None and np.array_equal(kept[0], window):
            return 0
        return len(window) - self._n_shared(user, window)

    def queries(self, users: Sequence[str | None], histories: Sequence[NDArray[np.int64]]) -> Tensor:
        """Return what item vectors are multiplied with: ``[len(histories), width]`` float32 on the CPU.

        Args:
            users: Whose history each is; None: keep nothing.
            histories: Whole, oldest first, at least one item each.
        """
        windows = [history[self.begin_of(len(history)) :] for history in histories]
        found: dict[int, NDArray[np.float32]] = {}
        rows_of: dict[bytes, list[int]] = {}  # windows to be read, each once
        for row, (user, window) in enumerate(zip(users, windows, strict=True)):
            query = None if user is None else self._query_of(user, window)
            if query is None:
                rows_of.setdefault(window.tobytes(), []).append(row)
            else:
                found[row] = query
                self.n_unchanged += 1
        if rows_of:
            self._read(users, histories, windows, list(rows_of.values()), found)
        return torch.from_numpy(np.stack([found[row] for row in range(len(windows))]))

    def _read(
        self,
        users: Sequence[str | None],
        histories: Sequence[NDArray[np.int64]],
        windows: Sequence[NDArray[np.int64]],
        groups: list[list[int]],
        found: dict[int, NDArray[np.float32]],
    ) -> None:
        """Read windows, rows of one window together, and keep what came of it."""
        pasts: list[ReadItems | None] = []
        for rows in groups:
            window = windows[rows[0]]
            known = [self._reading_of(user, window) for r in rows if (user := users[r]) is not None]
            pasts.append(max(known, key=lambda k: 0 if k is None else len(k.items), default=None))
        news = [
            windows[rows[0]][0 if past is None else len(past.items) :]
            for rows, past in zip(groups, pasts, strict=True)
        ]
        queries, readings = self._reader.read(pasts, news)
        for rows, past, new, query, reading in zip(
            groups, pasts, news, queries.numpy(), readings, strict=True
        ):
            self.n_anew += past is None
            self.n_grown += past is not None
            self.n_items_read += len(new)
            for row in rows:
                found[row] = query
                user, length = users[row], len(histories[row])
                if user is not None and self._max_bytes:
                    stays = self.begin_of(length + 1) == self.begin_of(length)
                    self._keep(user, windows[row], query, reading if stays else None)
        self._shrink()

    def _query_of(self, user: str, window: NDArray[np.int64]) -> NDArray[np.float32] | None:
        kept = self._queries.get(user)
        if kept is None or not np.array_equal(kept[0], window):
            return None
        self._queries.move_to_end(user)
        if user in self._readings:
            self._readings.move_to_end(user)
        return kept[1]

    def _reading_of(self, user: str, window: NDArray[np.int64]) -> ReadItems | None:
        """What was read of the window's beginning."""
        shared = self._n_shared(user, window)
        if not shared:
            return None
        kept = self._readings[user]
        return kept if shared == len(kept.items) else kept.first(shared)

    def _n_shared(self, user: str, window: NDArray[np.int64]) -> int:
        """Items of the window's beginning that were read; the last is always read, for its query."""
        kept = self._readings.get(user)
        if kept is None:
            return 0
        longest = min(len(kept.items), len(window) - 1)
        differs = np.flatnonzero(kept.items[:longest] != window[:longest])
        return int(differs[0]) if differs.size else longest

    def _keep(
        self, user: str, window: NDArray[np.int64], query: NDArray[np.float32], reading: ReadItems | None
    ) -> None:
        self._drop_query(user)
        self._queries[user] = (window.astype(np.int32), query.copy())
        self._query_bytes += _bytes_of(self._queries[user])
        self._drop_reading(user)
        if reading is not None:
            self._readings[user] = reading
            self._reading_bytes += reading.nbytes + _OVERHEAD

    def _shrink(self) -> None:
        while self._queries and self._query_bytes > _QUERIES_SHARE * self._max_bytes:
            self._drop_query(next(iter(self._queries)))
        while self._readings and self.nbytes > self._max_bytes:
            self._drop_reading(next(iter(self._readings)))

    def _drop_query(self, user: str) -> None:
        kept = self._queries.pop(user, None)
        if kept is not None:
            self._query_bytes -= _bytes_of(kept)

    def _drop_reading(self, user: str) -> None:
        kept = self._readings.pop(user, None)
        if kept is not None:
            self._reading_bytes -= kept.nbytes + _OVERHEAD


def _bytes_of(kept: tuple[NDArray[np.int32], NDArray[np.float32]]) -> int:
    return int(kept[0].nbytes + kept[1].nbytes) + _OVERHEAD
