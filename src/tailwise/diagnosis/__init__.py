"""Log, catalogue and segments in, the long tail out: how long it is, who lives in it, what drifts.

Enters: encoded training interactions, the catalogue's table, and
:class:`~tailwise.segments.Segments`. Leaves, of the data side: :class:`DataTail`, made of
:class:`Skew` (Gini, top shares, rare items), :class:`PowerLaw`, :class:`Drift` and a
:class:`ColumnTail` per brand, category or seller; each part can be had alone. A runnable line::

    >>> [(held.interaction_share, held.n_items) for held in measure_skew([6, 2, 1, 1, 0]).holders]
    [(0.2, 1), (0.5, 1), (0.8, 2)]

Enters, of the prior side: titles and an un-tuned language model. Leaves: :class:`PriorDiagnosis`, what
the model knew of each item by three ways of asking (:func:`measure_prior`,
:func:`measure_output_frequency`), how far they agree with each other and with the log.

Enters, of both sides: :class:`Outcomes`, the accuracy of held-out targets beside counts and estimates of
the language model's prior. Leaves: :class:`AccuracyGrid`, and :class:`Attribution` of the gap to the
log and the prior, with :class:`PriorReliability`. :class:`PlantedWorld` makes outcomes of known causes.

Enters, of a trained model: a recommender and training histories. Leaves: :class:`Sharpness`, how much
the loss of each popularity group rises nearby (:func:`recommender_sharpness`), compared before and after
(:func:`compare_sharpness`), and :class:`Curvature`. And of lists: :func:`neglected_items`.

Enters, of counts and item weights alone: the terms of a generalisation bound, :class:`BoundTerms`, and
:func:`compare_penalties`, item-wise against uniform (docs/theory.md).

What the numbers mean is in docs/diagnosis.md.
"""

from tailwise.diagnosis._attribution import Attribution, GapShares, attribute_gap
from tailwise.diagnosis._bound import (
    BoundTerms,
    PenaltyComparison,
    compare_penalties,
    generalisation_bound,
)
from tailwise.diagnosis._column import ColumnTail, segments_by_column
from tailwise.diagnosis._curvature import Curvature, GroupCurvature, measure_curvature
from tailwise.diagnosis._data_tail import DataTail, diagnose_data
from tailwise.diagnosis._drift import Drift, HeadChange, TimeWindow, measure_drift
from tailwise.diagnosis._grid import AccuracyGrid, GridCell, accuracy_grid
from tailwise.diagnosis._group_targets import GroupTargets
from tailwise.diagnosis._item_shares import ItemShares, item_shares
from tailwise.diagnosis._measure_sharpness import measure_sharpness
from tailwise.diagnosis._neglect import count_slots, neglected_items
from tailwise.diagnosis._outcomes import Outcomes
from tailwise.diagnosis._output_frequency import OutputFrequency, measure_output_frequency
from tailwise.diagnosis._planted import Planted, PlantedWorld
from tailwise.diagnosis._power_law import PowerLaw, fit_power_law
from tailwise.diagnosis._power_law_rivals import Rival
from tailwise.diagnosis._prior import PriorDiagnosis, measure_prior
from tailwise.diagnosis._prior_estimate import PriorCost, PriorEstimate
from tailwise.diagnosis._recommender_targets import recommender_curvature, recommender_sharpness
from tailwise.diagnosis._reliability import PriorReliability, prior_reliability
from tailwise.diagnosis._sharpness import GroupSharpness, Sharpness
from tailwise.diagnosis._sharpness_comparison import SharpnessComparison, compare_sharpness
from tailwise.diagnosis._skew import (
    Decile,
    Estimate,
    Holders,
    RareItems,
    Skew,
    SkewIntervals,
    bootstrap_skew,
    measure_skew,
)
from tailwise.diagnosis._uncertain import Uncertain

__all__ = [
    "AccuracyGrid",
    "Attribution",
    "BoundTerms",
    "ColumnTail",
    "Curvature",
    "DataTail",
    "Decile",
    "Drift",
    "Estimate",
    "GapShares",
    "GridCell",
    "GroupCurvature",
    "GroupSharpness",
    "GroupTargets",
    "HeadChange",
    "Holders",
    "ItemShares",
    "Outcomes",
    "OutputFrequency",
    "PenaltyComparison",
    "Planted",
    "PlantedWorld",
    "PowerLaw",
    "PriorCost",
    "PriorDiagnosis",
    "PriorEstimate",
    "PriorReliability",
    "RareItems",
    "Rival",
    "Sharpness",
    "SharpnessComparison",
    "Skew",
    "SkewIntervals",
    "TimeWindow",
    "Uncertain",
    "accuracy_grid",
    "attribute_gap",
    "bootstrap_skew",
    "compare_penalties",
    "compare_sharpness",
    "count_slots",
    "diagnose_data",
    "fit_power_law",
    "generalisation_bound",
    "item_shares",
    "measure_curvature",
    "measure_drift",
    "measure_output_frequency",
    "measure_prior",
    "measure_sharpness",
    "measure_skew",
    "neglected_items",
    "prior_reliability",
    "recommender_curvature",
    "recommender_sharpness",
    "segments_by_column",
]
