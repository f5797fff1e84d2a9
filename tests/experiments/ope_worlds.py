"""A small shop whose truth is known: two-slot lists drawn by Gumbel top-k, users who differ and come back."""

import numpy as np
import polars as pl

from tailwise.experiments.ope import LoggedLists, PlackettLuce, check_logged_lists

N_ITEMS, N_CONTEXTS, N_PLACES = 8, 4, 2
ITEMS = pl.Series([f"i{number}" for number in range(N_ITEMS)])
_rng = np.random.default_rng(7)
LOG_SCORES = _rng.normal(0, 1, (N_CONTEXTS, N_ITEMS))
POLICY_SCORES = 0.5 * LOG_SCORES + _rng.normal(0, 1, (N_CONTEXTS, N_ITEMS))
CLICK = 1 / (1 + np.exp(2.2 - 0.8 * _rng.normal(0, 1, (N_CONTEXTS, N_ITEMS)) - 0.5 * POLICY_SCORES))
CLICK = np.minimum(CLICK, 0.6)  # [contexts, items]; below 1 / 1.5 for every user
PLACE = np.array([1.0, 0.6])
USER_EFFECTS = np.array([0.5, 1.5])
PRICE_SIGMA = 1.0  # of the logarithm; revenue has a skewness of 6 before any weight


def pair_probabilities(scores: np.ndarray) -> np.ndarray:
    """Plackett-Luce probability of first and second item: ``[contexts, items, items]``."""
    mass = np.exp(scores)
    first = mass / mass.sum(axis=1, keepdims=True)
    left = mass.sum(axis=1)[:, None, None] - mass[:, :, None]
    pairs = first[:, :, None] * mass[:, None, :] / left
    pairs[:, np.arange(N_ITEMS), np.arange(N_ITEMS)] = 0
    return pairs


def value(scores: np.ndarray, *, revenue: bool = False) -> float:
    """Mean reward of a list of the policy that draws by these scores; every context is equally likely."""
    pairs = pair_probabilities(scores)
    places = (pairs.sum(axis=2), pairs.sum(axis=1))  # probability of each item in each place
    total = sum(
        weight * (of_place * CLICK).sum(axis=1) for weight, of_place in zip(PLACE, places, strict=True)
    )
    return float(total.mean() * (np.exp(PRICE_SIGMA**2 / 2) if revenue else 1.0))


def draw(seed: int, n_users: int, *, lists_per_user: int = 2, revenue: bool = False) -> pl.DataFrame:
    """A log of drawn lists with a column ``context``."""
    rng = np.random.default_rng(seed)
    n = n_users * lists_per_user
    effect = np.repeat(rng.choice(USER_EFFECTS, n_users), lists_per_user)
    context = np.repeat(rng.integers(0, N_CONTEXTS, n_users), lists_per_user)
    scores = LOG_SCORES[context].copy()
    shown = np.argsort(-(scores + rng.gumbel(size=scores.shape)), axis=1)[:, :N_PLACES]
    propensity = np.empty((n, N_PLACES))
    for place in range(N_PLACES):
        mass = np.exp(scores)
        propensity[:, place] = mass[np.arange(n), shown[:, place]] / mass.sum(axis=1)
        scores[np.arange(n), shown[:, place]] = -np.inf
    chance = CLICK[context[:, None], shown] * PLACE * effect[:, None]
    reward = (rng.random((n, N_PLACES)) < chance).astype(float)
    if revenue:
        reward *= rng.lognormal(0, PRICE_SIGMA, (n, N_PLACES))
    return pl.DataFrame(
        {
            "recommendation_id": np.repeat(np.arange(n), N_PLACES),
            "user_id": np.repeat(np.arange(n) // lists_per_user, N_PLACES),
            "position": np.tile(np.arange(1, N_PLACES + 1), n),
            "item_id": [ITEMS[int(item)] for item in shown.ravel()],
            "propensity": propensity.ravel(),
            "reward": reward.ravel(),
            "context": np.repeat(context, N_PLACES),
        }
    )


def checked(table: pl.DataFrame, **arguments) -> tuple[LoggedLists, np.ndarray]:
    """The log, and the context of each of its lists."""
    log = check_logged_lists(table, **arguments)
    context = dict(table.select("recommendation_id", "context").unique().iter_rows())
    return log, np.array([context[int(name)] for name in log.lists["recommendation_id"]])


def policy(
    context: np.ndarray, *, temperature: float = 1.0, scores: np.ndarray = POLICY_SCORES
) -> PlackettLuce:
    """The policy that draws by its own scores."""
    return PlackettLuce(ITEMS, lambda contexts: scores[contexts], context, temperature)
