"""Cut a data set into training, validation and test part.

Both methods order a user's rows by time and, within equal times, by a seeded hash (see
``_ties.py``); both report how many held-out rows had a tie to be broken.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from tailwise.errors import DataError
from tailwise.interactions._dataset import Dataset
from tailwise.interactions._ties import is_tied, time_order
from tailwise.schema import TIMESTAMP, USER_INDEX

__all__ = ["Split", "SplitMethod", "split_by_time", "split_leave_last_out"]

SplitMethod = Literal["global-time", "leave-last-out"]

_MIN_ROWS_PER_USER = 3  # one to train on, one for validation, one for the test


@dataclass(frozen=True, eq=False)
class Split:
    """Three tables that together hold every interaction of the data set exactly once.

    Each is encoded, sorted by ``user_index``, time and tie-breaking hash. A held-out row is a
    *target* when its user has a history, i.e. rows in an earlier part; the others are excluded
    from evaluation and counted.
    """

    method: SplitMethod
    parameters: Mapping[str, Any]
    """JSON values: cut times or user counts, seed of the tie-breaking hash, repeats rule."""
    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame
    n_users: int
    n_items: int
    n_tied_validation: int
    """Validation targets that share their timestamp with another row of the user."""
    n_tied_test: int
    n_excluded_validation: int
    """Validation rows whose user has no training row."""
    n_excluded_test: int
    """Test rows whose user has neither a training nor a validation row."""

    @property
    def n_validation_targets(self) -> int:
        """Held-out rows that validation evaluates."""
        return self.validation.height - self.n_excluded_validation

    @property
    def n_test_targets(self) -> int:
        """Held-out rows that the test evaluates."""
        return self.test.height - self.n_excluded_test

    def as_dict(self) -> dict[str, Any]:
        """Return ``data.split`` of ``metrics.json``; see ``docs/metrics-schema.md``."""
        return {
            "method": self.method,
            "parameters": dict(self.parameters),
            "n_validation_targets": self.n_validation_targets,
            "n_test_targets": self.n_test_targets,
            "n_tied_validation_targets": self.n_tied_validation,
            "n_tied_test_targets": self.n_tied_test,
            "n_excluded_validation_targets": self.n_excluded_validation,
            "n_excluded_test_targets": self.n_excluded_test,
        }


def split_by_time(
    dataset: Dataset, *, validation_share: float = 0.1, test_share: float = 0.1, seed: int = 0
) -> Split:
    """Cut at two moments, the same for all users: what a model deployed then would face.

    Every row from the second cut on is test, from the first on validation. A cut lies
    between two timestamps, at the one nearest to the wanted share, so rows of equal time
    stay together and the shares are approximate.

    Args:
        dataset: What to split.
        validation_share: Wanted share of all interactions, in (0, 1).
        test_share: Likewise; the two leave room for training.
        seed: Of the hash that orders rows of equal user and time.

    Returns:
        ``parameters``: the wanted and realised shares, ``validation_from`` and ``test_from``
        (unix seconds, inclusive), ``seed`` and ``repeats``.

    Raises:
        ValueError: the shares are not positive or add up to 1 or more.
        DataError: there are too few distinct timestamps for three parts, or no user has
            both a history and a target.

    Example:
        >>> split_by_time(dataset).parameters["test_from"]  # doctest: +SKIP
        1320000000
    """
    for name, share in (("validation_share", validation_share), ("test_share", test_share)):
        if not 0 < share < 1:
            raise ValueError(f"{name} must be a fraction in (0, 1); got {share}")
    if validation_share + test_share >= 1:
        raise ValueError(
            f"validation_share + test_share must be below 1; got {validation_share} + {test_share}"
        )
    times, counts = np.unique(dataset.interactions[TIMESTAMP].to_numpy(), return_counts=True)
    if len(times) < 3:
        raise DataError(
            f"a split by time must find at least 3 distinct timestamps; got {len(times)} in data set "
            f"{dataset.name!r}.\n  Use split_leave_last_out, or timestamps finer than these."
        )
    n_rows = int(counts.sum())
    n_before = np.concatenate(([0], np.cumsum(counts)[:-1]))  # rows strictly before each timestamp
    # The parts must not be empty: the test cut leaves two timestamps before it, the other cut one.
    test_cut = _nearest(n_before, (1 - test_share) * n_rows, 2, len(times))
    validation_cut = _nearest(n_before, (1 - test_share - validation_share) * n_rows, 1, test_cut)
    validation_from, test_from = int(times[validation_cut]), int(times[test_cut])

    rows = time_order(dataset.interactions, seed)
    moment = rows[TIMESTAMP].to_numpy()
    part = (moment >= validation_from).astype(np.int8) + (moment >= test_from)
    return _split(
        dataset,
        rows,
        part,
        "global-time",
        {
            "validation_share": validation_share,
            "test_share": test_share,
            "realised_validation_share": int(n_before[test_cut] - n_before[validation_cut]) / n_rows,
            "realised_test_share": int(n_rows - n_before[test_cut]) / n_rows,
            "validation_from": validation_from,
            "test_from": test_from,
            "seed": seed,
            "repeats": dataset.checks.repeats,
        },
    )


def split_leave_last_out(dataset: Dataset, *, seed: int = 0) -> Split:
    """Hold out each user's last row for the test and the one before for validation.

    Users with fewer than three rows train only. Where the last rows of a user share one
    timestamp, the seeded hash decides among them; those targets are counted as tied. Training
    rows of one user may be later than test rows of another: prefer :func:`split_by_time`
    unless it leaves too few users.

    Args:
        dataset: What to split.
        seed: Of the hash that orders rows of equal user and time.

    Returns:
        ``parameters``: ``seed``, ``repeats``, ``n_training_only_users``.

    Raises:
        DataError: no user has three rows.

    Example:
        >>> split_leave_last_out(dataset).n_test_targets  # doctest: +SKIP
        943
    """
    rows = time_order(dataset.interactions, seed)
    users = rows[USER_INDEX].to_numpy()
    sizes = np.bincount(users, minlength=dataset.n_users)
    if not (sizes >= _MIN_ROWS_PER_USER).any():
        raise DataError(
            f"leave-last-out must find a user with at least {_MIN_ROWS_PER_USER} interactions; got at most "
            f"{sizes.max()} in data set {dataset.name!r} ({dataset.n_users:,} users).\n"
            "  Use split_by_time, a longer log, or repeats='keep'."
        )
    n_after = np.cumsum(sizes)[users] - 1 - np.arange(len(users))  # later rows of the same user
    part = np.where(sizes[users] < _MIN_ROWS_PER_USER, 0, np.maximum(0, 2 - n_after))
    return _split(
        dataset,
        rows,
        part,
        "leave-last-out",
        {
            "seed": seed,
            "repeats": dataset.checks.repeats,
            "n_training_only_users": int((sizes < _MIN_ROWS_PER_USER).sum()),
        },
    )


def _nearest(n_before: np.ndarray[Any, Any], wanted: float, lowest: int, end: int) -> int:
    """Return the position in [lowest, end) whose count of earlier rows is nearest to ``wanted``."""
    return lowest + int(np.argmin(np.abs(n_before[lowest:end] - wanted)))


def _split(
    dataset: Dataset,
    rows: pl.DataFrame,
    part: np.ndarray[Any, Any],
    method: SplitMethod,
    parameters: Mapping[str, Any],
) -> Split:
    users, tied = rows[USER_INDEX].to_numpy(), is_tied(rows)
    has_training = np.bincount(users[part == 0], minlength=dataset.n_users) > 0  # [n_users]
    has_earlier = np.bincount(users[part <= 1], minlength=dataset.n_users) > 0
    is_validation_target = (part == 1) & has_training[users]
    is_test_target = (part == 2) & has_earlier[users]
    if not is_validation_target.any() or not is_test_target.any():
        name = "test" if is_validation_target.any() else "validation"
        raise DataError(
            f"the {name} part of a {method} split must hold a user with a history; got none in data set "
            f"{dataset.name!r} ({dataset.n_users:,} users, {dataset.n_interactions:,} interactions).\n"
            "  Use split_leave_last_out, larger shares, or a longer log."
        )
    return Split(
        method=method,
        parameters=parameters,
        train=rows.filter(part == 0),
        validation=rows.filter(part == 1),
        test=rows.filter(part == 2),
        n_users=dataset.n_users,
        n_items=dataset.n_items,
        n_tied_validation=int((is_validation_target & tied).sum()),
        n_tied_test=int((is_test_target & tied).sum()),
        n_excluded_validation=int(((part == 1) & ~is_validation_target).sum()),
        n_excluded_test=int(((part == 2) & ~is_test_target).sum()),
    )
