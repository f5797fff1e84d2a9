"""How much more often the evaluated policy would have shown what was shown: one weight per slot."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tailwise.experiments.ope._log import LoggedLists

__all__ = ["ASSUMPTIONS", "Interaction", "slot_weights"]

Interaction = Literal["list", "cascade", "position"]
"""What a slot's reward may depend on: the whole ``list``; the places down to its own (``cascade``); item
and place alone (``position``)."""

ASSUMPTIONS: dict[Interaction, str] = {
    "list": "a slot's reward may depend on the whole list",
    "cascade": "a slot's reward may depend on the places above it, not on those below",
    "position": "a slot's reward depends on its item and place alone",
}


def slot_weights(
    log: LoggedLists, target: NDArray[np.float64], interaction: Interaction
) -> NDArray[np.float64]:
    """Weigh each slot's reward.

    ``position``: the slot's own ratio of probabilities. ``cascade``: the product of the ratios down to the
    slot (reward-interaction weights). ``list``: the product over the whole list, for all of its slots.

    Args:
        log: Drawn lists. Products are of conditional propensities, the single ratio of marginal ones; in
            lists of one slot all three are the same.
        target: ``[n_slots]``; probabilities of the shown items under the evaluated policy, of the log's kind.
        interaction: See :data:`Interaction`.

    Returns:
        ``[n_slots]`` float64, >= 0.

    Reference:
        McInerney et al. 2020 (cascade); Li et al. 2018 (position).
    """
    ratios = np.asarray(target / log.propensity, np.float64)
    if interaction == "position" or log.n_ordinals == 1:
        return ratios
    padded = np.ones((log.n_lists, log.n_ordinals))
    padded[log.list_of_slot, log.ordinal] = ratios
    products = np.cumprod(padded, axis=1)
    place = log.ordinal if interaction == "cascade" else np.full_like(log.ordinal, -1)
    return np.asarray(products[log.list_of_slot, place], np.float64)
