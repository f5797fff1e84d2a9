"""The application: middleware around routers."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

import tailwise
from tailwise.serving._http_control import Control
from tailwise.serving._http_guard import Guard, GuardSettings
from tailwise.serving._http_keys import KeyStore
from tailwise.serving._http_limits import RateLimits
from tailwise.serving._http_metrics import Metrics
from tailwise.serving._http_observe import Observer
from tailwise.serving._http_problems import Problem, ProblemError, answer_problem
from tailwise.serving._http_routes import admin_router, list_router, state_router
from tailwise.serving._service import Service

__all__ = ["create_app"]

Lifespan = Callable[[], AbstractAsyncContextManager[None]]


def create_app(
    service: Service,
    control: Control,
    *,
    keys: KeyStore,
    rate_limit: str = "1000/second",
    guard: GuardSettings | None = None,
    cors_origins: Sequence[str] = (),
    metrics: Metrics | None = None,
    routers: Sequence[APIRouter] = (),
    lifespan: Lifespan | None = None,
) -> FastAPI:
    """Put the HTTP interface together.

    Args:
        service: Answers requests for lists.
        control: Changes what is served.
        keys: Who may ask.
        rate_limit: Of a key without one of its own, such as ``100/second``.
        guard: Bounds of a request; None: the defaults.
        cors_origins: Web pages whose scripts may read answers; none by default.
        metrics: Where to count; None: in numbers of its own.
        routers: Further routes, such as those of the event log.
        lifespan: Entered before the first request, left after the last.

    Raises:
        ConfigError: ``rate_limit`` is no rate.
    """

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        if lifespan is None:
            yield
            return
        async with lifespan():
            yield

    metrics = metrics or Metrics()
    service.refusals.count_in(metrics)
    app = FastAPI(
        title="Tailwise",
        version=tailwise.__version__,
        summary="Recommendations that do not forget rare items, and the log of what became of them.",
        docs_url=None,  # the page would load its scripts from elsewhere
        redoc_url=None,
        lifespan=living,
        separate_input_output_schemas=False,
    )
    for router in (list_router(service, metrics), admin_router(control), state_router(control, metrics)):
        app.include_router(router)
    for router in routers:
        app.include_router(router)
    for kind in (ProblemError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer_problem)
    limits = RateLimits(rate_limit)
    # The last one added is the outermost: observe, CORS, guard.
    app.add_middleware(Guard, keys=keys, limits=limits, settings=guard or GuardSettings())
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-request-id"],
            max_age=600,
        )
    app.add_middleware(Observer, metrics=metrics)
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """Let the schema declare the shape of problems in place of the framework's own errors."""
    written = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = written()
            schemas = schema["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= problem.pop("$defs", {})
            schemas["Problem"] = problem
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
