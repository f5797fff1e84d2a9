"""People who answer lists, fitted on what the recommenders have never seen: a run's test part."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailwise.errors import DataError
from tailwise.jobs._run_data import RunData
from tailwise.schema import ITEM_INDEX, PRICE, USER_INDEX

__all__ = ["Shoppers", "fit_shoppers"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FACTORS = 16
_MOST_HISTORY = 50
_MOST_TASTES = 5_000  # people of the data that simulated ones are copies of
_CLICK_SHARE = 0.08  # of items looked at, in lists of the most popular: the level, not the effect
_CONVERSION = 0.15  # purchases per click at a usual price
_PRICE_SPREAD = 0.6  # of log prices, where the catalogue has none
_BIAS = 0.7  # the item at position p is looked at with probability p ** -0.7
_PRICE_DISLIKE = 0.5  # lost log-odds of buying per doubling of the price over the median


@dataclass(frozen=True, eq=False)
class Shoppers:
    """A user model: tastes of held-out people, and how they look, click and buy.

    The log-odds that person ``u`` clicks on item ``i`` that is looked at are
    ``level + popularity_weight·log(1+n_i) + taste_weight·⟨tastes_u, items_i⟩``, where ``n_i`` counts held-out
    interactions. Both weights are fitted by logistic regression on one half of the held-out rows, against
    items drawn at random, with factors and counts from the other half. Position bias, conversion and level
    are declared: interaction logs do not tell them.

    Attributes:
        item_ids: ``[n_items]``.
        popularity: ``[n_items]`` of log(1 + n_i).
        factors: ``[n_items, f]``.
        tastes: ``[n_people, f]``.
        histories: Per person, ``item_index`` before the time that is simulated, oldest first.
        prices: ``[n_items]`` in the currency's unit, > 0.
        popularity_weight: Fitted.
        taste_weight: Fitted.
        level: Set so that a list of popular items is clicked as declared.
    """

    item_ids: list[str]
    popularity: Floats
    factors: Floats
    tastes: Floats
    histories: list[Ints]
    prices: Floats
    popularity_weight: float
    taste_weight: float
    level: float

    @property
    def n_people(self) -> int:
        """People of the data that simulated users are copies of."""
        return len(self.histories)

    def looked_at(self, n_slots: int) -> Floats:
        """Return the probability that each place of a list is looked at: ``[n_slots]``."""
        return np.asarray(np.arange(1, n_slots + 1, dtype=np.float64) ** -_BIAS)

    def click_odds(self, person: int, items: Ints) -> Floats:
        """Return the odds of a click on each item that is looked at: ``[len(items)]``."""
        liking = self.factors[items] @ self.tastes[person]
        logit = self.level + self.popularity_weight * self.popularity[items] + self.taste_weight * liking
        return np.asarray(np.exp(np.clip(logit, -20, 5)))

    def purchase_chance(self, items: Ints) -> Floats:
        """Return the probability of buying each item that was clicked: ``[len(items)]``."""
        dearer = np.log2(self.prices[items] / np.median(self.prices))
        odds = _CONVERSION / (1 - _CONVERSION) * np.exp(-_PRICE_DISLIKE * dearer)
        return np.asarray(odds / (1 + odds))


def fit_shoppers(data: RunData, *, seed: int = 0) -> Shoppers:
    """Fit the user model on a run's test part, which no recommender of the run was trained or chosen on.

    A person's history is what came before the test part, and where that is nothing, the first half of the
    person's test rows.

    Args:
        data: Of the run that is served.
        seed: Of the random items, the halves and, where the catalogue names no prices, these.

    Raises:
        DataError: the test part is too small to say anything.
    """
    rng = np.random.default_rng(seed)
    test = data.split.test
    users, items = test[USER_INDEX].to_numpy().astype(np.int64), test[ITEM_INDEX].to_numpy().astype(np.int64)
    people, rows = np.unique(users, return_inverse=True)
    if people.size < 20 or users.size < 100:
        raise DataError(
            f"the run's test part must hold 20 users and 100 rows to fit people on; got {people.size:,} and "
            f"{users.size:,}.\n  Use a larger log."
        )
    if people.size > _MOST_TASTES:
        kept = np.isin(rows, rng.choice(people.size, _MOST_TASTES, replace=False))
        users, items = users[kept], items[kept]
        people, rows = np.unique(users, return_inverse=True)
    half = rng.random(rows.size) < 0.5
    weights = _fit_weights(rows, items, half, n_people=people.size, n_items=data.n_items, rng=rng)
    tastes, factors = _factors(rows, items, people.size, data.n_items)
    popularity = np.log1p(np.bincount(items, minlength=data.n_items).astype(np.float64))
    shoppers = Shoppers(
        item_ids=data.catalogue.item_ids(),
        popularity=popularity,
        factors=factors,
        tastes=tastes,
        histories=_histories(data, people, rows, items),
        prices=_prices(data, rng),
        popularity_weight=weights[0],
        taste_weight=weights[1],
        level=0.0,
    )
    return _with_level(shoppers, data)


def _factors(rows: Ints, items: Ints, n_people: int, n_items: int) -> tuple[Floats, Floats]:
    """Low-rank picture of who chose what: tastes ``[n_people, f]`` and items ``[n_items, f]``."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import svds

    matrix = csr_matrix((np.ones(rows.size), (rows, items)), shape=(n_people, n_items))
    matrix.data[:] = 1.0
    n_factors = max(1, min(_FACTORS, n_people - 1, n_items - 1))
    start = np.full(min(n_people, n_items), 1.0)
    left, strength, right = svds(matrix, k=n_factors, v0=start)
    root = np.sqrt(np.maximum(strength, 0.0))
    return np.asarray(left * root), np.asarray(right.T * root)


