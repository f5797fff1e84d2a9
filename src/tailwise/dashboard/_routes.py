"""The dashboard's routes: pages that only read, behind a form that takes an admin key."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tailwise.dashboard._access import Access
from tailwise.dashboard._alarms import Alarm
from tailwise.dashboard._cache import Cached, PageCache
from tailwise.dashboard._cost_benefit import cost_benefit
from tailwise.dashboard._cost_form import FIELDS, measured_change, read_form
from tailwise.dashboard._experiment_page import ExperimentPage, StageStep, experiment_page, stage_steps
from tailwise.dashboard._live_page import LivePage, live_page
from tailwise.dashboard._outbox import Deliveries
from tailwise.dashboard._pages import ICON, render, style_sheet
from tailwise.dashboard._side_by_side import side_by_side
from tailwise.dashboard._sources import DashboardSource, ListMaker
from tailwise.errors import DataError, LogUnavailableError, TailwiseError
from tailwise.experiments import AuditEntry, Rollout

__all__ = ["HEADERS", "dashboard_routes"]

HEADERS: Mapping[str, str] = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "referrer-policy": "same-origin",  # a form of ours has to say where it comes from
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
}
_ROOT = "/dashboard"
_N_USERS, _LIST_LENGTH, _N_DECISIONS = 12, 10, 50
_LONGEST_USER_ID = 256

Page = Callable[[Request], Awaitable[Response]]


def dashboard_routes(
    source: DashboardSource,
    access: Access,
    *,
    lists: ListMaker | None = None,
    cache: PageCache | None = None,
    clock: Callable[[], float] = time.time,
) -> APIRouter:
    """Build the router of the dashboard; every path begins with ``/dashboard``.

    The routes check access themselves: whatever guards the service must let these paths pass without a
    header ``Authorization``, and must still check the host.

    Args:
        source: Where the numbers come from.
        access: Who may look.
        lists: Asks the served models for lists side by side; None: the page says that it cannot.
        cache: Of pages; None: one of its own.
        clock: Unix seconds.
    """
    pages = _Pages(source, access, lists, cache or PageCache(), clock)
    router = APIRouter(prefix=_ROOT, include_in_schema=False)
    for path, page in (
        ("", pages.overview),
        ("/experiments/{name}", pages.experiment),
        ("/experiments/{name}/lists", pages.lists),
        ("/experiments/{name}/value", pages.value),
        ("/live", pages.live),
    ):
        router.add_api_route(path, pages.guarded(page), methods=["GET"], response_class=HTMLResponse)
    router.add_api_route("/login", pages.login_form, methods=["GET"], response_class=HTMLResponse)
    router.add_api_route("/login", pages.login, methods=["POST"], response_class=HTMLResponse)
    router.add_api_route("/logout", pages.logout, methods=["POST"], response_class=HTMLResponse)
    router.add_api_route("/static/dashboard.css", _style, methods=["GET"])
    router.add_api_route("/static/icon.svg", _icon, methods=["GET"])
    return router


class _Row(NamedTuple):
    """A line of the list of experiments."""

    rollout: Rollout
    steps: tuple[StageStep, ...]
    latest: AuditEntry | None


class _Pages:
    def __init__(
        self,
        source: DashboardSource,
        access: Access,
        lists: ListMaker | None,
        cache: PageCache,
        clock: Callable[[], float],
    ) -> None:
        self._source, self._access, self._lists, self._cache = source, access, lists, cache
        self._clock = clock

    def guarded(self, page: Page) -> Page:
        """Let those in who may look, send others to the form, and turn failures into pages."""

        async def answer(request: Request) -> Response:
            try:
                if not self._access.may_look(request):
                    if self._access.is_open():
                        return self._problem(401, "A key is needed", _BY_PROXY)
                    target = quote(request.url.path)
                    return RedirectResponse(f"{_ROOT}/login?next={target}", 303, headers=dict(HEADERS))
                return await page(request)
            except LogUnavailableError:
                return self._problem(
                    503,
                    "The event log cannot be read now",
                    "The database is away. Nothing is lost: events wait on disk. Try again in a minute.",
                )
            except DataError as error:
                return self._problem(500, "Something that is stored is damaged", str(error))

        return answer

    async def overview(self, request: Request) -> Response:
        """Show all experiments."""

        def read() -> tuple[list[_Row], list[Alarm], Deliveries]:
            rows = []
            for rollout in self._source.rollouts():
                decisions = self._source.decisions(rollout.experiment.name, 1)
                rows.append(_Row(rollout, stage_steps(rollout), decisions[0] if decisions else None))
            latest = {alarm.key: alarm for alarm in reversed(self._source.alarms())}
            raised = [alarm for alarm in latest.values() if alarm.state == "raised"]
            return rows, raised, self._source.deliveries()

        rows, alarms, deliveries = await self._cache.quick(read)
        return self._html(
            "overview.html.jinja", here="overview", rows=rows, alarms=alarms, deliveries=deliveries
        )

    async def experiment(self, request: Request) -> Response:
        """Show one experiment."""
        rollout = await self._rollout(request)
        if rollout is None:
            return self._no_experiment(request)
        found = await self._page_of(rollout)
        if found.value is None:
            return self._waiting(found, rollout)
        return self._html(
            "experiment.html.jinja",
            here="experiment",
            page=found.value,
            rollout=rollout,
            is_stale=found.is_stale,
            failure=_failure(found),
        )

    async def value(self, request: Request) -> Response:
        """Show what an experiment's change would cost and earn."""
        rollout = await self._rollout(request)
        if rollout is None:
            return self._no_experiment(request)
        found = await self._page_of(rollout)
        if found.value is None:
            return self._waiting(found, rollout)
        form = read_form(dict(request.query_params))
        measured = measured_change(found.value)
        can = form.assumed is not None and measured is not None
        return self._html(
            "value.html.jinja",
            here="value",
            page=found.value,
            rollout=rollout,
            form=form,
            fields=FIELDS,
            measured=measured,
            result=cost_benefit(form.assumed, measured) if can and form.assumed and measured else None,
            is_stale=found.is_stale,
            failure=_failure(found),
        )

    async def lists(self, request: Request) -> Response:
        """Show what both models would recommend to a user."""
        rollout = await self._rollout(request)
        if rollout is None:
            return self._no_experiment(request)
        experiment = rollout.experiment
        users = await self._cache.quick(lambda: self._source.users(experiment.name, _N_USERS))
        asked = request.query_params.get("user", "")[:_LONGEST_USER_ID]
        user = asked or (users[0] if users else "")
        compared, failure = None, ""
        if user and self._lists is not None:
            try:
                compared = side_by_side(*await self._lists(experiment, user, _LIST_LENGTH))
            except TailwiseError as error:
                failure = str(error)
        return self._html(
            "lists.html.jinja",
            here="lists",
            rollout=rollout,
            users=users,
            user=user,
            compared=compared,
            failure=failure,
            can_ask=self._lists is not None,
        )

    async def live(self, request: Request) -> Response:
        """Show the live lists, their drift, and alarms."""
        version = await self._cache.quick(self._source.version)
        alarms = await self._cache.quick(self._source.alarms)
        deliveries = await self._cache.quick(self._source.deliveries)
        found: Cached[LivePage] = await self._cache.get(
            "live", (version, tuple(alarms[:1])), lambda: live_page(self._source.live(), alarms)
        )
        if found.value is None:
            return self._waiting(found, None)
        return self._html(
            "live.html.jinja",
            here="live",
            page=found.value,
            deliveries=deliveries,
            is_stale=found.is_stale,
            failure=_failure(found),
        )

    async def login_form(self, request: Request) -> Response:
        """Ask for a key."""
        return self._html("login.html.jinja", here="login", target=_target(request), wrong=False)

    async def login(self, request: Request) -> Response:
        """Begin a session."""
        if not self._access.is_own_form(request):
            return self._problem(403, "Not from here", "The form must be sent from the dashboard's own page.")
        text = (await request.body()).decode("utf-8", "replace")
        given = parse_qs(text, max_num_fields=10)
        target = _checked_target(given.get("next", [""])[0])
        response = RedirectResponse(target, 303, headers=dict(HEADERS))
        is_https = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
        try:
            may = self._access.begin(given.get("key", [""])[0].strip(), response, is_https=is_https)
        except DataError:
            return self._problem(
                503, "Keys cannot be read", "The file of keys is damaged; the log says more."
            )
        if not may:
            return self._html("login.html.jinja", 401, here="login", target=target, wrong=True)
        return response

    async def logout(self, request: Request) -> Response:
        """End a session."""
        if not self._access.is_own_form(request):
            return self._problem(403, "Not from here", "The form must be sent from the dashboard's own page.")
        response = RedirectResponse(f"{_ROOT}/login", 303, headers=dict(HEADERS))
        self._access.end(response)
        return response

    async def _rollout(self, request: Request) -> Rollout | None:
        name = request.path_params["name"]
        rollouts = await self._cache.quick(self._source.rollouts)
        return next((r for r in rollouts if r.experiment.name == name), None)

    async def _page_of(self, rollout: Rollout) -> Cached[ExperimentPage]:
        name = rollout.experiment.name
        version = await self._cache.quick(self._source.version)

        def compute() -> ExperimentPage:
            decisions = self._source.decisions(name, _N_DECISIONS)
            return experiment_page(rollout, self._source.tables(name), decisions)

        return await self._cache.get(("experiment", name), (version, rollout.version), compute)

    def _html(self, template: str, status: int = 200, **values: Any) -> Response:
        is_open = values["here"] == "login" or self._access.is_open()
        content = render(template, {"root": _ROOT, "now": self._clock(), "is_open": is_open, **values})
        return HTMLResponse(content, status, headers=dict(HEADERS))

    def _waiting(self, found: Cached[Any], rollout: Rollout | None) -> Response:
        if found.error is not None:
            if isinstance(found.error, LogUnavailableError):
                raise found.error
            return self._problem(500, "This page could not be computed", _failure(found))
        return self._html("waiting.html.jinja", here="waiting", rollout=rollout)

    def _no_experiment(self, request: Request) -> Response:
        name = request.path_params["name"][:100]
        return self._problem(404, "No such experiment", f"There is none of the name {name!r}.")

    def _problem(self, status: int, title: str, text: str) -> Response:
        values = {"here": "problem", "title": title, "text": text, "root": _ROOT, "now": self._clock()}
        content = render("problem.html.jinja", {**values, "is_open": True})
        return HTMLResponse(content, status, headers=dict(HEADERS))


_BY_PROXY = (
    "Requests by way of a proxy need a key. Make one: tailwise keys create --name dashboard --role admin"
)


def _failure(found: Cached[Any]) -> str:
    """What to say of a computation that failed: what we meant to say, and nothing else's inside."""
    if found.error is None:
        return ""
    if isinstance(found.error, TailwiseError | ValueError):
        return str(found.error)
    return f"{type(found.error).__name__}; the service's log says more."


def _target(request: Request) -> str:
    return _checked_target(request.query_params.get("next", ""))


def _checked_target(path: str) -> str:
    """A page of ours, or the first one: nobody is sent elsewhere."""
    is_ours = path == _ROOT or path.startswith(f"{_ROOT}/")
    return path if is_ours and not set(path) & set("\\\r\n?#") and "//" not in path else _ROOT


async def _style(request: Request) -> Response:
    return Response(
        style_sheet(),
        media_type="text/css",
        headers={"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"},
    )


async def _icon(request: Request) -> Response:
    return Response(ICON, media_type="image/svg+xml", headers={"cache-control": "public, max-age=86400"})
