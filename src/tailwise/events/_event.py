"""What a shop tells the log that a user did, and the rules that every field must keep."""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from decimal import Decimal
from typing import Any, Literal, cast

__all__ = ["EVENT_TYPES", "Appended", "Event", "EventType", "check_event", "check_text"]

EventType = Literal["impression", "click", "add-to-cart", "purchase"]
EVENT_TYPES: tuple[EventType, ...] = ("impression", "click", "add-to-cart", "purchase")

LONGEST_ID = 256  # characters of any id
EARLIEST, LATEST = 946_684_800.0, 4_102_444_800.0  # 2000-01-01 and 2100-01-01: rules no clock of ours out
MOST_POSITION = 100_000
MOST_QUANTITY = 1_000_000
MOST_REVENUE = 10**12  # below; ten-thousandths of it fit 64 bits more than 900 times over
MONEY_DIGITS = 4  # decimal places; no currency of ISO 4217 has more


@dataclass(frozen=True)
class Event:
    """One thing that a user did or was shown, checked when it is made.

    Attributes:
        event_id: The client's name for it, 1..256 characters: what is sent again under the same id is not
            stored again.
        type: ``impression`` (the item was on screen), ``click``, ``add-to-cart`` or ``purchase``.
        user_id: Who, 1..256 characters.
        item_id: Which item, 1..256 characters.
        occurred_at: When, by the client's clock; unix seconds, of the years 2000 to 2099.
        received_at: When, by the server's clock. None: the log fills it in.
        recommendation_id: The list it came from, 32 hexadecimal digits. None: the client does not know.
        position: Where the client showed it, 1 = first. None: unknown.
        session_id: The client's name of a visit, 1..256 characters.
        quantity: Pieces, 1..1,000,000.
        revenue: Of all pieces together, >= 0 and below 10^12, at most 4 decimal places; of purchases only.
            A float stands for the decimal number that it prints as.
        currency: Of the revenue, three capital letters of ISO 4217. Given if and only if ``revenue`` is.

    Raises:
        ValueError: a field breaks its rule; the message has a line for each, that begins with its name.

    Example:
        >>> Event("e1", "click", "u1", "i1", 1_700_000_000.0).quantity
        1
        >>> Event("e1", "click", "", "i1", 1_700_000_000.0)
        Traceback (most recent call last):
        ...
        ValueError: user_id must have 1..256 characters; got 0.
    """

    event_id: str
    type: EventType
    user_id: str
    item_id: str
    occurred_at: float
    received_at: float | None = None
    recommendation_id: str | None = None
    position: int | None = None
    session_id: str | None = None
    quantity: int = 1
    revenue: Decimal | None = None
    currency: str | None = None

    def __post_init__(self) -> None:
        given: object = self.revenue
        if isinstance(given, float):
            object.__setattr__(self, "revenue", Decimal(repr(given)))
        elif isinstance(given, int) and not isinstance(given, bool):
            object.__setattr__(self, "revenue", Decimal(given))
        if faults := list(_faults(self)):
            raise ValueError("\n".join(faults))
        object.__setattr__(self, "occurred_at", float(self.occurred_at))
        if self.received_at is not None:
            object.__setattr__(self, "received_at", float(self.received_at))


@dataclass(frozen=True)
class Appended:
    """What became of a batch; all of it is durable.

    ``n_new + n_duplicates + n_spooled`` is the number of events.

    Attributes:
        n_new: Stored in the database, not known before.
        n_duplicates: Known before, or twice in the batch; not stored again.
        n_conflicting: Of those, how many say something else under the same id. The first is kept.
        n_spooled: On disk until the database is back; which of them are duplicates shows then.
    """

    n_new: int = 0
    n_duplicates: int = 0
    n_conflicting: int = 0
    n_spooled: int = 0


