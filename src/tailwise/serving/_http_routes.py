"""The routes that every service has: lists, what is served, how it is."""

import logging
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from tailwise.errors import TailwiseError
from tailwise.serving._batcher import OverloadedError
from tailwise.serving._http_access import key_of, requires
from tailwise.serving._http_control import Control
from tailwise.serving._http_keys import ApiKey
from tailwise.serving._http_log import log
from tailwise.serving._http_metrics import CONTENT_TYPE, Metrics
from tailwise.serving._http_problems import ProblemError, responses
from tailwise.serving._http_schemas import (
    CatalogueChange,
    CatalogueChanged,
    Health,
    ModelRequest,
    Models,
    Ready,
    ReadyModel,
    RecommendationRequest,
    Recommendations,
    SimilarRequest,
    list_response,
)
from tailwise.serving._http_text import Identifier
from tailwise.serving._service import Ask, ItemUnknownError, Service, VariantUnknownError

__all__ = ["admin_router", "list_router", "state_router"]

Recommend = Annotated[ApiKey, Depends(requires("recommend"))]
Monitor = Annotated[ApiKey, Depends(requires("monitor"))]
Admin = Annotated[ApiKey, Depends(requires("admin"))]


def list_router(service: Service, metrics: Metrics) -> APIRouter:
    """Build the routes that answer with lists."""
    router = APIRouter(prefix="/v1", tags=["lists"])

    async def served(request: Request, ask: Ask) -> Recommendations:
        try:
            result = await service.recommend(ask)
        except OverloadedError as error:
            raise ProblemError(
                429,
                "overload",
                "requests must find a place in the queue; it is full. Come back later.",
                headers={"retry-after": str(max(1, round(error.retry_after_s)))},
            ) from None
        except ItemUnknownError as error:
            raise ProblemError(404, "item-unknown", str(error)) from None
        except VariantUnknownError as error:
            raise ProblemError(404, "variant-unknown", str(error)) from None
        metrics.count_list(result)
        record = result.record
        request.scope["state"]["log_fields"] = {
            "variant": record.assigned.variant,
            "surface": record.surface,
            "made_by": record.answer.method,
            "reason": record.answer.reason,
        }
        for kind in result.warnings:
            log(logging.WARNING, kind, request_id=request.scope["state"]["request_id"])
        return list_response(result)

    @router.post("/recommendations", responses=responses(404), summary="A list for a user or a history")
    async def recommend(request: Request, body: RecommendationRequest, key: Recommend) -> Recommendations:
        """Answer with a list; it is in the log before it is answered, unless ``logged`` is false."""
        if body.variant is not None and not key.may("admin"):
            raise ProblemError(
                403, "role-missing", "variant must be left out; only keys of the role admin choose."
            )
        return await served(
            request,
            Ask(
                surface=body.surface,
                k=body.k,
                user_id=body.user_id,
                history=None if body.history is None else tuple(body.history),
                item_id=body.item_id if isinstance(body, SimilarRequest) else None,
                exclude=frozenset(body.exclude),
                exclude_seen=body.exclude_seen,
                filters=body.filters.as_filters(),
                variant=body.variant,
                received_at=request.scope["state"]["received_at"],
            ),
        )

    @router.get("/items/{item_id:path}/similar", responses=responses(404), summary="Items like one")
    async def similar(
        request: Request,
        item_id: Annotated[Identifier, Path(description="What the list shall resemble.")],
        key: Recommend,
        k: Annotated[int, Query(ge=1, le=500, description="Length of the list.")] = 10,
    ) -> Recommendations:
        """Answer with the items most like one, for an anonymous visitor."""
        received_at = request.scope["state"]["received_at"]
        return await served(request, Ask("similar", k, item_id=item_id, received_at=received_at))

    return router


def admin_router(control: Control) -> APIRouter:
    """Build the routes that change what is served."""
    router = APIRouter(prefix="/v1", tags=["administration"])

    @router.get("/models", responses=responses(), summary="What is served")
    async def models(key: Monitor) -> Models:
        """Say which model answers under which name, in each worker."""
        return control.models()

    @router.put("/models/{name}", responses=responses(404, 409), summary="Swap a model")
    async def put_model(
        request: Request,
        name: Annotated[Identifier, Path(description="Under which it shall answer.")],
        body: ModelRequest,
        key: Admin,
    ) -> Models:
        """Load a model, warm it up and let it answer in place of the old one, without dropping a request.

        This worker serves it when the answer comes; the others follow: ``is_settled`` says when all do.
        """
        with _refusing(request, "swap"):
            return await control.put_model(name, body.source)

    @router.put("/catalogue", responses=responses(409), summary="Change prices, stock, categories")
    async def put_catalogue(request: Request, body: CatalogueChange, key: Admin) -> CatalogueChanged:
        """Change properties of items; the changes outlive swaps and restarts."""
        with _refusing(request, "catalogue"):
            return await control.put_catalogue(body.items)

    return router


class _refusing:  # noqa: N801 - reads as a clause
    """Turns what cannot be done into a conflict, and says so in the log."""

    def __init__(self, request: Request, what: str) -> None:
        self._request = request
        self._what = what

    def __enter__(self) -> None:
        key = key_of(self._request)
        log(logging.INFO, f"{self._what} asked for", key=key.id, request_id=self._id)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, VariantUnknownError):
            raise ProblemError(404, "variant-unknown", str(error)) from None
        if isinstance(error, TailwiseError):
            log(logging.ERROR, f"{self._what} refused", error=error, request_id=self._id)
            raise ProblemError(409, f"{self._what}-refused", str(error)) from None

    @property
    def _id(self) -> Any:
        return self._request.scope["state"]["request_id"]


def state_router(control: Control, metrics: Metrics) -> APIRouter:
    """Build the routes that machines watch."""
    router = APIRouter(tags=["state"])

    @router.get("/healthz", responses=responses(), summary="Is the process alive?")
    async def healthz() -> Health:
        """Answer; nothing is looked at."""
        return Health()

    @router.get("/readyz", responses=responses(), summary="Does this worker take requests?")
    async def readyz() -> Ready:
        """Say what this worker serves; 503 before it has started and while it shuts down."""
        if not control.is_ready:
            raise ProblemError(
                503,
                "not-ready",
                "the worker must have started and not be shutting down.",
                headers={"retry-after": "1"},
            )
        log_state = control.log_state()
        available = bool(log_state.get("is_available", True))
        state = control.state()
        return Ready(
            log="available" if available else "spooling",
            worker=state.worker,
            generation=state.generation,
            models=[
                ReadyModel(
                    name=model.name, digest=model.digest, generation=model.generation, drill=model.drill
                )
                for model in state.models
            ],
        )

    @router.get(
        "/metrics",
        responses=responses() | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        response_class=Response,
        summary="Numbers for Prometheus",
    )
    async def read_metrics(key: Monitor) -> Response:
        """Answer for all workers."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return router
