"""What the log and the prior add to or take from the accuracy of each single item."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailwise.diagnosis._features import BOTH, DATA, PRIOR, Sides, features
from tailwise.diagnosis._outcomes import Outcomes
from tailwise.diagnosis._two_way import group_sums

__all__ = ["ItemShares", "item_shares"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ItemShares:
    """Predicted accuracy of every item, shared out between the two sides.

    Attributes:
        mean: Accuracy over all targets, which the effects are measured from.
        data: ``[n_items]``; φ_data, in the units of accuracy.
        prior: ``[n_items]``; φ_prior. With ``mean`` and ``data`` it adds up to ``predicted``.
        predicted: ``[n_items]``; from both sides.
        is_extrapolated: ``[n_items]`` bool; the item lies beyond the items that have targets, on
            one side or both, and is taken for one at their edge.
    """

    mean: float
    data: Floats
    prior: Floats
    predicted: Floats
    is_extrapolated: NDArray[np.bool_]


def item_shares(outcomes: Outcomes) -> ItemShares:
    """Share what both popularities predict of each item's accuracy out between them.

    f_D, f_P and f_DP are least-squares polynomials of :func:`attribute_gap`, fitted to the items that
    have targets, each weighing as often as it is a target, and read at every item of the catalogue.
    With m the mean, φ_data(i) = ½[(f_D(i) − m) + (f_DP(i) − f_P(i))], φ_prior(i) likewise; the two add
    up to f_DP(i) − m. They describe what goes with an item's popularities on average, not this item's own
    luck; the error of the prior's estimates is not taken out.

    Args:
        outcomes: Accuracy of held-out targets and both popularities of all items.

    Returns:
        :class:`ItemShares`.

    Example:
        >>> from tailwise.diagnosis._planted import PlantedWorld
        >>> found = item_shares(PlantedWorld().draw(seed=0).outcomes)
        >>> bool(np.allclose(found.data + found.prior, found.predicted - found.mean))
        True
    """
    n_targets = group_sums(outcomes.items, n_groups=outcomes.n_items)
    total = group_sums(outcomes.items, outcomes.accuracy, outcomes.n_items)
    has_targets = n_targets > 0
    sides = Sides.measure(outcomes.counts, outcomes.priors, n_targets)
    data, data_beyond = _within(sides.data, has_targets)
    prior, prior_beyond = _within(sides.prior, has_targets)
    columns = features(data, prior)  # [n_items, 10]
    root = np.sqrt(n_targets[has_targets])
    values = total[has_targets] / root  # mean accuracy times root
    mean = float(outcomes.accuracy.mean())

    def fitted(chosen: tuple[int, ...]) -> Floats:
        x = columns[:, chosen]
        coefficients = np.linalg.lstsq(x[has_targets] * root[:, None], values, rcond=1e-8)[0]
        return np.asarray(x @ coefficients, dtype=np.float64)

    by_data, by_prior, by_both = fitted(DATA), fitted(PRIOR[-1]), fitted(BOTH[-1])
    return ItemShares(
        mean=mean,
        data=((by_data - mean) + (by_both - by_prior)) / 2,
        prior=((by_prior - mean) + (by_both - by_data)) / 2,
        predicted=by_both,
        is_extrapolated=data_beyond | prior_beyond,
    )


def _within(values: Floats, has_targets: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    """Move values beyond those of items with targets to their edge, and say which were moved."""
    known = values[has_targets]
    inside = np.clip(values, known.min(), known.max())
    return inside, inside != values