def check_event(given: Mapping[str, object]) -> Event:
    """Make an event of what came from outside; unknown and missing fields are errors too.

    Args:
        given: Fields of :class:`Event` by name.

    Raises:
        ValueError: see :class:`Event`.

    Example:
        >>> check_event({"event_id": "e1", "typ": "click"})
        Traceback (most recent call last):
        ...
        ValueError: typ is not a field of an event.
        type must be given.
        user_id must be given.
        item_id must be given.
        occurred_at must be given.
    """
    known = {each.name: each.default is MISSING for each in fields(Event)}
    faults = [f"{_shown(name)} is not a field of an event." for name in given if name not in known]
    faults += [
        f"{name} must be given." for name, is_needed in known.items() if is_needed and name not in given
    ]
    if faults:
        raise ValueError("\n".join(faults))
    return Event(**cast("dict[str, Any]", dict(given)))


def check_text(name: str, value: object, longest: int = LONGEST_ID) -> str | None:
    """Return what is wrong with an id, or None: some characters, none of them a control character.

    Control characters and halves of surrogate pairs have no place in an id, and databases refuse some.
    """
    if not isinstance(value, str):
        return f"{name} must be text; got {_shown(value)}."
    if not 1 <= len(value) <= longest:
        return f"{name} must have 1..{longest} characters; got {len(value):,}."
    if not value.isprintable() and any(unicodedata.category(c) in ("Cc", "Cs") for c in value):
        return f"{name} must have no control characters; got {_shown(value)}."
    return None


def _faults(event: Event) -> Iterator[str]:
    for name in ("event_id", "user_id", "item_id"):
        if fault := check_text(name, getattr(event, name)):
            yield fault
    if event.session_id is not None and (fault := check_text("session_id", event.session_id)):
        yield fault
    if event.type not in EVENT_TYPES:
        yield f"type must be one of {', '.join(EVENT_TYPES)}; got {_shown(event.type)}."
    yield from _moment("occurred_at", event.occurred_at)
    if event.received_at is not None:
        yield from _moment("received_at", event.received_at)
    named = event.recommendation_id
    if named is not None and not (isinstance(named, str) and re.fullmatch("[0-9a-f]{32}", named)):
        yield f"recommendation_id must be 32 hexadecimal digits, small letters; got {_shown(named)}."
    if event.position is not None:
        yield from _count("position", event.position, MOST_POSITION)
    yield from _count("quantity", event.quantity, MOST_QUANTITY)
    yield from _money(event)


def _moment(name: str, value: object) -> Iterator[str]:
    is_number = isinstance(value, float | int) and not isinstance(value, bool)
    if not is_number or not EARLIEST <= cast("float", value) < LATEST:
        yield (
            f"{name} must be unix seconds of the years 2000 to 2099; got {_shown(value)}."
            + (" Divide milliseconds by 1,000." if is_number and cast("float", value) >= LATEST else "")
        )


def _count(name: str, value: object, most: int) -> Iterator[str]:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        yield f"{name} must be a whole number in 1..{most:,}; got {_shown(value)}."


def _money(event: Event) -> Iterator[str]:
    revenue, currency = event.revenue, event.currency
    if (revenue is None) != (currency is None):
        missing = "currency" if currency is None else "revenue"
        yield f"{missing} must be given where {'revenue' if currency is None else 'currency'} is; got None."
    if revenue is not None:
        if event.type != "purchase":
            yield f"revenue must come with purchases; got {_shown(str(revenue))} of {_shown(event.type)}."
        if not isinstance(revenue, Decimal) or not (revenue.is_finite() and 0 <= revenue < MOST_REVENUE):
            yield f"revenue must be a decimal number, >= 0 and below 10^12; got {_shown(str(revenue))}."
        elif revenue != revenue.quantize(Decimal(1).scaleb(-MONEY_DIGITS)):
            yield f"revenue must have at most {MONEY_DIGITS} decimal places; got {_shown(str(revenue))}."
    if currency is not None and not (isinstance(currency, str) and re.fullmatch("[A-Z]{3}", currency)):
        yield f"currency must be three capital letters of ISO 4217; got {_shown(currency)}."


def _shown(value: object) -> str:
    """A value from outside, short and harmless in a message."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return text if text.isprintable() and text else ascii(text)