def _fit_weights(
    rows: Ints, items: Ints, half: NDArray[np.bool_], *, n_people: int, n_items: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Weights of popularity and taste, both >= 0, by logistic regression on the other half."""
    tastes, factors = _factors(rows[half], items[half], n_people, n_items)
    popularity = np.log1p(np.bincount(items[half], minlength=n_items).astype(np.float64))
    chosen_rows, chosen = rows[~half], items[~half]
    drawn = rng.integers(0, n_items, chosen.size)

    def features(person: Ints, item: Ints) -> Floats:
        liking = np.einsum("nf,nf->n", tastes[person], factors[item])
        return np.stack([np.ones(item.size), popularity[item], liking], axis=1)

    x = np.concatenate([features(chosen_rows, chosen), features(chosen_rows, drawn)])
    y = np.concatenate([np.ones(chosen.size), np.zeros(chosen.size)])
    beta = np.zeros(3)
    for _ in range(30):  # Newton's steps, with a little shrinkage so that they always exist
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        gradient = x.T @ (y - p) - 1e-3 * beta
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-3 * np.eye(3)
        step = np.linalg.solve(hessian, gradient)
        beta += step
        if np.abs(step).max() < 1e-8:
            break
    return max(0.0, float(beta[1])), max(0.0, float(beta[2]))


def _histories(data: RunData, people: Ints, rows: Ints, items: Ints) -> list[Ints]:
    """What each person chose before."""
    place = np.full(int(data.split.n_users), -1, dtype=np.int64)
    place[people] = np.arange(people.size)
    before: list[list[int]] = [[] for _ in range(people.size)]
    for part in (data.split.train, data.split.validation):
        for user, item in zip(part[USER_INDEX].to_list(), part[ITEM_INDEX].to_list(), strict=True):
            if place[user] >= 0:
                before[place[user]].append(item)
    order = np.argsort(rows, kind="stable")  # rows of a user stay in the order of time
    starts = np.searchsorted(rows[order], np.arange(people.size + 1))
    for person in range(people.size):
        if not before[person]:
            own = items[order[starts[person] : starts[person + 1]]]
            before[person] = own[: math.ceil(own.size / 2)].tolist()
    return [np.asarray(history[-_MOST_HISTORY:], dtype=np.int64) for history in before]


def _prices(data: RunData, rng: np.random.Generator) -> Floats:
    """The catalogue's; where it names none, drawn around 20."""
    drawn = 20.0 * np.exp(_PRICE_SPREAD * rng.standard_normal(data.n_items))
    table = data.catalogue.items
    if PRICE not in table.columns:
        return np.asarray(np.round(drawn, 2))
    prices = table[PRICE].cast(float).fill_null(float("nan")).to_numpy()
    known = np.isfinite(prices) & (prices > 0)
    median = float(np.median(prices[known])) if known.any() else 20.0
    return np.asarray(np.round(np.where(known, np.maximum(prices, 0.01), median), 2), dtype=np.float64)


def _with_level(shoppers: Shoppers, data: RunData) -> Shoppers:
    """Set the level so that the items most popular in training are clicked as declared, once looked at."""
    from dataclasses import replace

    popular = np.argsort(-data.counts, kind="stable")[:10].astype(np.int64)
    people = np.arange(min(shoppers.n_people, 500))
    low, high = -30.0, 10.0
    for _ in range(50):
        level = (low + high) / 2
        tried = replace(shoppers, level=level)
        odds = np.stack([tried.click_odds(int(person), popular) for person in people])
        low, high = (level, high) if (odds / (1 + odds)).mean() < _CLICK_SHARE else (low, level)
    return replace(shoppers, level=(low + high) / 2)
