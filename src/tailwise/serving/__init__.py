"""A request in, a list of items out: models behind a queue, an HTTP interface, and who may use it."""

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

__all__ = [
    "SURFACES",
    "Answer",
    "Assigned",
    "Assignment",
    "Filters",
    "ListSink",
    "LiveHistory",
    "LoggedItem",
    "Query",
    "ServedList",
    "Slot",
    "Surface",
]
