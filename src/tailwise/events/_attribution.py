"""Which list an event is owed to, worked out when the log is read: the order of arrival plays no part."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tailwise.events._rows import Row
from tailwise.events._tables import EVENTS, LISTS

__all__ = ["DEFAULT_WINDOWS", "AttributionWindows", "attribute"]

IDS_AT_ONCE = 500
DAY_S = 86_400.0

OF_LIST = ("surface", "experiment", "variant", "stage", "in_experiment", "model", "method", "is_explored")


@dataclass(frozen=True)
class AttributionWindows:
    """How long before an event its impression may lie, where the event names no list; seconds, >= 0.

    A click follows the sight of an item within a visit or a day; a purchase may take a week.

    Attributes:
        click_s: Of clicks.
        add_to_cart_s: Of additions to a cart.
        purchase_s: Of purchases.
    """

    click_s: float = DAY_S
    add_to_cart_s: float = 7 * DAY_S
    purchase_s: float = 7 * DAY_S

    def __post_init__(self) -> None:
        for name in ("click_s", "add_to_cart_s", "purchase_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be >= 0; got {getattr(self, name)}.")

    @property
    def longest_s(self) -> float:
        """The longest of them."""
        return max(self.click_s, self.add_to_cart_s, self.purchase_s)


DEFAULT_WINDOWS = AttributionWindows()


def attribute(connection: Connection, rows: Sequence[Row], windows: AttributionWindows) -> list[Row]:
    """Find the slot that each event is owed to; one answer per event.

    1. ``named``: the list that the event names, if the log has it, it was not another user's, and the item
       stands in it. Time plays no part.
    2. ``window``: else the latest impression of the item to the user within the window, itself of a list
       by rule 1. Of equal moments the largest ``event_id``. Not for impressions.
    3. ``none``: else.

    Args:
        connection: In a reading transaction.
        rows: Of events, next to each other by ``occurred_at`` and ``seq``, in this order.
        windows: Of rule 2.

    Returns:
        Per row: ``attribution``, ``attributed_id``, ``shown_at`` (the impression's ``occurred_at``; None
        under rule 1), the list's columns, and ``position``, ``segment``, ``propensity`` of the slot.
    """
    candidates = _impressions(connection, rows, windows)
    named = {row["recommendation_id"] for row in rows}
    named |= {list_id for found in candidates.values() for _, _, list_id in found}
    lists = _Lists(connection, named - {None})
    answers = []
    for row in rows:
        answer = lists.answer(row, row["recommendation_id"], "named", None)
        for shown_at, _, list_id in candidates.get(row["seq"], ()) if answer is None else ():
            answer = lists.answer(row, list_id, "window", shown_at)
            if answer is not None:
                break
        answers.append(NOTHING if answer is None else answer)
    return answers


class _Lists:
    """The lists that some events may be owed to."""

    def __init__(self, connection: Connection, ids: Iterable[str]) -> None:
        self._lists: dict[str, Row] = {}
        self._slots: dict[str, dict[str, Any]] = {}
        wanted = list(ids)
        for first in range(0, len(wanted), IDS_AT_ONCE):
            of_ids = LISTS.c.recommendation_id.in_(wanted[first : first + IDS_AT_ONCE])
            columns = [LISTS.c[name] for name in ("recommendation_id", "user_id", "slots", *OF_LIST)]
            for found in connection.execute(sa.select(*columns).where(of_ids)).mappings():
                list_id = found["recommendation_id"]
                self._lists[list_id] = dict(found)
                self._slots[list_id] = {slot[1]: slot for slot in json.loads(found["slots"])}

    def answer(self, row: Row, list_id: str | None, how: str, shown_at: float | None) -> Row | None:
        """The columns, if the list was this user's or an anonymous one, and the item stands in it."""
        if list_id is None or list_id not in self._lists:
            return None
        served, slot = self._lists[list_id], self._slots[list_id].get(row["item_id"])
        if slot is None or served["user_id"] not in (None, row["user_id"]):
            return None
        position, _, _, segment, propensity = slot
        return {
            "attribution": how,
            "attributed_id": list_id,
            "shown_at": shown_at,
            **{name: served[name] for name in OF_LIST},
            "position": position,
            "segment": segment,
            "propensity": propensity,
        }


NOTHING: Row = {
    "attribution": "none",
    "attributed_id": None,
    "shown_at": None,
    **dict.fromkeys(OF_LIST),
    "position": None,
    "segment": None,
    "propensity": None,
}


def _impressions(
    connection: Connection, rows: Sequence[Row], windows: AttributionWindows
) -> dict[int, list[tuple[float, str, str]]]:
    """By an event's ``seq``: when its item was shown before, by which event, in which list; latest first."""
    if not rows:
        return {}
    event, shown = EVENTS.alias("e"), EVENTS.alias("i")
    place = sa.tuple_(event.c.occurred_at, event.c.seq)
    window = sa.case(
        (event.c.type == "click", windows.click_s),
        (event.c.type == "add-to-cart", windows.add_to_cart_s),
        else_=windows.purchase_s,
    )
    statement = (
        sa.select(event.c.seq, shown.c.occurred_at, shown.c.event_id, shown.c.recommendation_id)
        .join(shown, sa.and_(shown.c.user_id == event.c.user_id, shown.c.item_id == event.c.item_id))
        .where(
            # Written out, not bound: only so the partial indexes are known to fit.
            sa.text("e.type <> 'impression' AND i.type = 'impression'"),
            place >= sa.tuple_(rows[0]["occurred_at"], rows[0]["seq"]),
            place <= sa.tuple_(rows[-1]["occurred_at"], rows[-1]["seq"]),
            shown.c.recommendation_id.is_not(None),
            shown.c.occurred_at <= event.c.occurred_at,
            shown.c.occurred_at >= event.c.occurred_at - window,
        )
    )
    found: dict[int, list[tuple[float, str, str]]] = {}
    for seq, shown_at, event_id, list_id in connection.execute(statement):
        found.setdefault(seq, []).append((shown_at, event_id, list_id))
    for impressions in found.values():
        impressions.sort(reverse=True)  # here, as a database may order text by the rules of a language
    return found
