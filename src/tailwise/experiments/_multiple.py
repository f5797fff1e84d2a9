"""Several metrics at once: Holm's correction, which asks nothing of how they hang together."""

from collections.abc import Sequence

import numpy as np

__all__ = ["holm"]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that rejecting those <= α errs at all with probability <= α.

    True whatever the dependence; and, since always-valid p-values are p-values at any stopping time, at
    whatever moment somebody chooses to look.

    Args:
        p_values: One per metric, each in [0, 1].

    Returns:
        Adjusted values, in the order given.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Reference:
        Holm, A simple sequentially rejective multiple test procedure (1979).
    """
    given = np.asarray(p_values, dtype=np.float64)
    if given.size and not ((given >= 0) & (given <= 1)).all():
        raise ValueError(f"p_values must be in [0, 1]; got {list(p_values)}.")
    order = np.argsort(given, kind="stable")
    factors = given.size - np.arange(given.size)
    stepped = np.minimum(np.maximum.accumulate(given[order] * factors), 1.0)
    adjusted = np.empty_like(stepped)
    adjusted[order] = stepped
    return [float(value) for value in adjusted]
