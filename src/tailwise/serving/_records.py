"""What passes between a request, the model that answers it, and the log: plain frozen records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "REFUSED",
    "SURFACES",
    "Answer",
    "Assigned",
    "Filters",
    "LoggedItem",
    "Query",
    "ServedList",
    "Slot",
    "Surface",
]

Surface = Literal["home", "discovery", "similar"]
SURFACES: tuple[Surface, ...] = ("home", "discovery", "similar")

REFUSED = "refused"
"""``method`` of a request that ended without a list: it has no slots, and nobody was shown anything."""


@dataclass(frozen=True)
class Filters:
    """Which items may be listed; each condition that is given must hold.

    An item that lacks a property (no price, no category) fails a condition on it.

    Attributes:
        categories: One of these. Empty: any.
        brands: One of these. Empty: any.
        min_price: At least this, in the catalogue's currency. None: no bound.
        max_price: At most this. None: no bound.
        in_stock: Only items in stock. Items of a catalogue that says nothing of stock count as in stock.
    """

    categories: frozenset[str] = frozenset()
    brands: frozenset[str] = frozenset()
    min_price: float | None = None
    max_price: float | None = None
    in_stock: bool = False


@dataclass(frozen=True)
class Query:
    """What a model is asked.

    Attributes:
        k: Length of the list, >= 1; it is shorter where fewer items may be listed.
        history: ``item_id`` of the user's items, oldest first. What the catalogue does not know is left
            out and named in the answer.
        user_id: Whose history that is: the key of what is kept of a returning user. None: keep nothing.
        exclude: ``item_id`` of items that may not be listed, beside those of the history.
        exclude_seen: Leave out the items of the history.
        filters: See :class:`Filters`.
        explore: Draw the list (Gumbel top-k) in place of taking the best.
        seed: Of that draw; one number, one list. None: fresh randomness.
    """

    k: int
    history: tuple[str, ...] = ()
    user_id: str | None = None
    exclude: frozenset[str] = frozenset()
    exclude_seen: bool = True
    filters: Filters = Filters()
    explore: bool = False
    seed: int | None = None


@dataclass(frozen=True)
class Slot:
    """One place of a list.

    Attributes:
        position: 1 is the first.
        item_id: What stands there.
        score: The model's, higher is better; of a most-popular list, training interactions.
        segment: head, mid, tail or cold, by the model's training counts.
        propensity: Probability of this item in this place given the places before, under the policy
            that drew the list, in (0, 1]. 1 where the list was not drawn.
    """

    position: int
    item_id: str
    score: float
    segment: str
    propensity: float = 1.0


@dataclass(frozen=True)
class Answer:
    """What a model says to a :class:`Query`.

    Attributes:
        slots: The list, best first.
        method: What made it: ``model``, ``most-popular``, ``item-vectors``; ``refused`` where nothing did.
        reason: Why it was not ``model``, where that was asked: ``no-history``, ``time-limit``,
            ``model-error``; of a refused request ``overload``, ``item-unknown``, ``failed``. None otherwise.
        history_length: Items of the history that the catalogue knows.
        unknown_items: Items of the history that it does not know, in their order.
        is_explored: The list was drawn.
        temperature: Of the draw, in units of score; None where there was none.
        n_candidates: Items with a chance in the draw; None where there was none.
    """

    slots: tuple[Slot, ...]
    method: str
    reason: str | None = None
    history_length: int = 0
    unknown_items: tuple[str, ...] = ()
    is_explored: bool = False
    temperature: float | None = None
    n_candidates: int | None = None


@dataclass(frozen=True)
class Assigned:
    """Which variant answers whom, and why.

    Attributes:
        variant: Name of a served model, such as ``control``.
        experiment: Name of the experiment that decided; None outside of one.
        stage: Its stage, 0 for the first; None outside of one.
        in_experiment: True for users whose outcomes the experiment counts.
    """

    variant: str
    experiment: str | None = None
    stage: int | None = None
    in_experiment: bool = False


@dataclass(frozen=True)
class ServedList:
    """A list that was answered, or a request that ended without one, as the log keeps it.

    Of the latter, ``answer`` has no slots and the method :data:`REFUSED`; its id was told to nobody.

    Attributes:
        recommendation_id: 32 hexadecimal digits, unique; later events name it.
        served_at: Unix seconds, UTC.
        surface: Where it is shown.
        user_id: For whom; None for an anonymous request.
        assigned: Variant, experiment, stage.
        model: Digest of the model that answered.
        answer: The list and how it came about.
        latency_ms: From the arrival of the request to the list.
        context: Further plain values of the request, for analysis; nothing personal.
    """

    recommendation_id: str
    served_at: float
    surface: Surface
    user_id: str | None
    assigned: Assigned
    model: str
    answer: Answer
    latency_ms: float
    context: Mapping[str, str | float | bool | None] = field(default_factory=dict)


@dataclass(frozen=True)
class LoggedItem:
    """An item that the event log knows a user to have chosen.

    Attributes:
        item_id: Which.
        occurred_at: Unix seconds, UTC.
    """

    item_id: str
    occurred_at: float
