"""Which items stand for the catalogue in a sampled softmax, and how probable each was to be drawn."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

__all__ = ["NegativeSampler", "Negatives"]

# Apart from each other and from ``SequenceBatches``: numpy takes [seed, epoch, 0] for [seed, epoch].
_ORDER, _DRAW = 1_000_003, 1_000_033


@dataclass(frozen=True)
class Negatives:
    """Items drawn for a batch, the same for all of its targets.

    Attributes:
        items: ``[n]`` int64; distinct, ascending.
        log_inclusion: ``[n]`` float32, <= 0; logarithm of the probability that each is drawn.
    """

    items: Tensor
    log_inclusion: Tensor

    def to(self, device: torch.device) -> "Negatives":
        """Return them on ``device``."""
        return Negatives(self.items.to(device), self.log_inclusion.to(device))


class NegativeSampler:
    """Draws distinct items, popular ones more often, each with a probability that is known.

    Item j is drawn with probability ``π_j = min(1, a (n_j + 1)^power)``, with a such that n are drawn
    on average. A softmax whose sum over the catalogue is replaced by the sum over the drawn items of
    ``exp(score_j) / π_j`` then has the right expectation of that sum; with all items drawn it is the
    softmax itself. The draw is systematic along the order of popularity: as many popular and rare
    items every time. Items of equal count are in an order drawn once, by ``seed``: in that of the catalogue,
    kinds that recur at even distances could be drawn together.

    References: importance sampling of the softmax's sum, Bengio and Senécal (2008); the correction
    of scores by log-probabilities of a popular-first proposal ("logQ"), Yi et al. (RecSys 2019);
    probabilities of inclusion, Horvitz and Thompson (1952).

    Args:
        counts: ``[n_items]`` int, >= 0; training interactions.
        n: Items drawn on average, in 1..n_items. What is drawn is n, or one off.
        power: Of the counts; >= 0. At 0 all items are equally probable.
        seed: Of the draws.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> sampler = NegativeSampler([90, 8, 8, 8], n=2, power=1.0, seed=0)
        >>> sampler.probabilities.round(3)
        array([1.   , 0.333, 0.333, 0.333])
    """

    def __init__(self, counts: ArrayLike, *, n: int, power: float, seed: int) -> None:
        popularity = np.asarray(counts, dtype=np.float64)
        if popularity.ndim != 1 or not popularity.size or not bool((popularity >= 0).all()):
            raise ValueError(f"counts must be a vector of numbers >= 0; got shape {popularity.shape}.")
        if not 1 <= n <= popularity.size:
            raise ValueError(f"n must be in 1..{popularity.size:,}, the size of the catalogue; got {n}.")
        if not 0 <= power < float("inf"):
            raise ValueError(f"power must be a finite number >= 0; got {power}.")
        self.seed = seed
        self.probabilities: NDArray[np.float64] = _inclusion((popularity + 1) ** power, n)
        """``[n_items]`` float64, in (0, 1]; that each item is drawn."""
        is_certain = self.probabilities >= 1
        self._always = np.flatnonzero(is_certain)
        among_equals = np.random.default_rng([seed, _ORDER]).random(popularity.size)
        by_popularity = np.lexsort((among_equals, -popularity))
        self._sometimes = by_popularity[~is_certain[by_popularity]]
        self._ends = np.cumsum(self.probabilities[self._sometimes])

    def draw(self, epoch: int, batch: int) -> Negatives:
        """Draw the items of a batch: a function of seed, epoch and the batch's number alone."""
        rng = np.random.default_rng([self.seed, epoch, batch, _DRAW])
        drawn = self._always
        if self._sometimes.size:
            marks = np.arange(rng.random(), self._ends[-1], 1.0)
            drawn = np.union1d(drawn, self._sometimes[np.searchsorted(self._ends, marks, side="right")])
        items = np.sort(drawn)
        return Negatives(
            torch.from_numpy(items), torch.from_numpy(np.log(self.probabilities[items]).astype(np.float32))
        )


def _inclusion(sizes: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Probabilities in proportion to ``sizes``, none above 1, that add up to ``n``."""
    probabilities = np.ones(sizes.size)
    is_free = np.ones(sizes.size, dtype=np.bool_)
    while is_free.any():
        left = n - (sizes.size - int(is_free.sum()))
        probabilities[is_free] = left * sizes[is_free] / sizes[is_free].sum()
        above = is_free & (probabilities >= 1)
        if not above.any():
            break
        probabilities[above] = 1.0
        is_free &= ~above
    return probabilities
