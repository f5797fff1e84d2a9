"""A request in, a list of items out: models behind a queue, an HTTP interface, and who may use it."""

from tailwise.serving._batcher import EngineClosedError, OverloadedError
from tailwise.serving._engine import Engine, EngineState
from tailwise.serving._engine_settings import EngineSettings, ItemDtype
from tailwise.serving._exploration import draw_list
from tailwise.serving._known_histories import KnownHistories
from tailwise.serving._protocols import Assignment, ListSink, LiveHistory
from tailwise.serving._records import (
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

__all__ = [
    "SURFACES",
    "Answer",
    "Assigned",
    "Assignment",
    "Engine",
    "EngineClosedError",
    "EngineSettings",
    "EngineState",
    "Filters",
    "ItemDtype",
    "KnownHistories",
    "ListSink",
    "LiveHistory",
    "LoggedItem",
    "OverloadedError",
    "Query",
    "ServedCatalogue",
    "ServedList",
    "ServedModel",
    "Slot",
    "Surface",
    "draw_list",
]
