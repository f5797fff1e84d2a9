"""From explained variances to shares of the two sides, with and without the prior's error."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHARES", "given_counts", "shares_of", "slopes_of"]

Floats = NDArray[np.float64]

SHARES = ("v_data", "v_prior", "v_both", "data", "prior", "data_alone", "prior_alone", "interaction")
_NOTHING_LEFT = 1e-9  # of a variance of 1: rounding
_STEP = 1e-4  # of numerical derivatives, relative; their error, its square, is far below sampling error


def shares_of(moments: Floats, stated: float | None) -> Floats:
    """Turn moments into uncorrected :data:`SHARES`, corrected ones, and the total variance.

    A component of order k in a prior that is normal with reliability r explains r^k of
    what it would explain without error: r is the squared correlation of measured and true
    prior, and E[He_k(true) | measured] = r^(k/2) · He_k(measured). So each order is divided by its
    own power; in V(D,P) r is that among items of equal count.

    Args:
        moments: ``[12]``; explained by data, by the prior up to order 1, 2, 3, by both likewise, total
            variance, and the four means of :func:`~tailwise.diagnosis._reliability.agreement`.
        stated: Reliability where it is known from elsewhere.

    Returns:
        ``[17]``.
    """
    data, p1, p2, p3, b1, b2, b3, total, shared, square, shared_given, square_given = moments
    if stated is None:
        marginal, given = shared / square, _ratio(shared_given, square_given)
    else:
        marginal, given = stated, given_counts(stated, square, square_given)
    out = []
    for r, r_given in ((1.0, 1.0), (marginal, given)):
        v_data = data / total
        v_prior = (p1 / r + (p2 - p1) / r**2 + (p3 - p2) / r**3) / total
        added = ((b1 - data) / r_given + (b2 - b1) / r_given**2 + (b3 - b2) / r_given**3) / total
        v_both = v_data + added
        shapley = [(v_data + v_both - v_prior) / 2, (v_prior + v_both - v_data) / 2]
        out += [v_data, v_prior, v_both, *shapley, v_both - v_prior, added, added - v_prior]
    return np.array([*out, total])


def slopes_of(moments: Floats, stated: float | None) -> Floats:
    """Derivatives of :func:`shares_of` by the moments: ``[12, 17]``, by central differences."""
    rows = []
    for k, moment in enumerate(moments):
        step = np.zeros_like(moments)
        step[k] = _STEP * max(abs(moment), 1e-3 * np.abs(moments).max())
        rows.append((shares_of(moments + step, stated) - shares_of(moments - step, stated)) / (2 * step[k]))
    return np.stack(rows)


def given_counts(reliability: float, square: float, square_given: float) -> float:
    """Reliability among items of equal count: counts take true variance away, but no error.

    Args:
        reliability: Among all items.
        square: Variance of the mean of the estimates.
        square_given: What counts leave of it.

    Example:
        >>> given_counts(0.75, square=1.0, square_given=0.5)  # error ¼ of what is now ½
        0.5
    """
    return 1 - (1 - reliability) * _ratio(square, square_given)


def _ratio(above: float, below: float) -> float:
    """Divide, unless counts predict the prior exactly: then nothing is left, and nothing to correct."""
    return above / below if below > _NOTHING_LEFT else 1.0
