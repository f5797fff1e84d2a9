"""Log, catalogue and segments in, the long tail out: how long it is, who lives in it, what drifts.

Enters: encoded training interactions, the catalogue's table, and
:class:`~tailwise.segments.Segments`. Leaves, of the data side: :class:`DataTail`, made of
:class:`Skew` (Gini, top shares, rare items), :class:`PowerLaw`, :class:`Drift` and a
:class:`ColumnTail` per brand, category or seller; each part can be had alone. A runnable line::

    >>> [(held.interaction_share, held.n_items) for held in measure_skew([6, 2, 1, 1, 0]).holders]
    [(0.2, 1), (0.5, 1), (0.8, 2)]

Enters, of both sides: :class:`Outcomes`, the accuracy of held-out targets beside counts and estimates of
the language model's prior. Leaves: :class:`AccuracyGrid`, and :class:`Attribution` of the gap to the
log and the prior, with :class:`PriorReliability`. :class:`PlantedWorld` makes outcomes of known causes.

What the numbers mean is in docs/diagnosis.md.
"""

from tailwise.diagnosis._attribution import Attribution, GapShares, attribute_gap
from tailwise.diagnosis._column import ColumnTail, segments_by_column
from tailwise.diagnosis._data_tail import DataTail, diagnose_data
from tailwise.diagnosis._drift import Drift, HeadChange, TimeWindow, measure_drift
from tailwise.diagnosis._grid import AccuracyGrid, GridCell, accuracy_grid
from tailwise.diagnosis._outcomes import Outcomes
from tailwise.diagnosis._planted import Planted, PlantedWorld
from tailwise.diagnosis._power_law import PowerLaw, fit_power_law
from tailwise.diagnosis._power_law_rivals import Rival
from tailwise.diagnosis._reliability import PriorReliability, prior_reliability
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
    "ColumnTail",
    "DataTail",
    "Decile",
    "Drift",
    "Estimate",
    "GapShares",
    "GridCell",
    "HeadChange",
    "Holders",
    "Outcomes",
    "Planted",
    "PlantedWorld",
    "PowerLaw",
    "PriorReliability",
    "RareItems",
    "Rival",
    "Skew",
    "SkewIntervals",
    "TimeWindow",
    "Uncertain",
    "accuracy_grid",
    "attribute_gap",
    "bootstrap_skew",
    "diagnose_data",
    "fit_power_law",
    "measure_drift",
    "measure_skew",
    "prior_reliability",
    "segments_by_column",
]
