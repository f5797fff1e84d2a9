"""What is passed into the service: who is assigned what, where lists are kept, what users did."""

from collections.abc import Sequence
from typing import Protocol

from tailwise.serving._records import Assigned, LoggedItem, ServedList, Surface

__all__ = ["Assignment", "ListSink", "LiveHistory"]


class Assignment(Protocol):
    """Decides which variant answers a user."""

    def assign(self, user_id: str | None, surface: Surface) -> Assigned:
        """Assign; the same user gets the same variant, in every worker and after every restart.

        Args:
            user_id: None for an anonymous request.
            surface: Where the list will be shown.
        """
        ...


class ListSink(Protocol):
    """Keeps the lists that were answered."""

    async def record(self, served: ServedList) -> None:
        """Keep a list; it is durable when this returns.

        Raises:
            LogUnavailableError: it could not be kept anywhere.
        """
        ...


class LiveHistory(Protocol):
    """Knows what users chose since the models were trained."""

    async def items(self, user_id: str) -> Sequence[LoggedItem]:
        """Return what the log knows of a user, oldest first; at most the most recent few hundred.

        Raises:
            LogUnavailableError: the log cannot be read now.
        """
        ...
