"""Deleting what the log holds, the one way that its triggers let through: with a row of who and why."""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tailwise.events._database import Database
from tailwise.events._rows import Row
from tailwise.events._tables import DELETIONS, EVENTS, LISTS, SETTINGS

__all__ = ["Deleted", "UserDeletions", "delete_older", "delete_user", "find_user_deletions", "keep_undeleted"]

USER_S = 60.0  # longest time of a user's deletion
ROWS_AT_ONCE = 20_000  # of a retention's transaction: writers wait for no more


@dataclass(frozen=True)
class Deleted:
    """What a deletion removed.

    Attributes:
        n_events: Events.
        n_lists: Served lists.
    """

    n_events: int
    n_lists: int


@dataclass(frozen=True)
class UserDeletions:
    """Users who were deleted; the log knows them by keyed hashes alone, so they can be told, not listed.

    Attributes:
        number: Of the last of these deletions.
        hashes: Of the users.
        key: Of the hashes, the log's own.
    """

    number: int
    hashes: frozenset[str]
    key: bytes = field(repr=False)

    def among(self, user_ids: Iterable[str]) -> list[str]:
        """Return those that were deleted; about a microsecond per id."""
        return [user_id for user_id in user_ids if _digest(self.key, user_id) in self.hashes]


def find_user_deletions(database: Database, after: int) -> UserDeletions:
    """Return what the log knows of users' deletions with a number above ``after``.

    Numbers are given under the lock that deletions hold to their end, so none appears behind a later one.
    """
    later = sa.select(DELETIONS.c.deletion_id, DELETIONS.c.user_hash).where(
        DELETIONS.c.deletion_id > after, DELETIONS.c.kind == "user"
    )
    with database.reading() as connection:
        found = connection.execute(later).all()
        key = _key(connection)
    number = max((each.deletion_id for each in found), default=after)
    return UserDeletions(number, frozenset(each.user_hash for each in found), key)


def delete_user(database: Database, user_id: str, *, by: str, reason: str, at: float) -> Deleted:
    """Delete a user's events and lists in one transaction with the row that tells of it."""

    def delete(connection: Connection) -> Deleted:
        database.exclude(connection, is_shared=False)
        opened = _open(connection, "user", by=by, reason=reason, at=at, user_hash=_hash(connection, user_id))
        n_events = 0
        for group in ("type = 'impression'", "type <> 'impression'"):  # so that each finds its index
            of_user = sa.delete(EVENTS).where(EVENTS.c.user_id == user_id, sa.text(group))
            n_events += connection.execute(of_user).rowcount
        n_lists = connection.execute(sa.delete(LISTS).where(LISTS.c.user_id == user_id)).rowcount
        return _close(connection, opened, Deleted(n_events, n_lists))

    return database.write(delete, USER_S)


def delete_older(database: Database, before: float, *, by: str, reason: str, at: float) -> Deleted:
    """Delete what was received or served before a moment, many short transactions with a row each."""
    n_events = n_lists = 0
    for table, moment in ((EVENTS, EVENTS.c.received_at), (LISTS, LISTS.c.served_at)):
        with database.reading(None) as connection:
            first, last = connection.execute(
                sa.select(sa.func.min(table.c.seq), sa.func.max(table.c.seq))
            ).one()
        for start in range(first or 0, (last or -1) + 1, ROWS_AT_ONCE):
            with database.writing() as connection:
                old = (table.c.seq.between(start, start + ROWS_AT_ONCE - 1), moment < before)
                if not connection.execute(sa.select(sa.exists().where(*old))).scalar():
                    continue
                opened = _open(connection, "retention", by=by, reason=reason, at=at, before=before)
                n = connection.execute(sa.delete(table).where(*old)).rowcount
                deleted = Deleted(n, 0) if table is EVENTS else Deleted(0, n)
                _close(connection, opened, deleted)
            n_events, n_lists = n_events + deleted.n_events, n_lists + deleted.n_lists
    return Deleted(n_events, n_lists)


def keep_undeleted(connection: Connection, rows: Sequence[Row], moment: str) -> list[Row]:
    """Leave out the rows of users that were deleted after the rows had come.

    Args:
        connection: In a transaction that excludes deletions.
        rows: Of events or lists, from a spool.
        moment: The column that says when a row came.
    """
    hashes = {
        user: _hash(connection, user) for user in {r["user_id"] for r in rows if r["user_id"] is not None}
    }
    if not hashes:
        return list(rows)
    last = sa.select(DELETIONS.c.user_hash, sa.func.max(DELETIONS.c.at).label("last_at"))
    of_users = last.where(DELETIONS.c.user_hash.in_(list(hashes.values()))).group_by(DELETIONS.c.user_hash)
    found = connection.execute(of_users)
    deleted_at = {each.user_hash: each.last_at for each in found}
    never = float("-inf")
    return [row for row in rows if row[moment] > deleted_at.get(hashes.get(row["user_id"]), never)]


def _hash(connection: Connection, user_id: str) -> str:
    """Of a user's id, with the log's own key: nobody without the key can try ids out."""
    return _digest(_key(connection), user_id)


def _key(connection: Connection) -> bytes:
    key = connection.info.get("tailwise_key")
    if key is None:
        of_key = sa.select(SETTINGS.c.value).where(SETTINGS.c.name == "user_hash_key")
        key = connection.info["tailwise_key"] = bytes.fromhex(connection.execute(of_key).scalar_one())
    return bytes(key)


def _digest(key: bytes, user_id: str) -> str:
    return hmac.digest(key, user_id.encode(), "sha256").hex()


def _open(connection: Connection, kind: str, **columns: object) -> int:
    row = {"kind": kind, "n_events": 0, "n_lists": 0, "permit_id": 1, **columns}
    insert = sa.insert(DELETIONS).values(row).returning(DELETIONS.c.deletion_id)
    return int(connection.execute(insert).scalar_one())


def _close(connection: Connection, opened: int, deleted: Deleted) -> Deleted:
    counts = {"n_events": deleted.n_events, "n_lists": deleted.n_lists, "permit_id": None}
    connection.execute(sa.update(DELETIONS).where(DELETIONS.c.deletion_id == opened).values(counts))
    return deleted
