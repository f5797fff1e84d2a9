"""What would be found if one side had nothing of its own: the other side held, this one shuffled."""

import numpy as np
from numpy.typing import NDArray

from tailwise.diagnosis._added import Added, precisions
from tailwise.diagnosis._features import (
    BOTH,
    DATA,
    PRIOR,
    STRAIGHT_DATA,
    STRAIGHT_PRIOR,
    Sides,
    features,
    polynomial_residuals,
)
from tailwise.diagnosis._moments import Moments
from tailwise.diagnosis._two_way import group_sums

__all__ = ["permutation_p_values"]

Floats = NDArray[np.float64]
_PER_STRATUM = 25  # items that are shuffled among each other, at least: alike on the side that is held


def permutation_p_values(
    moments: Moments, sides: Sides, value: Floats, *, n_permutations: int, seed: int
) -> tuple[float, float]:
    """Test whether data, and whether the prior, explain anything that the other side does not.

    What the side that is held does not predict of the other one is shuffled among items that are
    neighbours on it, and what the other adds is measured again. Nothing but the link to accuracy
    is broken: correlation of the two sides, targets, users and noise stay.

    What is added is the sum of two, each in units of its chance: by a straight line, which finds
    the usual effect with little noise, and by the whole polynomial, which finds others too. Items
    weigh by the precision of their mean accuracy, whatever they weigh in the shares.

    Args:
        moments: The targets, with parts ``(DATA, *PRIOR, *BOTH)``.
        sides: Both popularities of the items.
        value: What ``moments()`` gives.
        n_permutations: Of either test.
        seed: Of the shuffles.

    Returns:
        p values of data and prior: (1 + shuffles that add as much) / (1 + shuffles).
    """
    rng = np.random.default_rng(seed)
    n_targets = group_sums(moments.items, None, moments.n_items)
    by_data, by_prior, total = (float(value[k]) for k in (0, len(PRIOR), len(moments.parts)))
    noise = float(np.average(moments.y**2, weights=moments.omega)) - total

    def test(held: Floats, moved: Floats, by_held: float, *, moves_data: bool) -> float:
        weights = precisions(n_targets, between=max(total - by_held, 0.0), noise=max(noise, 0.0))
        added = Added(moments, weights)
        fewer, line = (PRIOR[-1], STRAIGHT_DATA) if moves_data else (DATA, STRAIGHT_PRIOR)
        expected, residual = polynomial_residuals(moved, held)

        def measure(other: Floats) -> float:
            columns = features(other, held) if moves_data else features(held, other)
            return added(columns, fewer, (line, BOTH[-1]))

        found = measure(moved)
        shuffles = (expected + residual[_shuffle_within(held, rng)] for _ in range(n_permutations))
        return (1 + sum(measure(other) >= found for other in shuffles)) / (1 + n_permutations)

    p_data = test(sides.prior, sides.data, by_prior, moves_data=True)
    return p_data, test(sides.data, sides.prior, by_data, moves_data=False)


def _shuffle_within(held: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Permute positions among items that are neighbours on ``held``, ties broken at random."""
    order = np.lexsort((rng.random(held.size), held))
    n_strata = max(held.size // _PER_STRATUM, 1)
    stratum = np.arange(held.size) * n_strata // held.size
    shuffled = np.empty_like(order)
    shuffled[order] = order[np.lexsort((rng.random(held.size), stratum))]
    return shuffled
