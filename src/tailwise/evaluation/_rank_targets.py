"""Score the catalogue for each user and find where the held-out targets landed."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from tailwise.evaluation._rankings import UNRANKED, Rankings
from tailwise.recommenders import TieKeys, check_scores, select_best
from tailwise.schema import ITEM_INDEX, USER_INDEX

__all__ = ["TieOrder", "rank_targets"]

_log = logging.getLogger(__name__)

_MAX_COMPARISONS = 8_000_000  # scores compared at once; bounds memory at some 50 MB beside the batch
_PRIME = 2**31 - 1  # multiplying by a unit modulo a prime permutes 1.._PRIME-1

ScoreFunction = Callable[[list[NDArray[np.int64]]], Any]


def rank_targets(
    score_fn: ScoreFunction,
    histories: Sequence[ArrayLike],
    target_offsets: ArrayLike,
    target_items: ArrayLike,
    *,
    n_items: int,
    exclude_seen: bool = True,
    batch_size: int = 256,
    list_length: int = 50,
    users: ArrayLike | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Rankings:
    """Rank the whole catalogue for each user; no sampled negatives.

    Scores are compared in float32. For each target, ``n_better`` counts the competing
    items with a strictly higher score and ``n_tied`` the other items with an equal one;
    metrics take the expectation over the orders of the tied. Each target is a case of
    its own: the user's *other targets are not removed* and compete like any item.

    With ``exclude_seen``, items of the history are neither recommended nor counted as
    competitors. A score of ``-inf`` says the same of any item: never recommend. A target
    that is seen or scored ``-inf`` cannot be recommended and is a miss at every k
    (``n_better = UNRANKED``). NaN and ``+inf`` are errors.

    Equal scores within a recommendation list are ordered by a hash of (seed, user, item),
    so that ties fall on other items for other users and never follow the item index.

    Args:
        score_fn: Maps a list of histories (int64 arrays) to ``[batch, n_items]`` scores:
            a torch tensor on any device, or an array.
        histories: ``n`` arrays of item indices, oldest first; what the scorer sees.
        target_offsets: ``[n+1]`` int; the targets of user ``u`` are
            ``target_items[target_offsets[u]:target_offsets[u+1]]``.
        target_items: ``[m]`` int; item indices of the held-out targets.
        n_items: Size of the catalogue.
        exclude_seen: Leave out the items of the history.
        batch_size: Users scored at once, > 0.
        list_length: Items kept per user for exposure metrics, > 0.
        users: ``[n]`` int, distinct; the ``user_index`` of each history. None: 0..n-1.
        seed: Of the hash that orders ties within lists.
        progress: Called with (users done, users in all) after each batch.

    Returns:
        :class:`Rankings`. ``lists.seen`` holds the distinct seen items when
        ``exclude_seen``, else nothing.

    Raises:
        ValueError: an argument has the wrong shape or range.
        DataError: scores are NaN or ``+inf``; the message names the user and the count.

    Example:
        >>> scores = np.array([[0.9, 0.8, 0.7, 0.7]])
        >>> r = rank_targets(lambda h: scores, [[0]], [0, 2], [1, 2], n_items=4)
        >>> r.targets.select("n_better", "n_tied").rows()
        [(0, 0), (1, 1)]
    """
    n = len(histories)
    seen = [np.asarray(history, dtype=np.int64) for history in histories]
    offsets, items, user_index = _checked(n, target_offsets, target_items, users, n_items)
    for name, value in (("batch_size", batch_size), ("list_length", list_length)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}.\n  256 and 50 are the defaults.")
    _check_items("histories", np.concatenate(seen) if n else items[:0], n_items)

    length = min(list_length, n_items)
    n_better, n_tied = np.empty(items.size, np.int64), np.empty(items.size, np.int64)
    lists = np.full((n, length), -1, dtype=np.int32)
    ties = TieOrder(n_items, seed)
    for start in range(0, n, batch_size):
        stop = min(start + batch_size, n)
        scores = _score(score_fn, seen[start:stop], n_items, user_index[start:stop])  # [batch, n_items]
        if exclude_seen:
            rows = np.repeat(np.arange(stop - start), [h.size for h in seen[start:stop]])
            columns = np.concatenate(seen[start:stop])
            scores[_on(rows, scores), _on(columns, scores)] = -torch.inf
        of_batch = slice(int(offsets[start]), int(offsets[stop]))
        rows = np.repeat(np.arange(stop - start), np.diff(offsets[start : stop + 1]))
        n_better[of_batch], n_tied[of_batch] = _competitors(scores, rows, items[of_batch])
        best, values = select_best(scores, length, ties.of(user_index[start:stop]))
        lists[start:stop] = best.masked_fill(values == -torch.inf, -1).cpu().numpy()
        if progress is not None:
            progress(stop, n)

    n_unranked = int(np.count_nonzero(n_better == UNRANKED))
    if n_unranked:
        _log.warning(
            "%d of %d targets are in the user's own history or scored -inf: counted as misses at every k",
            n_unranked,
            items.size,
        )
    targets = pl.DataFrame(
        {
            USER_INDEX: np.repeat(user_index, np.diff(offsets)),
            ITEM_INDEX: items,
            "n_better": n_better,
            "n_tied": n_tied,
        }
    )
    distinct = [np.unique(h) if exclude_seen else h[:0] for h in seen]
    table = pl.DataFrame(
        {USER_INDEX: user_index, "items": pl.Series(lists, dtype=pl.Array(pl.Int32, length))}
    )
    table = table.with_columns(
        pl.col("items").arr.to_list().list.filter(pl.element() >= 0),
        pl.Series("seen", [d.tolist() for d in distinct], dtype=pl.List(pl.Int32)),
    )
    return Rankings(targets, table, n_items=n_items, list_length=list_length)


def _checked(
    n: int, target_offsets: ArrayLike, target_items: ArrayLike, users: ArrayLike | None, n_items: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return offsets, items and user indices as int64, or say which of them is wrong."""
    offsets = np.asarray(target_offsets, dtype=np.int64)
    items = np.asarray(target_items, dtype=np.int64)
    bad_order = offsets.size > 0 and bool(np.any(np.diff(offsets) < 0))
    if offsets.shape != (n + 1,) or offsets[0] != 0 or offsets[-1] != items.size or bad_order:
        raise ValueError(
            f"target_offsets must rise from 0 to {items.size:,} in {n + 1:,} steps, one more than histories; "
            f"got shape {offsets.shape}{f' from {offsets[0]} to {offsets[-1]}' if offsets.size else ''}.\n"
            "  The targets of user u are target_items[target_offsets[u]:target_offsets[u+1]]."
        )
    _check_items("target_items", items, n_items)
    user_index = np.arange(n, dtype=np.int64) if users is None else np.asarray(users, dtype=np.int64)
    if user_index.shape != (n,) or np.unique(user_index).size != n:
        raise ValueError(
            f"users must be {n:,} distinct indices, one per history; got shape {user_index.shape} "
            f"with {np.unique(user_index).size:,} distinct.\n  Join the histories of a repeated user."
        )
    return offsets, items, user_index


