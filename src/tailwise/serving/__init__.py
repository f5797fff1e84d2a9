"""A request in, a list of items out: models behind a queue, an HTTP interface, and who may use it.

One line: ``answer = await engine.rank(Query(k=10, history=("a", "b")), timeout_s=1.0)``.
"""

from tailwise.serving._batcher import EngineClosedError, OverloadedError
from tailwise.serving._engine import Engine, EngineState
from tailwise.serving._engine_settings import EngineSettings, ItemDtype
from tailwise.serving._exploration import draw_list
from tailwise.serving._known_histories import KnownHistories
from tailwise.serving._lineup import Lineup, Member
from tailwise.serving._protocols import Assignment, ListSink, LiveHistory
from tailwise.serving._records import (
    REFUSED,
    SURFACES,
    Answer,
    Assigned,
    Filters,
    LoggedItem,
    Query,
    ServedList,
    Slot,
    Surface,
)
from tailwise.serving._served_catalogue import ServedCatalogue
from tailwise.serving._served_model import ServedModel
from tailwise.serving._service import (
    Ask,
    EverybodyTo,
    ItemUnknownError,
    Served,
    Service,
    ServiceSettings,
    VariantUnknownError,
)

__all__ = [
    "REFUSED",
    "SURFACES",
    "Answer",
    "Ask",
    "Assigned",
    "Assignment",
    "Engine",
    "EngineClosedError",
    "EngineSettings",
    "EngineState",
    "EverybodyTo",
    "Filters",
    "ItemDtype",
    "ItemUnknownError",
    "KnownHistories",
    "Lineup",
    "ListSink",
    "LiveHistory",
    "LoggedItem",
    "Member",
    "OverloadedError",
    "Query",
    "Served",
    "ServedCatalogue",
    "ServedList",
    "ServedModel",
    "Service",
    "ServiceSettings",
    "Slot",
    "Surface",
    "VariantUnknownError",
    "draw_list",
]
