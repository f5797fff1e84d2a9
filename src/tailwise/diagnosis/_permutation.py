"""What would be found if one side had nothing of its own: the other side held, this one shuffled."""

import numpy as np
from numpy.typing import NDArray

from tailwise.diagnosis._features import BOTH, DATA, PRIOR, Sides, features, predicted
from tailwise.diagnosis._moments import Moments

__all__ = ["permutation_p_values"]

Floats = NDArray[np.float64]
_PER_STRATUM = 10  # items that are shuffled among each other: alike on the side that is held


def permutation_p_values(
    moments: Moments, sides: Sides, *, n_permutations: int, seed: int
) -> tuple[float, float]:
    """Test whether data, and whether the prior, explain anything that the other side does not.

    Items are sorted by the side that is held and cut into strata of ten. What that side does not
    predict of the other one is shuffled within strata, and what the other adds is measured
    again. Nothing but the link to accuracy is broken: correlation of the two sides,
    targets, users and noise stay.

    Returns:
        p values of data and prior: (1 + shuffles that add as much) / (1 + shuffles).
    """
    rng = np.random.default_rng(seed)
    p_data = _p_value(moments, sides, shuffle_data=True, n=n_permutations, rng=rng)
    return p_data, _p_value(moments, sides, shuffle_data=False, n=n_permutations, rng=rng)


def _p_value(
    moments: Moments, sides: Sides, *, shuffle_data: bool, n: int, rng: np.random.Generator
) -> float:
    held, moved = (sides.prior, sides.data) if shuffle_data else (sides.data, sides.prior)
    expected = predicted(moved, held, sides.weights)
    residual = moved - expected
    parts = (PRIOR[-1] if shuffle_data else DATA, BOTH[-1])

    def added(other: Floats) -> float:
        columns = features(other, held) if shuffle_data else features(held, other)
        alone, together = moments.explained(columns, parts)
        return float(together - alone)

    found = added(moved)
    n_as_much = sum(added(expected + residual[_shuffle_within(held, rng)]) >= found for _ in range(n))
    return (1 + n_as_much) / (1 + n)


def _shuffle_within(held: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Permute positions among items that are neighbours on ``held``, ties broken at random."""
    order = np.lexsort((rng.random(held.size), held))
    stratum = np.arange(held.size) // _PER_STRATUM
    shuffled = np.empty_like(order)
    shuffled[order] = order[np.lexsort((rng.random(held.size), stratum))]
    return shuffled
