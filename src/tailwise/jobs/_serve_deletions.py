"""One worker's side of a user's deletion: what its engines keep of the user goes too, whoever deleted."""

import asyncio
import logging
from contextlib import suppress

from tailwise.errors import LogUnavailableError
from tailwise.events import EventLog, UserDeletions
from tailwise.serving import Lineup
from tailwise.serving._http_log import log

__all__ = ["Forgetter"]

LOOK_S = 2.0  # between two looks at the log: what engines of other processes keep a deleted user longer

BUSY_S = 5.0  # who deletes waits no longer for a batch to end


class Forgetter:
    """Drops what engines keep of users whose data were deleted, here or by any process on the same log.

    The log's rows of deletions are what workers, machines and the command line share: no id is written
    down anywhere for it. They hold keyed hashes, compared with those of the users that engines keep.

    Args:
        lineup: The engines.
        event_log: Open.
        again_s: Longest time that a request may be under way. One that had read the user's history before
            the deletion may leave a state after it, so all is dropped once more so much later.
        look_s: Between two looks.
    """

    def __init__(
        self, lineup: Lineup, event_log: EventLog, *, again_s: float, look_s: float = LOOK_S
    ) -> None:
        self._lineup = lineup
        self._event_log = event_log
        self._again_s = again_s
        self._look_s = look_s
        self._seen = 0
        self._again: list[tuple[float, UserDeletions]] = []  # when, by the loop's clock

    async def forget(self, user_id: str) -> None:
        """Drop what the engines of this process keep of a user, now; one that is busy, at the next look."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BUSY_S):
                await self._lineup.forget([user_id])

    async def follow(self) -> None:
        """Look at the log and drop, until cancelled."""
        while True:
            try:
                await self._look()
            except LogUnavailableError:
                pass  # looked at again; whatever is deleted meanwhile has a later number
            except Exception as error:
                log(logging.ERROR, "deletions not followed", error=error)
            await asyncio.sleep(self._look_s)

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        due = [found for at, found in self._again if at <= now]
        self._again = [(at, found) for at, found in self._again if at > now]
        await self._drop(due)
        new = await self._event_log.user_deletions(self._seen)
        if new.number > self._seen:
            await self._drop([new])
            self._seen = new.number
            self._again.append((asyncio.get_running_loop().time() + self._again_s, new))

    async def _drop(self, deletions: list[UserDeletions]) -> None:
        for found in deletions:
            users = await self._lineup.kept_users()
            await self._lineup.forget(await asyncio.to_thread(found.among, users))