def _check_items(name: str, items: NDArray[np.int64], n_items: int) -> None:
    outside = items[(items < 0) | (items >= n_items)]
    if outside.size:
        raise ValueError(
            f"{name} must lie in 0..{n_items - 1}; got {outside.size:,} others (first: {int(outside[0])}).\n"
            "  n_items is the size of the catalogue that the histories were encoded with."
        )


def _on(values: NDArray[np.int64], like: Tensor) -> Tensor:
    """Copy indices to the device of ``like``; a copy, because tables hand out read-only arrays."""
    return torch.from_numpy(np.array(values)).to(like.device)


def _score(
    score_fn: ScoreFunction, histories: list[NDArray[np.int64]], n_items: int, users: NDArray[np.int64]
) -> Tensor:
    """Score a batch into a float32 tensor of our own, finite or -inf."""
    with torch.no_grad():
        raw = score_fn(histories)
        scores = (
            raw.detach() if isinstance(raw, Tensor) else torch.from_numpy(np.array(raw, dtype=np.float32))
        )
        scores = scores.to(torch.float32, copy=True)
    if tuple(scores.shape) != (len(histories), n_items):
        raise ValueError(
            f"score_fn must return scores [{len(histories)}, {n_items}]; got shape {tuple(scores.shape)}.\n"
            "  One row per history, one column per item of the catalogue."
        )
    check_scores(scores, users)
    return scores


