"""Records as rows of the tables: what is inserted, and what a spool holds as JSON."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tailwise.events._event import MONEY_DIGITS, Event, check_text
from tailwise.serving import ServedList

__all__ = ["Row", "event_of", "is_same_event", "row_of_event", "row_of_list"]

Row = dict[str, Any]  # by column; text, numbers, booleans and None only, so that JSON carries it

MONEY_SCALE = 10**MONEY_DIGITS


def row_of_event(event: Event, received_at: float) -> Row:
    """Return an event's row; ``received_at`` is for events that do not say it."""
    return {
        "event_id": event.event_id,
        "type": event.type,
        "user_id": event.user_id,
        "item_id": event.item_id,
        "occurred_at": event.occurred_at,
        "received_at": received_at if event.received_at is None else event.received_at,
        "recommendation_id": event.recommendation_id,
        "position": event.position,
        "session_id": event.session_id,
        "quantity": event.quantity,
        "revenue_e4": None if event.revenue is None else int(event.revenue * MONEY_SCALE),
        "currency": event.currency,
    }


def event_of(row: Mapping[str, Any]) -> Event:
    """Return the event of a row."""
    given = {name: value for name, value in row.items() if name not in ("seq", "revenue_e4")}
    minor = row["revenue_e4"]
    return Event(**given, revenue=None if minor is None else Decimal(minor).scaleb(-MONEY_DIGITS))


def is_same_event(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two rows of one id say the same of the user; when they arrived does not matter."""
    return all(one[name] == other[name] for name in one if name not in ("seq", "received_at"))


def row_of_list(served: ServedList) -> Row:
    """Return a served list's row, its slots as JSON.

    Raises:
        ValueError: an id breaks the rules of ids, or a number is not finite.
    """
    if fault := check_text("recommendation_id", served.recommendation_id):
        raise ValueError(fault)
    if served.user_id is not None and (fault := check_text("user_id", served.user_id)):
        raise ValueError(fault)
    answer = served.answer
    slots = [[s.position, s.item_id, s.score, s.segment, s.propensity] for s in answer.slots]
    return {
        "recommendation_id": served.recommendation_id,
        "served_at": float(served.served_at),
        "surface": served.surface,
        "user_id": served.user_id,
        "variant": served.assigned.variant,
        "experiment": served.assigned.experiment,
        "stage": served.assigned.stage,
        "in_experiment": served.assigned.in_experiment,
        "model": served.model,
        "method": answer.method,
        "reason": answer.reason,
        "is_explored": answer.is_explored,
        "temperature": answer.temperature,
        "n_candidates": answer.n_candidates,
        "history_length": answer.history_length,
        "unknown_items": _json(list(answer.unknown_items)),
        "latency_ms": float(served.latency_ms),
        "context": _json(dict(served.context)),
        "slots": _json(slots),
    }


def _json(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII: no text that a database refuses
