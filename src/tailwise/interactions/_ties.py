"""Order rows of equal time by a seeded hash, never by identifier or file order.

In much public data half of all rows share their timestamp with another row of the user and
are stored in identifier order: "the last item" would then test that order. The key here
depends on the identifiers and the seed only, so it is the same for any row order, machine
and library version; and it mixes user with item, so that no item comes last everywhere.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import polars as pl

from tailwise.schema import ITEM, ITEM_INDEX, TIMESTAMP, USER, USER_INDEX

__all__ = ["is_tied", "time_order"]


def time_order(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Sort encoded ``rows`` by user, timestamp, and the seeded hash of user and item."""
    keys = _mixed(_hashes(rows, USER, USER_INDEX, seed) + _hashes(rows, ITEM, ITEM_INDEX, seed))
    # lexsort is stable and its last key leads
    order = np.lexsort((keys, rows[TIMESTAMP].to_numpy(), rows[USER_INDEX].to_numpy()))
    return rows[order]


def is_tied(rows: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Tell for each row, sorted by user and time, whether another of the user has its timestamp."""
    users, times = rows[USER_INDEX].to_numpy(), rows[TIMESTAMP].to_numpy()
    same = (users[1:] == users[:-1]) & (times[1:] == times[:-1])  # [n_rows - 1]
    tied = np.zeros(len(users), dtype=bool)
    tied[1:] |= same
    tied[:-1] |= same
    return tied


def _hashes(rows: pl.DataFrame, name: str, index: str, seed: int) -> npt.NDArray[np.uint64]:
    """Hash each distinct identifier once and spread the result over the rows."""
    distinct = rows.select(index, name).unique(index).sort(index)
    key = seed.to_bytes(16, "little", signed=True)
    person = name.encode()[:16]  # a user and an item of the same identifier must not cancel out
    hashes = np.fromiter(
        (
            int.from_bytes(
                hashlib.blake2b(text.encode(), digest_size=8, key=key, person=person).digest(), "little"
            )
            for text in distinct[name]
        ),
        dtype=np.uint64,
        count=distinct.height,
    )
    return hashes[np.searchsorted(distinct[index].to_numpy(), rows[index].to_numpy())]


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Finalise like splitmix64 (Steele et al., 2014), so that sums of hashes sort without pattern."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
