"""Training counts in, segments out: which items are head, (mid,) tail and cold.

Enters: the encoded training interactions, or the count of each item. Leaves:
:class:`Segments`, the popularity decile of each item, and how concentrated the
interactions are (:class:`Concentration`). A runnable line::

    >>> segment_items(np.array([50, 9, 7, 2, 1, 0])).as_dict()["segments"][0]["name"]
    'head'
"""

from tailwise.segments._column_values import ColumnValues, column_values
from tailwise.segments._concentration import Concentration, concentration, gini
from tailwise.segments._deciles import COLD_DECILE, popularity_deciles
from tailwise.segments._popularity import PopularityWindow, popularity
from tailwise.segments._rules import RULES, segment_items
from tailwise.segments._segments import COLD, OVERALL, Segments

__all__ = [
    "COLD",
    "COLD_DECILE",
    "OVERALL",
    "RULES",
    "ColumnValues",
    "Concentration",
    "PopularityWindow",
    "Segments",
    "column_values",
    "concentration",
    "gini",
    "popularity",
    "popularity_deciles",
    "segment_items",
]
