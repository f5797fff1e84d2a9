"""Training histories as batches in which every position is a target and little is padding."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from tailwise.recommenders._negatives import Negatives, NegativeSampler

__all__ = [
    "SequenceBatch",
    "SequenceBatches",
    "checked_weights",
    "deal",
    "draw_histories",
    "pad_right",
    "with_targets",
]

Window = TypeVar("Window")
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class SequenceBatch:
    """Rows of items, padded on the right; causal models never look there.

    Attributes:
        inputs: ``[rows, positions]`` int64; item at each position, 0 as padding.
        targets: ``[rows, positions]`` int64; the item that follows, -1 where there is none.
        negatives: Items that stand for the catalogue in the softmax; None for all of it.
    """

    inputs: Tensor
    targets: Tensor
    negatives: Negatives | None = None

    def rows(self, rows: Tensor) -> "SequenceBatch":
        """Return the part of the batch that holds ``rows`` (int64 positions)."""
        if len(rows) == len(self.inputs):
            return self
        return replace(self, inputs=self.inputs[rows], targets=self.targets[rows])

    def part(self, rows: slice) -> "SequenceBatch":
        """Return the part of the batch that holds consecutive rows."""
        return replace(self, inputs=self.inputs[rows], targets=self.targets[rows])

    def to(self, device: torch.device) -> "SequenceBatch":
        """Return the batch on ``device``."""
        negatives = None if self.negatives is None else self.negatives.to(device)
        return SequenceBatch(self.inputs.to(device), self.targets.to(device), negatives)

    @property
    def n_targets(self) -> int:
        """Number of positions that hold a target."""
        return int((self.targets >= 0).sum())


class SequenceBatches:
    """Cuts histories into windows and deals them out in batches of similar length.

    A history of length L gives L-1 targets, each in exactly one window per epoch. A window
    after the first begins with the last item of the one before it. Where the cuts fall is
    drawn anew every epoch, so that over time every target is seen with long and with short
    context. Batches hold windows of similar length, up to a number of positions rather
    than of rows, and come in random order. Everything drawn is a function of
    ``(seed, epoch)``: an interrupted epoch can be taken up at any batch.

    With ``history_weights`` histories are re-sampled: in every epoch one of weight w appears
    ⌊w⌋ times, and once more with probability w − ⌊w⌋. An epoch holds as many histories as
    without, in expectation; how many targets they bring depends on their lengths.

    Args:
        histories: One per user; item indices, oldest first. Histories of fewer than two
            items hold no target and are left out.
        max_length: Positions of a window at most, >= 1.
        positions_per_batch: Positions of a batch at most, padding included;
            >= ``max_length``.
        seed: Of cuts, order and re-sampling.
        history_weights: ``[len(histories)]`` floating, each >= 0, of mean 1 over the histories that
            hold a target; see ``optim.row_sampling_weights``. None takes each history once.
        negatives: Draws the items that stand for the catalogue, anew for every batch; None for all of it.

    Raises:
        ValueError: a limit or a weight is out of range, or no history holds a target.
    """

    def __init__(
        self,
        histories: Sequence[np.ndarray],
        *,
        max_length: int,
        positions_per_batch: int,
        seed: int,
        history_weights: np.ndarray | None = None,
        negatives: NegativeSampler | None = None,
    ) -> None:
        if max_length < 1:
            raise ValueError(f"max_length must be >= 1; got {max_length}.")
        if positions_per_batch < max_length:
            raise ValueError(
                f"positions_per_batch must be at least max_length ({max_length}); got {positions_per_batch}."
            )
        self._histories = with_targets(histories)
        self._weights = None if history_weights is None else checked_weights(history_weights, histories)
        self.max_length = max_length
        self.positions_per_batch = positions_per_batch
        self.seed = seed
        self._negatives = negatives

    @property
    def n_targets(self) -> int:
        """Number of targets of an epoch that takes each history once."""
        return sum(len(h) - 1 for h in self._histories)

    def epoch(self, epoch: int) -> list[SequenceBatch]:
        """Return the batches of one epoch, in their order."""
        rng = np.random.default_rng([self.seed, epoch])
        drawn = draw_histories(self._histories, self._weights, rng)
        windows = [w for h in drawn for w in self._windows(h, rng)]
        lengths = np.array([len(w) - 1 for w in windows])
        in_order = deal(windows, lengths, _batch, positions_per_batch=self.positions_per_batch, rng=rng)
        if self._negatives is None:
            return in_order
        return [replace(b, negatives=self._negatives.draw(epoch, n)) for n, b in enumerate(in_order)]

    def _windows(self, history: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
        n_targets = len(history) - 1
        if n_targets <= self.max_length:
            yield history
            return
        stop = int(rng.integers(1, self.max_length + 1))  # targets of the first window
        start = 0
        while start < n_targets:
            yield history[start : stop + 1]
            start, stop = stop, min(stop + self.max_length, n_targets)


def with_targets(histories: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the histories that hold a target, as int64.

    Raises:
        ValueError: there is none.
    """
    found = [np.asarray(h, dtype=np.int64) for h in histories if len(h) >= 2]
    if not found:
        raise ValueError(
            f"histories must hold a target; got {len(histories)} histories of fewer than two items."
        )
    return found


