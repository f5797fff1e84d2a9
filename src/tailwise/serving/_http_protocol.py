"""Connections that dawdle are closed: the server's own protocol with bounds on the head of a request."""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["bounded_protocol"]

_MAX_HEAD_BYTES = 65_536


def bounded_protocol(header_timeout_s: float) -> type[asyncio.Protocol]:
    """Return a protocol for :class:`uvicorn.Config` that bounds time and size of a request's head.

    The server itself bounds neither, so a few clients that send a byte now and then could hold all
    connections. What comes after the head is the guard's.

    Args:
        header_timeout_s: From the connection, or from the first byte of a later request, to the end of the
            head; > 0.
    """

    class BoundedProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        """See :func:`bounded_protocol`."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._timer: asyncio.TimerHandle | None = None
            self._n_bytes = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait_for_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.transport.is_closing() or (self.cycle is not None and not self.cycle.response_complete):
                self._stop_waiting()
            else:
                self._n_bytes += len(data)
                if self._n_bytes > _MAX_HEAD_BYTES:
                    self._stop_waiting()
                    self.transport.close()
                else:
                    self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _wait_for_head(self) -> None:
            if self._timer is None:
                self._timer = self.loop.call_later(header_timeout_s, self._give_up)

        def _stop_waiting(self) -> None:
            self._n_bytes = 0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            if not self.transport.is_closing():
                self.transport.close()

    return BoundedProtocol
