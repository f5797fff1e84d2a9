"""What the HTTP interface takes and gives, field by field; the OpenAPI schema is made from it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tailwise.serving._http_text import WHOLE, Identifier, Label, Price, Strict
from tailwise.serving._records import Filters, Surface
from tailwise.serving._service import Served

__all__ = [
    "CatalogueChange",
    "CatalogueChanged",
    "Health",
    "ItemChange",
    "ListRequest",
    "ModelRequest",
    "Models",
    "Ready",
    "RecommendationRequest",
    "Recommendations",
    "SimilarRequest",
    "list_response",
]

MAX_K = 500
_NONE: list[str] = []  # pydantic gives every body a copy
MAX_HISTORY = 500
MAX_EXCLUDED = 5000
MAX_LABELS = 100
MAX_CHANGES = 10_000

K = Annotated[int, Field(ge=1, le=MAX_K, description="Length of the list."), WHOLE]


class FilterRequest(Strict):
    """Conditions that every listed item must meet; an item without a property fails a condition on it."""

    category: Annotated[list[Label], Field(max_length=MAX_LABELS, description="One of these.")] = _NONE
    brand: Annotated[list[Label], Field(max_length=MAX_LABELS, description="One of these.")] = _NONE
    min_price: Annotated[Price | None, Field(description="At least this.")] = None
    max_price: Annotated[Price | None, Field(description="At most this.")] = None
    in_stock: Annotated[bool, Field(description="Only items that are in stock.")] = False

    def as_filters(self) -> Filters:
        """Return them as the models read them."""
        return Filters(
            frozenset(self.category), frozenset(self.brand), self.min_price, self.max_price, self.in_stock
        )


class _AnyRequest(Strict):
    """What every request for a list may say."""

    user_id: Annotated[Identifier | None, Field(description="Absent for an anonymous visitor.")] = None
    history: Annotated[
        list[Identifier] | None,
        Field(
            max_length=MAX_HISTORY,
            description="Items, oldest first. Absent: what the service knows of the user.",
        ),
    ] = None
    k: K = 10
    exclude: Annotated[
        list[Identifier], Field(max_length=MAX_EXCLUDED, description="Items that may not be listed.")
    ] = _NONE
    exclude_seen: Annotated[
        bool | None,
        Field(description="Leave out the items of the history. Absent: as the model's run did."),
    ] = None
    filters: FilterRequest = FilterRequest()
    variant: Annotated[
        Identifier | None, Field(description="Answer with this model. For keys of the role admin.")
    ] = None


class ListRequest(_AnyRequest):
    """A list for a user or a history."""

    surface: Annotated[Literal["home", "discovery"], Field(description="Where the list is shown.")]


class SimilarRequest(_AnyRequest):
    """Items like a given one."""

    surface: Annotated[Literal["similar"], Field(description="Where the list is shown.")]
    item_id: Annotated[Identifier, Field(description="What the list shall resemble.")]


RecommendationRequest = Annotated[ListRequest | SimilarRequest, Field(discriminator="surface")]


class Listed(BaseModel):
    """One place of a list."""

    model_config = ConfigDict(extra="forbid")

    item_id: str
    title: str = Field(description="Plain text: escape it where it is shown.")
    position: int = Field(description="1 is the first.")
    score: float = Field(description="The model's, higher is better.")
    segment: str = Field(description="head, mid, tail or cold: by training interactions.")


class UserState(BaseModel):
    """What the service knew of the user."""

    model_config = ConfigDict(extra="forbid")

    is_known: bool | None = Field(description="The run or the log knows the user; null if anonymous.")
    history_length: int = Field(description="Items of the history that the catalogue knows.")
    unknown_items: list[str] = Field(description="Items of the history that it does not know.")


class Recommendations(BaseModel):
    """A list, and how it came about."""

    model_config = ConfigDict(extra="forbid")

    recommendation_id: str = Field(description="Send it with every event that the list leads to.")
    surface: Surface
    variant: str = Field(description="Name of the model that answered.")
    experiment: str | None
    stage: int | None
    model: str = Field(description="Digest of the model that answered.")
    method: str = Field(description="model, most-popular or item-vectors.")
    reason: str | None = Field(
        description="Why it was not the model: no-history, time-limit, overload, model-error."
    )
    is_explored: bool = Field(description="The list was drawn, for off-policy estimates.")
    logged: bool = Field(description="False: the log was unavailable, so the list is not kept.")
    user: UserState
    items: list[Listed]
    propensities: list[float] | None = Field(
        description="Of a drawn list: each item's probability in its place, given those before."
    )


def list_response(served: Served) -> Recommendations:
    """Write a list as it is sent."""
    record = served.record
    answer = record.answer
    return Recommendations(
        recommendation_id=record.recommendation_id,
        surface=record.surface,
        variant=record.assigned.variant,
        experiment=record.assigned.experiment,
        stage=record.assigned.stage,
        model=record.model,
        method=answer.method,
        reason=answer.reason,
        is_explored=answer.is_explored,
        logged=served.is_logged,
        user=UserState(
            is_known=served.is_user_known,
            history_length=answer.history_length,
            unknown_items=list(answer.unknown_items),
        ),
        items=[
            Listed(
                item_id=slot.item_id,
                title=title,
                position=slot.position,
                score=slot.score,
                segment=slot.segment,
            )
            for slot, title in zip(answer.slots, served.titles, strict=True)
        ],
        propensities=[slot.propensity for slot in answer.slots] if answer.is_explored else None,
    )


class Health(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class ServedState(BaseModel):
    """One model of one worker."""

    name: str
    source: str = Field(description="RUN/VARIANT/seed-N, as the deployment names it.")
    digest: str
    generation: int = Field(description="Of the deployment that brought it; 0 is the start.")
    drill: str | None = Field(default=None, description="What it does wrong on purpose; null: nothing.")


class WorkerState(BaseModel):
    """One process of the service, as it last said."""

    worker: int
    pid: int
    generation: int = Field(description="Of the deployment that it has taken up.")
    catalogue: int = Field(description="Number of catalogue changes that it has taken up.")
    error: str | None = Field(description="Why the last swap failed here; null if it did not.")
    models: list[ServedState]


class Models(BaseModel):
    """What is served, worker by worker."""

    generation: int = Field(description="Of the deployment that is asked for.")
    is_settled: bool = Field(description="Every worker serves it.")
    workers: list[WorkerState]


class ReadyModel(BaseModel):
    """One model of this worker."""

    name: str
    digest: str
    generation: int
    drill: str | None = Field(default=None, description="What it does wrong on purpose; null: nothing.")


class Ready(BaseModel):
    """This worker takes requests, and with what."""

    status: Literal["ready"] = "ready"
    worker: int
    generation: int
    models: list[ReadyModel]
    log: Literal["available", "spooling"] = Field(
        description="spooling: the database is away; events and lists are kept on disk."
    )


class ModelRequest(Strict):
    """The model that shall answer under a name from now on."""

    source: Annotated[
        Identifier,
        Field(description="RUN/VARIANT or RUN/VARIANT/seed-N, a path under the service's model root."),
    ]


class ItemChange(Strict):
    """New properties of one item; what is absent stays, null takes a property away."""

    item_id: Identifier
    price: Price | None = None
    in_stock: bool | None = None
    category: Label | None = None
    brand: Label | None = None


class CatalogueChange(Strict):
    """Changes of items that the models know; new items need a new model."""

    items: Annotated[list[ItemChange], Field(min_length=1, max_length=MAX_CHANGES)]


class CatalogueChanged(BaseModel):
    """What became of the changes."""

    n_changed: int = Field(description="Items that at least one served model knows.")
    unknown_items: list[str] = Field(description="Items that none knows, the first hundred.")
    catalogue: int = Field(description="Number of catalogue changes so far; see GET /v1/models.")
