"""Impressions, clicks and purchases in; a durable log out.

One line: ``await EventLog.open("sqlite:///events.db", spool=Path("spool")).append([Event(...)])``.
"""

from tailwise.events._attribution import AttributionWindows
from tailwise.events._deletion import Deleted, UserDeletions
from tailwise.events._event import EVENT_TYPES, Appended, Event, EventType, check_event
from tailwise.events._export import Exported
from tailwise.events._log import EventLog, LogState
from tailwise.events._reader import LogReader

__all__ = [
    "EVENT_TYPES",
    "Appended",
    "AttributionWindows",
    "Deleted",
    "Event",
    "EventLog",
    "EventType",
    "Exported",
    "LogReader",
    "LogState",
    "UserDeletions",
    "check_event",
]
