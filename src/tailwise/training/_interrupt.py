"""Turn Ctrl-C into a request that is answered between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["StopRequest", "stop_between_steps"]


class StopRequest:
    """Becomes true when the process was asked to stop."""

    def __init__(self) -> None:
        self.was_made = False


@contextmanager
def stop_between_steps() -> Iterator[StopRequest]:
    """Collect the first SIGINT or SIGTERM inside the block instead of dying at once.

    A step must not be cut in two: half of the parameters would be updated. A second
    signal acts at once. Outside the main thread signals cannot be caught, and nothing
    is changed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def remember(number: int, frame: FrameType | None) -> None:
        request.was_made = True
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, remember)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
