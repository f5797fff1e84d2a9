"""Scores of items from comparisons of pairs: the Bradley–Terry model, through the library ``choix``."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

__all__ = ["BradleyTerry", "fit_bradley_terry"]

Floats = NDArray[np.float64]
_MAX_ITERATIONS = 10_000  # each solves one linear system; tens are usual


@dataclass(frozen=True, eq=False)
class BradleyTerry:
    """Scores such that the odds of i before j are exp(score_i − score_j).

    Attributes:
        scores: ``[n_items]`` float64; log-odds, mean 0.
        errors: ``[n_items]`` float64; standard errors of the scores.
    """

    scores: Floats
    errors: Floats


def fit_bradley_terry(
    pairs: ArrayLike, outcomes: ArrayLike, n_items: int, *, prior_wins: float = 0.1
) -> BradleyTerry:
    """Fit scores to outcomes between 0 and 1.

    ``choix.ilsr_pairwise_dense`` maximises the likelihood of a *matrix of wins*, whose entries
    need not be whole numbers; the other functions take lists of (winner, loser). Every compared
    pair also gets ``prior_wins`` wins either way, so an item that wins all its comparisons stays
    finite; the regularisation of choix itself acts on the Markov chain's rates and is no prior on
    outcomes. Standard errors are of the sandwich form, which does not believe that an outcome of
    0.7 is as good as one toss of a coin: H⁻¹·J·H⁻¹ with the model's Hessian H and the sum J of
    the squared gradients of single comparisons, times n_pairs / (n_pairs − n_items + 1).

    Args:
        pairs: ``[n_pairs, 2]`` int64; all items must be connected.
        outcomes: ``[n_pairs]`` in [0, 1]; 1 = the first of the pair wins.
        n_items: 2 or more.
        prior_wins: > 0.

    Raises:
        ValueError: an outcome is outside, or the pairs do not connect the items.

    Example:
        >>> fit_bradley_terry([[0, 1], [1, 2], [0, 2]], [1.0, 0.6, 0.9], 3).scores.argsort().tolist()
        [2, 1, 0]
    """
    from choix import ilsr_pairwise_dense

    first, second = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
    y = np.asarray(outcomes, dtype=np.float64)
    if not np.all((y >= 0) & (y <= 1)):
        raise ValueError(
            f"outcomes must lie in [0, 1]; got {float(np.nanmin(y))}..{float(np.nanmax(y))}.\n"
            "  1 means that the first of the pair wins."
        )
    _check_connected(first, second, n_items)
    wins = np.zeros((n_items, n_items))
    np.add.at(wins, (first, second), y + prior_wins)
    np.add.at(wins, (second, first), 1 - y + prior_wins)
    scores = np.asarray(ilsr_pairwise_dense(wins, max_iter=_MAX_ITERATIONS), dtype=np.float64)
    expected = expit(scores[first] - scores[second])
    inverse = np.linalg.pinv(
        _laplacian(first, second, (1 + 2 * prior_wins) * expected * (1 - expected), n_items), hermitian=True
    )
    spread = _laplacian(first, second, (y - expected) ** 2, n_items)
    left = max(y.size - n_items + 1, 1)
    variances = np.diag(inverse @ spread @ inverse) * y.size / left
    return BradleyTerry(scores, np.sqrt(np.maximum(variances, 0.0)))


def _laplacian(first: NDArray[np.int64], second: NDArray[np.int64], weights: Floats, n: int) -> Floats:
    """Σ w (e_first − e_second)(e_first − e_second)ᵀ: ``[n, n]``."""
    found = np.zeros((n, n))
    for rows, columns, sign in (
        (first, first, 1),
        (second, second, 1),
        (first, second, -1),
        (second, first, -1),
    ):
        np.add.at(found, (rows, columns), sign * weights)
    return found


def _check_connected(first: NDArray[np.int64], second: NDArray[np.int64], n_items: int) -> None:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(first.size), (first, second)), shape=(n_items, n_items))
    n_parts = int(connected_components(graph, directed=False)[0])
    if n_parts > 1:
        raise ValueError(
            f"pairs must connect all items; got {n_parts} groups without a comparison between them.\n"
            "  Draw them with comparison_pairs()."
        )
