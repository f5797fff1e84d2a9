"""Whether a score of titles is their length in disguise."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailwise.diagnosis._rank_correlation import rank_correlation
from tailwise.diagnosis._uncertain import Uncertain

__all__ = ["LengthCheck", "check_length", "without_length"]

Floats = NDArray[np.float64]
_NEGLIGIBLE = 0.1  # |Spearman|: 1 % of the variance of ranks
_ORDER = 3  # of the polynomial of log length


@dataclass(frozen=True)
class LengthCheck:
    """How far a score goes with the number of a title's tokens, and what that does to popularity.

    All are Spearman's correlations over items, with 95 % bootstrap intervals.

    Attributes:
        name: Of the score.
        spearman_with_length: Of the score and the number of title tokens.
        spearman_with_popularity: Of the score and training counts.
        spearman_with_popularity_given_length: The same among titles of equal length (partial).
        popularity_with_length: Of counts and the number of title tokens: if it is not zero, a
            score that goes with length goes with popularity for no other reason.
    """

    name: str
    spearman_with_length: Uncertain
    spearman_with_popularity: Uncertain
    spearman_with_popularity_given_length: Uncertain
    popularity_with_length: Uncertain

    @property
    def is_free_of_length(self) -> bool:
        """Whether the correlation with length is below 0.1 either way: 1 % of the ranks' variance."""
        value = self.spearman_with_length.value
        return value is None or abs(value) < _NEGLIGIBLE

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "name": self.name,
            "spearman_with_length": self.spearman_with_length.as_dict(),
            "spearman_with_popularity": self.spearman_with_popularity.as_dict(),
            "spearman_with_popularity_given_length": self.spearman_with_popularity_given_length.as_dict(),
            "popularity_with_length": self.popularity_with_length.as_dict(),
            "is_free_of_length": self.is_free_of_length,
        }


def check_length(
    name: str,
    scores: ArrayLike,
    n_tokens: ArrayLike,
    counts: ArrayLike,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> LengthCheck:
    """Correlate a score with the length of titles and with popularity, each without the other.

    Args:
        name: Of the score.
        scores: ``[n_items]``; NaN where unknown.
        n_tokens: ``[n_items]``; tokens of each title.
        counts: ``[n_items]``; training interactions.
        n_resamples: Of items, for the intervals.
        seed: Of the draws.

    Example:
        >>> check_length("sum", [-8, -2, -4, -6, -9], [8, 2, 4, 6, 9], [1, 5, 2, 1, 3]).is_free_of_length
        False
    """

    def of(first: ArrayLike, second: ArrayLike, given: ArrayLike | None = None) -> Uncertain:
        return rank_correlation(first, second, given=given, n_resamples=n_resamples, seed=seed)

    return LengthCheck(
        name=name,
        spearman_with_length=of(scores, n_tokens),
        spearman_with_popularity=of(scores, counts),
        spearman_with_popularity_given_length=of(scores, counts, n_tokens),
        popularity_with_length=of(np.where(np.isfinite(np.asarray(scores, float)), counts, np.nan), n_tokens),
    )


def without_length(scores: ArrayLike, n_tokens: ArrayLike) -> Floats:
    """Take out of a score what a smooth curve of log length predicts of it.

    The curve is a polynomial of order 3 in the logarithm of the number of tokens, by least
    squares over the items that have a score; the mean of the score stays.

    Args:
        scores: ``[n_items]``; NaN where unknown, and there the result is NaN too.
        n_tokens: ``[n_items]``; >= 1 where the score is known.

    Returns:
        ``[n_items]`` float64.
    """
    values = np.asarray(scores, dtype=np.float64)
    lengths = np.asarray(n_tokens, dtype=np.float64)
    known = np.isfinite(values)
    found = np.full(values.shape, np.nan)
    if known.any():
        x = np.log(lengths[known])
        x = x - x.mean()
        powers = np.vander(x, _ORDER + 1)
        fitted = powers @ np.linalg.lstsq(powers, values[known], rcond=1e-8)[0]
        found[known] = values[known] - fitted + values[known].mean()
    return found
