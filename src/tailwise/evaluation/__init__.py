"""Scores and held-out rows in, metrics per segment with intervals out.

Enters: a function that scores the catalogue for histories, the held-out targets of
each user, and :class:`~tailwise.segments.Segments`. Leaves: :class:`Rankings` (where
each target landed, what was recommended), rows of ``metrics.json``, and
:class:`PairedDifference` for every claim of "better". A runnable line::

    >>> r = rank_targets(lambda h: np.ones((len(h), 9)), [[0]], [0, 1], [4], n_items=9, list_length=5)
    >>> mean_ndcg(r, k=1)  # one of eight unseen items, all tied
    0.125

Every definition is in docs/metrics.md.
"""

from tailwise.evaluation._accuracy import METRICS, mean_ndcg, target_values
from tailwise.evaluation._compare import PairedDifference, compare, compare_variants
from tailwise.evaluation._evaluate import accuracy, evaluate_variant, exposure, exposure_deciles
from tailwise.evaluation._exposure import USER_MEANS
from tailwise.evaluation._rank_targets import rank_targets
from tailwise.evaluation._rankings import UNRANKED, Rankings

__all__ = [
    "METRICS",
    "UNRANKED",
    "USER_MEANS",
    "PairedDifference",
    "Rankings",
    "accuracy",
    "compare",
    "compare_variants",
    "evaluate_variant",
    "exposure",
    "exposure_deciles",
    "mean_ndcg",
    "rank_targets",
    "target_values",
]
