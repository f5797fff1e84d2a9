"""Scores and held-out rows in, metrics per segment with intervals out.

Enters: a function that scores the catalogue for histories, the held-out targets of
each user, and :class:`~tailwise.segments.Segments`. Leaves: :class:`Rankings` (where
each target landed, what was recommended), rows of ``metrics.json``, and
:class:`PairedDifference` for every claim of "better". A runnable line::

    >>> r = rank_targets(lambda h: np.ones((len(h), 9)), [[0]], [0, 1], [4], n_items=9, list_length=5)
    >>> mean_ndcg(r, k=1)  # one of eight unseen items, all tied
    0.125

Lists of any system become :class:`Rankings` too: :func:`read_lists`, then :func:`encode_lists`, which
counts everything irregular in :class:`ListChecks`. Who gets the slots by brand or category is
:class:`ColumnExposure`; what users like of the tail against what they are shown, :class:`TasteForTheTail`.
Many settings at once are :func:`relative_difference`, a rival's knob is :func:`beyond_curve`, money is
:func:`compare_revenue`.

Every definition is in docs/metrics.md and docs/recommendation-lists.md.
"""

from tailwise.evaluation._accuracy import METRICS, mean_ndcg, target_values
from tailwise.evaluation._beyond_curve import BeyondCurve, ResampledRuns, beyond_curve
from tailwise.evaluation._column_exposure import ColumnExposure, exposure_by_column
from tailwise.evaluation._compare import PairedDifference, compare, compare_variants
from tailwise.evaluation._encode_lists import encode_lists
from tailwise.evaluation._evaluate import accuracy, evaluate_variant, exposure, exposure_deciles
from tailwise.evaluation._exposure import USER_MEANS
from tailwise.evaluation._given_lists import LISTS_METADATA, GivenLists, check_lists, read_lists
from tailwise.evaluation._list_checks import ListChecks
from tailwise.evaluation._pooled import (
    NonInferiority,
    PairedRuns,
    RelativeDifference,
    holm,
    non_inferiority,
    relative_difference,
    user_gains,
)
from tailwise.evaluation._rank_targets import TieOrder, rank_targets
from tailwise.evaluation._rankings import UNRANKED, Rankings, join_rankings
from tailwise.evaluation._revenue import CapturedShare, compare_revenue, compare_sell_through
from tailwise.evaluation._taste import TASTE_GROUPS, TasteForTheTail, TasteGroup, taste_for_the_tail
from tailwise.evaluation._user_sums import UserSums
from tailwise.evaluation._with_interval import WithInterval

__all__ = [
    "LISTS_METADATA",
    "METRICS",
    "TASTE_GROUPS",
    "UNRANKED",
    "USER_MEANS",
    "BeyondCurve",
    "CapturedShare",
    "ColumnExposure",
    "GivenLists",
    "ListChecks",
    "NonInferiority",
    "PairedDifference",
    "PairedRuns",
    "Rankings",
    "RelativeDifference",
    "ResampledRuns",
    "TasteForTheTail",
    "TasteGroup",
    "TieOrder",
    "UserSums",
    "WithInterval",
    "accuracy",
    "beyond_curve",
    "check_lists",
    "compare",
    "compare_revenue",
    "compare_sell_through",
    "compare_variants",
    "encode_lists",
    "evaluate_variant",
    "exposure",
    "exposure_by_column",
    "exposure_deciles",
    "holm",
    "join_rankings",
    "mean_ndcg",
    "non_inferiority",
    "rank_targets",
    "read_lists",
    "relative_difference",
    "target_values",
    "taste_for_the_tail",
    "user_gains",
]
