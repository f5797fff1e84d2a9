"""Roles as routes ask for them."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from tailwise.serving._http_keys import ApiKey
from tailwise.serving._http_problems import ProblemError

__all__ = ["A_PAGE", "NO_KEYS", "key_of", "requires"]

NO_KEYS = ApiKey(id="local", name="without keys", roles=("admin",), sha256="", created_at=0.0)
"""Who asks a service on the loopback for which no key was made."""

A_PAGE = ApiKey(id="page", name="a page", roles=(), sha256="", created_at=0.0)
"""Who asks for a page, before the page has looked at the cookie: may do nothing else."""

# Declares the scheme; the guard has looked at the header before any body was read.
_bearer = HTTPBearer(auto_error=False, description="A key that `tailwise keys create` made: tw_..._...")


def key_of(request: Request) -> ApiKey:
    """Return the key of a request that has passed the guard."""
    key: ApiKey = request.scope["state"]["key"]
    return key


def requires(role: str) -> Callable[..., ApiKey]:
    """Return a dependency that lets keys of a role pass.

    Args:
        role: One of :data:`~tailwise.serving.ROLES`.
    """

    def check(request: Request, _: Annotated[object, Depends(_bearer)]) -> ApiKey:
        key = key_of(request)
        if not key.may(role):
            raise ProblemError(
                403, "role-missing", f"key must have the role {role}; {key.id} has {', '.join(key.roles)}."
            )
        return key

    return check