def _competitors(
    scores: Tensor, rows: NDArray[np.int64], items: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count, for each target, the better and the equally good items: two ``[m]`` int64.

    ``rows`` rise. On a CPU, from some thousands of items on, sorting takes less than comparing one target.
    """
    if scores.device.type == "cpu":
        return competitors_by_sorting(scores.numpy(), rows, items)
    return competitors_by_comparing(scores, rows, items)


def competitors_by_sorting(
    scores: NDArray[np.float32], rows: NDArray[np.int64], items: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count as :func:`competitors_by_comparing` does, from each user's scores in order."""
    n_better, n_tied = np.empty(items.size, np.int64), np.empty(items.size, np.int64)
    own = scores[rows, items]
    users, starts = np.unique(rows, return_index=True)
    stops = np.append(starts, items.size)[1:]
    for user, start, stop in zip(users, starts, stops, strict=True):
        rising = np.sort(scores[user])
        first = rising.searchsorted(own[start:stop], "left")
        behind = rising.searchsorted(own[start:stop], "right")
        n_better[start:stop] = rising.size - behind
        n_tied[start:stop] = behind - first - 1
    never = own == -np.inf
    n_better[never], n_tied[never] = UNRANKED, 0
    return n_better, n_tied


def competitors_by_comparing(
    scores: Tensor, rows: NDArray[np.int64], items: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the better and the equally good items by comparing each target with all: two ``[m]`` int64."""
    n_better, n_tied = np.empty(items.size, np.int64), np.empty(items.size, np.int64)
    chunk = max(1, _MAX_COMPARISONS // scores.shape[1])
    for start in range(0, items.size, chunk):
        part = slice(start, start + chunk)
        row = _on(rows[part], scores)
        own = scores[row, _on(items[part], scores)][:, None]  # [chunk, 1]
        block = scores[row]  # [chunk, n_items]
        never = own[:, 0] == -torch.inf
        n_better[part] = (block > own).sum(1).masked_fill(never, UNRANKED).cpu().numpy()
        n_tied[part] = ((block == own).sum(1) - 1).masked_fill(never, 0).cpu().numpy()
    return n_better, n_tied


class TieOrder:
    """A pseudo-random order of the items for each user: a key per (user, item), no two equal.

    Key = a_u · x_i mod p with p prime, x_i random and distinct, a_u hashed from the user:
    the same whatever the batch, and independent of the item's index.
    """

    def __init__(self, n_items: int, seed: int) -> None:
        if n_items >= _PRIME:
            raise ValueError(f"n_items must be below {_PRIME:,}; got {n_items:,}.\n  Shard the catalogue.")
        self._seed = seed
        # Random, not evenly spaced: multiples of an arithmetic progression keep its pattern.
        self._items = 1 + np.random.default_rng(seed).choice(_PRIME - 1, n_items, replace=False)

    def keys(self, users: NDArray[np.int64], items: Tensor) -> Tensor:
        """Keys of these items (``[..., n]``) for each user: ``[len(users), n]``; smaller comes first."""
        factor = (_hash(users, self._seed) % np.uint64(_PRIME - 1)).astype(np.int64) + 1
        of_item = torch.from_numpy(self._items).to(items.device)[items]
        return torch.from_numpy(factor).to(items.device)[:, None] * of_item % _PRIME

    def of(self, users: NDArray[np.int64]) -> TieKeys:
        """Return the keys of these users' items, by the users' position."""
        return lambda rows, items: self.keys(users[rows.cpu().numpy()], items)


def _hash(values: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Mix 64-bit integers (the finaliser of SplitMix64)."""
    x = values.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), dtype=np.uint64)
