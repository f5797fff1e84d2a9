"""Outcomes of one metric as arrays in order of enrolment, checked."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["OutcomeArrays"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OutcomeArrays:
    """What n assigned users did within their windows, in order of enrolment.

    Attributes:
        treated: ``[n]`` bool; True for treatment. Each user was treated with probability one half.
        stage: ``[n]`` int; stage of the user's first exposure.
        values: ``[n, 1]``, or ``[n, 2]`` for a ratio: numerator and denominator.
        covariates: ``[n, c]`` known before exposure, NaN where unknown; None: none.
    """

    treated: NDArray[np.bool_]
    stage: NDArray[np.int64]
    values: Floats
    covariates: Floats | None = None

    @classmethod
    def of(
        cls,
        treated: object,
        stage: object,
        numerator: object,
        denominator: object | None = None,
        covariates: object | None = None,
    ) -> "OutcomeArrays":
        """Check and convert array-likes.

        Args:
            treated: ``[n]`` of 0 and 1, or of booleans.
            stage: ``[n]`` whole numbers, or one number for all.
            numerator: ``[n]`` finite numbers.
            denominator: ``[n]`` finite numbers >= 0, for a ratio.
            covariates: ``[n]`` or ``[n, c]``; NaN where unknown.

        Raises:
            ValueError: shapes differ, a value is not finite, or a denominator is negative.
        """
        flags = np.asarray(treated)
        if flags.ndim != 1 or not np.isin(flags, (0, 1)).all():
            raise ValueError("treated must be a flat array of 0 and 1; got other values or another shape.")
        n = flags.size
        columns = [_column("numerator", numerator, n)]
        if denominator is not None:
            columns.append(_column("denominator", denominator, n))
            if (columns[1] < 0).any():
                raise ValueError(f"denominator must be >= 0; got {columns[1].min()}.")
        known: Floats | None = None
        if covariates is not None:
            known = np.asarray(covariates, dtype=np.float64)
            known = known[:, None] if known.ndim == 1 else known
            if known.ndim != 2 or known.shape[0] != n or np.isinf(known).any():
                raise ValueError(
                    f"covariates must have one finite row (or NaN) per user; got shape {known.shape} "
                    f"for {n} users."
                )
        stages = np.asarray(stage)
        if stages.ndim == 0:
            stages = np.full(n, int(stages))
        if stages.shape != (n,):
            raise ValueError(f"stage must have one entry per user, {n}; got shape {stages.shape}.")
        return cls(flags.astype(bool), stages.astype(np.int64), np.stack(columns, axis=1), known)

    @property
    def n_users(self) -> int:
        """Number of users."""
        return int(self.treated.size)

    @property
    def is_ratio(self) -> bool:
        """Whether the metric is a ratio of two sums."""
        return bool(self.values.shape[1] == 2)

    def without_covariates(self) -> "OutcomeArrays":
        """Return the same outcomes, to be analysed as they are."""
        return OutcomeArrays(self.treated, self.stage, self.values)

    def first(self, n: int) -> "OutcomeArrays":
        """Return the first ``n`` users."""
        known = None if self.covariates is None else self.covariates[:n]
        return OutcomeArrays(self.treated[:n], self.stage[:n], self.values[:n], known)


def _column(name: str, values: object, n: int) -> Floats:
    column = np.asarray(values, dtype=np.float64)
    if column.shape != (n,):
        raise ValueError(f"{name} must have one entry per user, {n}; got shape {column.shape}.")
    if not np.isfinite(column).all():
        bad = int(np.count_nonzero(~np.isfinite(column)))
        raise ValueError(f"{name} must be finite; got {bad} values that are not. Count what is missing as 0.")
    return column