def draw_histories(
    histories: Sequence[np.ndarray], weights: np.ndarray | None, rng: np.random.Generator
) -> Sequence[np.ndarray]:
    """Return the histories of one epoch; without weights nothing is drawn, and each comes once."""
    if weights is None:
        return histories
    whole = np.floor(weights)
    times = (whole + (rng.random(len(whole)) < weights - whole)).astype(np.int64)
    return [h for h, n in zip(histories, times, strict=True) for _ in range(n)]


def deal(
    windows: Sequence[Window],
    lengths: np.ndarray,
    collate: Callable[[list[Window]], Batch],
    *,
    positions_per_batch: int,
    rng: np.random.Generator,
) -> list[Batch]:
    """Deal windows out in batches of similar length, in random order.

    Args:
        windows: What a row is made of.
        lengths: ``[len(windows)]``; positions of each.
        collate: Makes a batch of several, the longest first.
        positions_per_batch: Of a batch at most, padding included; a longer window has one to itself.
        rng: Breaks ties between equal lengths, and orders the batches.
    """
    order = np.lexsort((rng.random(len(windows)), -lengths))  # longest first, random within a length
    groups = _groups(order, lengths, positions_per_batch)
    batches = [collate([windows[i] for i in group]) for group in groups]
    return [batches[i] for i in rng.permutation(len(batches))]


def _groups(order: np.ndarray, lengths: np.ndarray, positions_per_batch: int) -> Iterator[np.ndarray]:
    begin = 0
    while begin < len(order):
        n_rows = max(1, positions_per_batch // int(lengths[order[begin]]))
        yield order[begin : begin + n_rows]
        begin += n_rows


def checked_weights(weights: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
    """Return the weights of the histories that hold a target, float64.

    Raises:
        ValueError: they do not fit the histories, are out of range, or their mean is not 1.
    """
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (len(histories),):
        raise ValueError(
            f"history_weights must have one entry per history, shape {(len(histories),)}; got {given.shape}."
        )
    wrong = np.flatnonzero(~(np.isfinite(given) & (given >= 0)))
    if wrong.size:
        raise ValueError(
            f"history_weights must be finite and >= 0; got {given[wrong[0]]} for history {wrong[0]} "
            f"({wrong.size:,} in all)."
        )
    used = given[[len(h) >= 2 for h in histories]]
    if abs(used.mean() - 1) > 1e-5:  # float32 weights, rounded one by one, miss 1 by less than 1e-6
        raise ValueError(
            f"history_weights must have mean 1 over the histories that hold a target; got {used.mean():g}. "
            "Divide them by it."
        )
    return used


def _batch(windows: Sequence[np.ndarray]) -> SequenceBatch:
    return SequenceBatch(
        pad_right([w[:-1] for w in windows], fill=0), pad_right([w[1:] for w in windows], fill=-1)
    )


def pad_right(sequences: Sequence[np.ndarray], *, fill: int) -> Tensor:
    """Return ``[len(sequences), longest]`` int64; a position holds ``fill`` past its sequence's end."""
    padded = np.full((len(sequences), max(1, *(len(s) for s in sequences))), fill, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = sequence
    return torch.from_numpy(padded)
