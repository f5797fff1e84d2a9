"""What a service may do only where it is for this machine alone, and requests that are of another."""

from starlette.datastructures import Headers

from tailwise.errors import ConfigError
from tailwise.serving._http_problems import ProblemError

__all__ = ["check_is_alone", "refusal_of_forwarded"]

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def check_is_alone(setting: str, got: str, *, harm: str, do: str, is_local: bool, has_keys: bool) -> None:
    """Refuse a setting where others than this machine may be served.

    Args:
        setting: Its name.
        got: Its value.
        harm: What it would do to others, a sentence without its stop.
        do: What to do to a service of its own, such as ``"drill"``.
        is_local: The service listens on the loopback alone.
        has_keys: There are API keys: it is a service for others.

    Raises:
        ConfigError: it is not for this machine alone.
    """
    if not is_local:
        raise ConfigError(
            f"{setting} must be off where the service listens beyond the loopback; got {got}. {harm}: "
            f"{do} a service of its own."
        )
    if has_keys:
        raise ConfigError(
            f"{setting} must be off where there are API keys; got {got}. Keys are for a service that others "
            f"use: {do} one with a --state of its own."
        )


def refusal_of_forwarded(headers: Headers, code: str, reason: str) -> ProblemError | None:
    """Answer a request that a proxy has passed on: behind one, the loopback is no longer this machine.

    Args:
        headers: Of the request.
        code: Of the problem.
        reason: Why it may not be, without its stop.

    Returns:
        None for a request of this machine.
    """
    if not any(name in headers for name in _FORWARDED):
        return None
    return ProblemError(403, code, f"requests must not come through a proxy: {reason}.")
