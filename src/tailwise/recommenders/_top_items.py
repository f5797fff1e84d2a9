"""The best items of each user, found span by span of the catalogue, so that scores are never all held."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailwise.errors import DataError
from tailwise.recommenders._protocol import History, Recommender, SpanRecommender

__all__ = ["TieKeys", "check_scores", "select_best", "top_items"]

SCORES_AT_ONCE = 2**21
"""Scores held at once, 8 MiB; what is made of them takes as much again, a few times over. Much larger
blocks are slower on a CPU: their memory is handed out, zeroed and taken back every time."""

TieKeys = Callable[[Tensor, Tensor], Tensor]
"""From ``rows`` (int64 ``[n]``, positions of histories) and ``items`` (``[n, m]`` or ``[1, m]``) to
``[n, m]`` int64 below 2**62, no two equal in a row: of equal scores the smaller key comes first."""


def top_items(
    recommender: Recommender,
    histories: Sequence[History],
    k: int,
    *,
    exclude_seen: bool = True,
    keys: TieKeys | None = None,
    items_at_once: int | None = None,
    users: NDArray[np.int64] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the ``k`` best items for every history and their scores, best first.

    A recommender that scores spans of its catalogue (:class:`SpanRecommender`) is asked for one after
    the other, and only ``k`` items per history are kept between them: memory is
    ``len(histories) * items_at_once`` scores, whatever the catalogue. Another is asked for all at once.
    The order is one and total (score, then key), so the spans change nothing in the outcome; the
    last bits of a score can depend on a span's size, as on a batch's.

    Args:
        recommender: What scores.
        histories: One per user; item indices, oldest first.
        k: Length of each list, in 1..n_items.
        exclude_seen: Leave out the items of the history.
        keys: Order of equal scores; None for that of the item's index.
        items_at_once: Size of a span, >= 1. None: as many as make 2**21 scores (8 MiB), and 1,024 at
            least.
        users: ``[len(histories)]``; whom an error names. None: the position.

    Returns:
        ``[len(histories), k]`` int64, -1 where nothing is left that may be listed, and float32
        scores, -inf there. On the recommender's device.

    Raises:
        ValueError: ``k``, ``items_at_once`` or an item of a history is out of range.
        DataError: a score is NaN or ``+inf``.

    Example:
        >>> from tailwise.recommenders import MostPopular
        >>> top_items(MostPopular(np.array([3, 9, 5])), [[1], [0, 2]], k=2)
        (tensor([[ 2,  0],
                [ 1, -1]]), tensor([[5., 3.],
                [9., -inf]]))
    """
    n_items = recommender.n_items
    if not 1 <= k <= n_items:
        raise ValueError(f"k must be in 1..{n_items}, the size of the catalogue; got {k}.")
    if items_at_once is None:
        items_at_once = max(1024, SCORES_AT_ONCE // max(1, len(histories)))
    if items_at_once < 1:
        raise ValueError(f"items_at_once must be >= 1; got {items_at_once}.")
    spans: Iterable[tuple[int, Tensor]]
    if isinstance(recommender, SpanRecommender):
        spans = recommender.scores_by_span(histories, items_at_once)
    else:
        spans = [(0, recommender.scores(histories).clone())]
    keys = _by_index if keys is None else keys
    users = np.arange(len(histories)) if users is None else users
    seen = _Seen(histories, n_items) if exclude_seen else None
    items, scores = torch.empty(len(histories), 0, dtype=torch.int64), torch.empty(len(histories), 0)
    for first, raw in spans:
        of_span = raw.detach().float()
        check_scores(of_span, users)
        if seen is not None:
            seen.hide(of_span, first)
        best, values = select_best(of_span, min(k, of_span.shape[1]), keys, first=first)
        items, scores = torch.cat([items.to(best), best], 1), torch.cat([scores.to(values), values], 1)
        items, scores = (part[:, :k] for part in _in_order(items, scores, keys))
    return items.masked_fill(scores == -torch.inf, -1), scores


def select_best(scores: Tensor, k: int, keys: TieKeys, *, first: int = 0) -> tuple[Tensor, Tensor]:
    """Return the ``k`` best of each row, best first, equal scores by their keys.

    Args:
        scores: ``[rows, n]`` float32, none NaN.
        k: In 1..n.
        keys: See :data:`TieKeys`.
        first: Index of the item in the first column.

    Returns:
        ``[rows, k]`` item indices, int64, and their scores.
    """
    best, columns = torch.topk(scores, min(k + 1, scores.shape[1]), dim=1)  # one more than is listed
    beyond, best, columns = best[:, k:], best[:, :k], columns[:, :k].clone()  # [rows, 0 or 1], [rows, k]
    last = best[:, -1:]
    # Where the last place is tied with items outside the list, the key decides who is in.
    crowded = ((beyond == last) & (last > -torch.inf)).any(dim=1)
    if bool(crowded.any()):
        rows = crowded.nonzero()[:, 0]
        every_item = torch.arange(first, first + scores.shape[1], device=scores.device)[None, :]
        tied = keys(rows, every_item).masked_fill(scores[rows] != last[rows], 2**62)  # [crowded, n]
        _, chosen = torch.topk(tied, k, dim=1, largest=False)  # the tied, in order of their keys
        n_above = (best[rows] > last[rows]).sum(dim=1, keepdim=True)  # [crowded, 1]
        place = torch.arange(k, device=scores.device)[None, :]
        from_tied = torch.gather(chosen, 1, (place - n_above).clamp(min=0))
        columns[rows] = torch.where(place < n_above, columns[rows], from_tied)
    return _in_order(columns + first, torch.gather(scores, 1, columns), keys)


def _in_order(items: Tensor, scores: Tensor, keys: TieKeys) -> tuple[Tensor, Tensor]:
    """Sort each row by score, the best first; equal scores by their keys."""
    scores, order = torch.sort(scores, dim=1, descending=True, stable=True)
    items = torch.gather(items, 1, order)
    if bool((scores[:, 1:] == scores[:, :-1]).any()):
        by_key = torch.argsort(keys(torch.arange(len(items), device=items.device), items), dim=1)
        scores, order = torch.sort(torch.gather(scores, 1, by_key), dim=1, descending=True, stable=True)
        items = torch.gather(torch.gather(items, 1, by_key), 1, order)
    return items, scores


def _by_index(rows: Tensor, items: Tensor) -> Tensor:
    return items.expand(len(rows), -1)


class _Seen:
    """Which items each history holds, by item, so that a span finds its own."""

    def __init__(self, histories: Sequence[History], n_items: int) -> None:
        arrays = [np.asarray(history, dtype=np.int64) for history in histories]
        items = np.concatenate(arrays) if arrays else np.empty(0, np.int64)
        outside = items[(items < 0) | (items >= n_items)]
        if outside.size:
            raise ValueError(
                f"histories must hold items in 0..{n_items - 1}; got {outside.size:,} others "
                f"(first: {int(outside[0])}).\n  n_items is the size of the catalogue they were encoded with."
            )
        rows = np.repeat(np.arange(len(arrays)), [len(array) for array in arrays])
        order = np.argsort(items, kind="stable")
        self._items, self._rows = items[order], rows[order]

    def hide(self, scores: Tensor, first: int) -> None:
        """Make the seen among the items of these columns -inf, in place."""
        begin, end = np.searchsorted(self._items, [first, first + scores.shape[1]])
        rows = torch.from_numpy(self._rows[begin:end]).to(scores.device)
        columns = torch.from_numpy(self._items[begin:end] - first).to(scores.device)
        scores[rows, columns] = -torch.inf


def check_scores(scores: Tensor, users: NDArray[np.int64]) -> None:
    """Refuse scores that nothing can be ranked by.

    Raises:
        DataError: a score is NaN or ``+inf``; the message names the user and the count.
    """
    peak = scores.amax(dim=1)  # [rows]; NaN as soon as one score is NaN
    if bool((torch.isnan(peak) | (peak == torch.inf)).any()):
        bad = torch.isnan(scores) | (scores == torch.inf)
        row = int(bad.any(dim=1).nonzero()[0])
        raise DataError(
            f"scores must be finite or -inf; got {int(torch.isnan(scores[row]).sum()):,} NaN and "
            f"{int((scores[row] == torch.inf).sum()):,} +inf among the {scores.shape[1]:,} scores of "
            f"user_index {int(users[row])}.\n  {int(bad.any(dim=1).sum()):,} of {len(scores):,} users in its "
            "batch are affected. The model diverged, or a history it cannot score (empty?) reached it."
        )
