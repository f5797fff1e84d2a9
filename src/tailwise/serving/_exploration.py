"""Draw a list in place of taking the best, and say how likely each slot was."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["draw_list"]


def draw_list(
    scores: ArrayLike, k: int, *, temperature: float, seed: int | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw ``k`` candidates without replacement, each place in proportion to ``exp(score / temperature)``.

    Gumbel top-k: the order of ``score / temperature`` plus independent Gumbel noise is that of drawing
    one after the other, each time among those that are left (Plackett-Luce). The probability of a whole
    list is the product of its slots' propensities.

    Args:
        scores: ``[n]`` finite; of the candidates, in a fixed order.
        k: Places; fewer are filled where there are fewer candidates.
        temperature: > 0, in units of score. Towards 0 the list becomes that of the best.
        seed: One number, one list. None: fresh randomness.

    Returns:
        ``[min(k, n)]`` positions of the drawn in ``scores``, and the propensity of each: the probability
        of this candidate in this place given the places before, in (0, 1].

    Raises:
        ValueError: ``temperature`` is not above 0, or a score is not finite.

    Example:
        >>> draw_list([2.0, 0.0, 1.0], 2, temperature=0.001, seed=7)
        (array([0, 2]), array([1., 1.]))

    Reference:
        Kool et al., Stochastic beams and where to find them (arXiv:1903.06059).
    """
    if not (temperature > 0 and np.isfinite(temperature)):
        raise ValueError(f"temperature must be above 0 and finite; got {temperature}.")
    logits = np.asarray(scores, dtype=np.float64) / temperature
    if not bool(np.isfinite(logits).all()):
        raise ValueError(
            f"scores over temperature must be finite; got {int((~np.isfinite(logits)).sum())} others among "
            f"{logits.size}.\n  Leave out what may not be listed, or raise the temperature ({temperature})."
        )
    noise = np.random.default_rng(seed).gumbel(size=logits.size)
    drawn = np.argsort(-(logits + noise), kind="stable")
    in_order = logits[drawn]
    # Of each place: log of the sum over this candidate and all that come after it, the smallest first.
    left = np.logaddexp.accumulate(in_order[::-1])[::-1]
    propensities = np.exp(np.minimum(in_order - left, 0.0))[:k]
    return drawn[:k], np.maximum(propensities, np.finfo(np.float64).tiny)
