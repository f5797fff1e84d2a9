"""Errors as RFC 9457 says: ``application/problem+json``, one shape for all of them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

__all__ = ["FieldError", "Problem", "ProblemError", "problem_response", "responses"]

MEDIA_TYPE = "application/problem+json"
_MAX_ERRORS = 50  # of one answer; a batch of a thousand bad events needs no thousand lines

# Values of fields that choose a kind of body; pydantic names them on the way to a field.
_TAGS = {"home", "discovery", "similar", "impression", "click", "add-to-cart", "purchase"}

_TITLES = {
    400: "Bad request",
    401: "No valid key",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request too slow",
    409: "Conflict",
    413: "Body too large",
    415: "Unsupported media type",
    421: "Wrong host",
    422: "Invalid request",
    429: "Too many requests",
    431: "Headers too large",
    500: "Internal error",
    503: "Unavailable",
}


class FieldError(BaseModel):
    """One field that breaks a rule."""

    model_config = ConfigDict(extra="forbid")

    location: str = Field(description="Where, such as `body/events/3/revenue`.", max_length=500)
    message: str = Field(description="The rule that it breaks.", max_length=1000)


class Problem(BaseModel):
    """Why a request was refused."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description="`urn:tailwise:problem:` and a word that programs may compare.")
    title: str = Field(description="The kind of problem.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was wrong, and what to do.")
    request_id: str | None = Field(default=None, description="Names the request in the service's log.")
    errors: list[FieldError] | None = Field(default=None, description="The fields that break a rule.")


class ProblemError(Exception):
    """Ends a request with a problem.

    Args:
        status: HTTP status.
        kind: Word of the problem's ``type``.
        detail: For the reader; by the template of errors, nothing personal.
        errors: Of fields: location and message.
        headers: Further ones of the response.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


def problem_response(error: ProblemError, request_id: str | None) -> Response:
    """Write a problem as a response."""
    content: dict[str, Any] = {
        "type": f"urn:tailwise:problem:{error.kind}",
        "title": _TITLES.get(error.status, "Error"),
        "status": error.status,
        "detail": error.detail,
        "request_id": request_id,
    }
    if error.errors:
        content["errors"] = [
            {"location": location[:500], "message": message[:1000]}
            for location, message in error.errors[:_MAX_ERRORS]
        ]
    # ASCII alone: whatever a client sent, half of a surrogate pair included, can be written back.
    return Response(
        json.dumps(content, ensure_ascii=True).encode(),
        status_code=error.status,
        media_type=MEDIA_TYPE,
        headers=error.headers,
    )


def from_validation(error: RequestValidationError) -> ProblemError:
    """Turn what pydantic says into a problem; values that were sent are not repeated."""
    fields = [
        ("/".join(_part(part) for part in entry["loc"] if part not in _TAGS), str(entry["msg"]))
        for entry in error.errors()
    ]
    where, what = fields[0]
    more = f" {len(fields) - 1} further fields break a rule too." if len(fields) > 1 else ""
    return ProblemError(422, "invalid-request", f"{where} is refused: {what}.{more}", errors=fields)


def _part(part: Any) -> str:
    text = str(part)
    return text if len(text) <= 60 else f"{text[:60]}..."


def from_http(error: HTTPException) -> ProblemError:
    """Turn the framework's own refusals (no such path, no such method) into a problem."""
    kind = {404: "no-such-path", 405: "no-such-method"}.get(error.status_code, "bad-request")
    detail = {
        404: "path must be one of the service's; see /openapi.json.",
        405: "method must be one that the path has; see the header Allow.",
    }.get(error.status_code, "body must be JSON in UTF-8; it could not be read.")
    return ProblemError(error.status_code, kind, detail, headers=error.headers)


async def answer_problem(request: Request, error: Exception) -> Response:
    """Handle :class:`ProblemError` and the framework's exceptions."""
    if isinstance(error, RequestValidationError):
        error = from_validation(error)
    elif isinstance(error, HTTPException):
        error = from_http(error)
    assert isinstance(error, ProblemError)  # registered for these three alone
    return problem_response(error, request.scope.get("state", {}).get("request_id"))


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare problems of a route for the schema; what any route may say is included.

    Args:
        statuses: Beyond 400, 401, 403, 408, 413, 421, 422, 429, 500 and 503.
    """
    everywhere = (400, 401, 403, 408, 413, 421, 422, 429, 500, 503)
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": _TITLES[status], "content": content}
        for status in sorted({*everywhere, *statuses})
    }
