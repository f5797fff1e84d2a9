"""Gumbel top-k over scores: the conditional probabilities of a list (Plackett-Luce)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.experiments.ope._log import LoggedLists, Propensities

__all__ = ["PlackettLuce"]

_CELLS_AT_ONCE = 2**21  # scores held at once, 16 MiB in float64

Scores = Callable[[NDArray[np.int64]], NDArray[np.floating]]
"""From contexts ``[n]`` to scores ``[n, n_items]``; ``-inf`` for what may not be listed there."""


@dataclass(frozen=True, eq=False)
class PlackettLuce:
    """Lists drawn item by item: each place takes one of the items left with probability ∝ exp(score / τ).

    Adding Gumbel noise to score / τ and taking the best k draws such a list. τ = 0 is the list of the
    best scores; items that tie for a place share its probability.

    Attributes:
        item_ids: ``[n_items]`` text.
        scores: See :data:`Scores`; called once per context.
        context: ``[n_lists]`` int64; which context each logged list has, such as its user's history.
        temperature: τ >= 0, in units of score.
        n_candidates: Only so many best items have a chance, as in our service (equal scores: those that
            come first). None: all.
        name: What messages call the policy.
    """

    item_ids: pl.Series
    scores: Scores
    context: NDArray[np.int64]
    temperature: float
    n_candidates: int | None = None
    name: str = "the policy"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature must be a number >= 0; got {self.temperature}.")
        if self.n_candidates is not None and self.n_candidates < 1:
            raise ValueError(f"n_candidates must be >= 1; got {self.n_candidates}.")

    @property
    def propensities(self) -> tuple[Propensities, ...]:
        """Conditional on the places before."""
        return ("conditional",)

    def probabilities(
        self, log: LoggedLists, shown: NDArray[np.int64], values: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See :class:`TargetPolicy`."""
        places = np.full((log.n_lists, log.n_ordinals), -2, np.int64)  # -2: beyond the end of the list
        places[log.list_of_slot, log.ordinal] = shown
        target = np.zeros(places.shape)
        expected = np.zeros((*places.shape, values.shape[1]))
        order = np.argsort(self.context, kind="stable")
        contexts, starts = np.unique(self.context[order], return_index=True)
        ends = np.append(starts[1:], len(order))
        at_once = max(1, _CELLS_AT_ONCE // len(self.item_ids))
        for first in range(0, len(contexts), at_once):
            batch = slice(first, first + at_once)
            scores = np.array(self.scores(contexts[batch]), np.float64)
            scores, items = _best(scores, self.n_candidates)
            lists = order[starts[batch][0] : ends[batch][-1]]
            row = np.repeat(np.arange(len(scores)), ends[batch] - starts[batch])
            lists_at_once = max(1, _CELLS_AT_ONCE // scores.shape[1])
            for start in range(0, len(lists), lists_at_once):  # somebody may have very many lists
                part, rows = lists[start : start + lists_at_once], row[start : start + lists_at_once]
                columns, worth = places[part], values
                if items is not None:
                    columns, worth = _columns(items[rows], columns), values[items[rows]]
                target[part], expected[part] = _walk(scores[rows], columns, worth, self.temperature)
        slots = (log.list_of_slot, log.ordinal)
        return target[slots], expected[slots]


def _best(scores: NDArray[np.float64], n: int | None) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """Cut each row to its ``n`` best, of equal scores the first; their items, or None where all stay."""
    n_items = scores.shape[1]
    if n is None or n >= n_items:
        return scores, None
    last = np.partition(scores, n_items - n, axis=1)[:, n_items - n, None]  # the n-th best
    tied = scores == last
    room = n - (scores > last).sum(axis=1, keepdims=True)
    scores[(scores < last) | (tied & (np.cumsum(tied, axis=1) > room))] = -np.inf
    items = np.argpartition(-scores, n - 1, axis=1)[:, :n].astype(np.int64)
    return np.take_along_axis(scores, items, axis=1), items


def _columns(items: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each shown item stands among its list's candidates; -1 where it does not."""
    found = items[:, None, :] == places[:, :, None]  # [n, length, n_candidates]
    return np.where(found.any(axis=2), found.argmax(axis=2), -1)


def _walk(
    scores: NDArray[np.float64], places: NDArray[np.int64], values: NDArray[np.float64], temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Go down the lists, taking each shown item out of what is left.

    Args:
        scores: ``[n, n_items]``; overwritten.
        places: ``[n, length]``; columns of the items shown; below 0 for one that is not scored, or
            where nothing was shown.
        values: ``[n_items, m]``, or ``[n, n_items, m]`` where the columns of a list are items of its own.
        temperature: τ.

    Returns:
        ``[n, length]`` probabilities and ``[n, length, m]`` expectations.
    """
    target = np.zeros(places.shape)
    expected = np.zeros((*places.shape, values.shape[-1]))
    rows = np.arange(len(scores))
    for place in range(places.shape[1]):
        best = scores.max(axis=1, keepdims=True)
        has_any = best[:, 0] > -np.inf
        above = np.where(has_any[:, None], scores - np.where(np.isfinite(best), best, 0.0), -np.inf)
        mass = np.exp(above / temperature) if temperature > 0 else (above == 0).astype(np.float64)
        mass /= np.where(has_any, mass.sum(axis=1), 1.0)[:, None]  # [n, n_items]
        shown = places[:, place]
        is_scored = shown >= 0
        target[is_scored, place] = mass[rows[is_scored], shown[is_scored]]
        expected[:, place] = mass @ values if values.ndim == 2 else (mass[:, None, :] @ values)[:, 0]
        scores[rows[is_scored], shown[is_scored]] = -np.inf
    return target, expected
