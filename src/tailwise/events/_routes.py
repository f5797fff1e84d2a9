"""The log over HTTP: events in, a user's data out of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, Field, StringConstraints

from tailwise.errors import LogUnavailableError
from tailwise.events._event import Event
from tailwise.events._log import EventLog
from tailwise.serving._http_access import requires
from tailwise.serving._http_keys import ApiKey
from tailwise.serving._http_log import log
from tailwise.serving._http_problems import ProblemError, responses
from tailwise.serving._http_text import WHOLE, Identifier, Strict

__all__ = ["event_router"]

WriteEvents = Annotated[ApiKey, Depends(requires("write-events"))]
Admin = Annotated[ApiKey, Depends(requires("admin"))]

_WORDS = ("over-http",)  # why a user was deleted, as the log keeps it

Moment = Annotated[
    float,
    Field(
        ge=946_684_800,
        lt=4_102_444_800,
        allow_inf_nan=False,
        description="When, by your clock: unix seconds, of the years 2000 to 2099.",
    ),
]
_Amount = Annotated[float, Field(ge=0, lt=10**12, allow_inf_nan=False)]
_Decimal = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,12}(\.[0-9]{1,4})?$", max_length=17)]


class _AnyEvent(Strict):
    """What every event says."""

    event_id: Annotated[Identifier, Field(description="Yours, unique; sent again, it is stored once.")]
    user_id: Identifier
    item_id: Identifier
    occurred_at: Moment
    recommendation_id: Annotated[
        Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$", max_length=32)] | None,
        Field(description="Of the list that led to it."),
    ] = None
    position: Annotated[
        Annotated[int, Field(ge=1, le=100_000), WHOLE] | None,
        Field(description="In that list; 1 is the first."),
    ] = None
    session_id: Identifier | None = None
    quantity: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] = 1

    def as_event(self) -> Event:
        """Return it as the log takes it.

        Raises:
            ValueError: a rule of the log is broken that the schema does not know.
        """
        return Event(**self.model_dump())


class SeenEvent(_AnyEvent):
    """An item was on screen, clicked, or put into the basket."""

    type: Literal["impression", "click", "add-to-cart"]


class PurchaseEvent(_AnyEvent):
    """An item was bought."""

    type: Literal["purchase"]
    revenue: Annotated[
        _Amount | _Decimal,
        Field(
            description="Of all pieces together, in `currency`: a number, rounded to 4 decimal places, or "
            'text such as "19.90", which stays exact.'
        ),
    ]
    currency: Annotated[
        str,
        StringConstraints(pattern="^[A-Z]{3}$", max_length=3),
        Field(description="ISO 4217, such as EUR."),
    ]

    def as_event(self) -> Event:
        """Return it as the log takes it; see :meth:`_AnyEvent.as_event`."""
        revenue = self.revenue
        exact = Decimal(revenue) if isinstance(revenue, str) else round(Decimal(repr(revenue)), 4)
        return Event(**(self.model_dump() | {"revenue": exact}))


class EventBatch(Strict):
    """Events, in any order."""

    events: Annotated[
        list[Annotated[SeenEvent | PurchaseEvent, Field(discriminator="type")]],
        Field(min_length=1, max_length=1000),
    ]


class EventsKept(BaseModel):
    """What became of a batch, all of which is durable."""

    n_new: int = Field(description="Stored, not known before.")
    n_duplicates: int = Field(description="Known before; not stored again.")
    n_conflicting: int = Field(description="Of those: say something else under the same id. The first stays.")
    n_spooled: int = Field(description="On the service's disk until the database is back.")


class UserDeleted(BaseModel):
    """What became of a user's data; the log keeps these numbers, by whom and when, under a keyed hash."""

    n_events: int = Field(description="Events that are gone.")
    n_lists: int = Field(description="Lists that are gone.")


def event_router(
    event_log: EventLog,
    *,
    max_batch: int = 1000,
    timeout_s: float = 10.0,
    forget: Callable[[str], Awaitable[None]] | None = None,
) -> APIRouter:
    """Build the routes of the log.

    Args:
        event_log: Open.
        max_batch: Events of one request, 1..1000.
        timeout_s: After it a batch that is not durable is answered with 503.
        forget: Called with the id of a user whose data were deleted, before that is answered: drops what
            this process keeps beside the log.
    """
    router = APIRouter(prefix="/v1")

    @router.post("/events", responses=responses(), tags=["events"], summary="Tell what users did")
    async def events(body: EventBatch, key: WriteEvents) -> EventsKept:
        """Keep a batch; it is durable when the answer is 200.

        All or nothing: if one event breaks a rule, none is kept, and the answer names each by its index.
        What was not answered with 200 may be sent again: an `event_id` is stored once.
        """
        if len(body.events) > max_batch:
            raise ProblemError(
                413,
                "batch-too-large",
                f"events must hold at most {max_batch:,}; got {len(body.events):,}. Send smaller batches.",
            )
        checked, faults = [], []
        for index, event in enumerate(body.events):
            try:
                checked.append(event.as_event())
            except ValueError as error:
                faults += [(f"body/events/{index}", line) for line in str(error).splitlines()]
        if faults:
            raise ProblemError(
                422, "invalid-request", f"{faults[0][0]} is refused: {faults[0][1]}", errors=faults
            )
        try:
            async with asyncio.timeout(timeout_s):
                kept = await event_log.append(checked)
        except (LogUnavailableError, TimeoutError):
            raise _unavailable() from None
        return EventsKept(
            n_new=kept.n_new,
            n_duplicates=kept.n_duplicates,
            n_conflicting=kept.n_conflicting,
            n_spooled=kept.n_spooled,
        )

    @router.delete(
        "/users/{user_id:path}",
        responses=responses(404),
        tags=["administration"],
        summary="Delete a user's data",
    )
    async def delete_user(
        request: Request, user_id: Annotated[Identifier, Path(description="Whose.")], key: Admin
    ) -> UserDeleted:
        """Delete what the log holds of a user; that it was done stays, by whom and when."""
        # A word that is the user's id would outlive the deletion, so the log refuses it.
        by, reason = ("api-key", "request") if user_id in _WORDS or key.id in user_id else (key.id, _WORDS[0])
        try:
            deleted = await event_log.delete_user(user_id, by=by, reason=reason)
        except LogUnavailableError:
            raise _unavailable() from None
        if forget is not None:
            await forget(user_id)
        request_id = request.scope["state"]["request_id"]
        log(logging.INFO, "user deleted", key=key.id, request_id=request_id)
        return UserDeleted(n_events=deleted.n_events, n_lists=deleted.n_lists)

    return router


def _unavailable() -> ProblemError:
    return ProblemError(
        503,
        "log-unavailable",
        "the event log must be there; it is not now, and nothing of this request is promised. Send it again.",
        headers={"retry-after": "5"},
    )
