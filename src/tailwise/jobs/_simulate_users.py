"""People for a simulation: copies of a run's held-out users, with their tastes and their histories."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.errors import DataError
from tailwise.experiments import UserModel
from tailwise.jobs._run_data import RunData
from tailwise.schema import ITEM, ITEM_INDEX, PRICE, TIMESTAMP, USER

__all__ = ["Shoppers", "fit_shoppers"]

Floats = NDArray[np.float64]

_MOST_HISTORY = 50
_MOST_PEOPLE = 5_000  # whose copies visit
_PRICE_SPREAD = 0.6  # of log prices around 20, where the catalogue names none


@dataclass(frozen=True, eq=False)
class Shoppers:
    """The user model, and the people whom simulated users are copies of.

    Attributes:
        model: Fitted on the run's test part alone.
        people: ``user_id`` in the run's data.
        histories: Per person, ``item_id`` before the time that is simulated, oldest first.
        item_ids: Of the catalogue.
        prices_from: ``catalogue``; ``log``, the median that was paid for a piece; or ``drawn``, as neither
            names any.
    """

    model: UserModel
    people: list[str]
    histories: list[list[str]]
    item_ids: list[str]
    prices_from: Literal["catalogue", "log", "drawn"]

    @property
    def n_people(self) -> int:
        """How many there are."""
        return len(self.people)

    def looked_at(self, n_slots: int) -> Floats:
        """Return the probability that each place of a list is looked at: ``[n_slots]``."""
        places = np.arange(1, n_slots + 1, dtype=np.float64)
        return np.asarray(places**-self.model.settings.position_bias)

    def click_chance(self, person: int, items: list[str]) -> Floats:
        """Return the chance of a click on each item, once it is looked at: ``[len(items)]``."""
        user = self.people[person]
        return np.array([self.model.click_chance(user, item, 1) for item in items])

    def purchase_chance(self, items: list[str]) -> Floats:
        """Return the chance of buying each item, once it is clicked: ``[len(items)]``."""
        return np.array([self.model.purchase_chance(item) for item in items])

    def price(self, item: str) -> float:
        """Return what an item costs, in cents' precision."""
        return max(0.01, round(self.model.price(item), 2))


def fit_shoppers(data: RunData, *, seed: int = 0) -> Shoppers:
    """Fit the user model on a run's test part, which no recommender of the run was trained or chosen on.

    A person's history is what came before the test part, and where that is nothing, the first half of the
    person's test rows.

    Args:
        data: Of the run that is served.
        seed: Of the choice of people, where there are very many, and of prices, where there are none.

    Raises:
        DataError: the test part is too small to say anything.
    """
    rng = np.random.default_rng(seed)
    test = data.split.test.select(USER, ITEM_INDEX, TIMESTAMP)
    ids = pl.Series(data.catalogue.item_ids())
    n_users = test[USER].n_unique()
    if n_users < 20 or test.height < 100:
        raise DataError(
            f"the run's test part must hold 20 users and 100 rows to fit people on; got {n_users:,} and "
            f"{test.height:,}.\n  Use a larger log, or --split global-time."
        )
    items, prices_from = _with_prices(data, rng)
    model = UserModel.fit(
        _named(test, ids), items, training=_named(data.split.train.select(USER, ITEM_INDEX, TIMESTAMP), ids)
    )
    people = test[USER].unique(maintain_order=True)
    if len(people) > _MOST_PEOPLE:
        people = people.gather(np.sort(rng.choice(len(people), _MOST_PEOPLE, replace=False)))
    before = _lists(pl.concat([data.split.train, data.split.validation], how="diagonal"), people, ids)
    own = _lists(test, people, ids)
    histories = [
        (before.get(person) or own[person][: (len(own[person]) + 1) // 2])[-_MOST_HISTORY:]
        for person in people.to_list()
    ]
    return Shoppers(model, people.to_list(), histories, ids.to_list(), prices_from)


def _with_prices(
    data: RunData, rng: np.random.Generator
) -> tuple[pl.DataFrame, Literal["catalogue", "log", "drawn"]]:
    """The catalogue with prices, and where they come from; what a piece costs tells nothing of tastes."""
    items = data.catalogue.items
    if PRICE in items.columns:
        return items, "catalogue"
    parts = (data.split.train, data.split.validation, data.split.test)
    if all(PRICE in part.columns for part in parts):
        paid = pl.concat([part.select(ITEM_INDEX, PRICE) for part in parts]).filter(pl.col(PRICE) > 0)
        median = paid.group_by(ITEM_INDEX).agg(pl.col(PRICE).median())
        rows = items.with_row_index(ITEM_INDEX).with_columns(
            pl.col(ITEM_INDEX).cast(median[ITEM_INDEX].dtype)
        )
        return rows.join(median, on=ITEM_INDEX, how="left", maintain_order="left").drop(ITEM_INDEX), "log"
    drawn = 20.0 * np.exp(_PRICE_SPREAD * rng.standard_normal(data.n_items))
    return items.with_columns(pl.Series(PRICE, np.round(drawn, 2))), "drawn"


def _named(rows: pl.DataFrame, ids: pl.Series) -> pl.DataFrame:
    """Rows with ``item_id`` in place of its index."""
    return rows.select(USER, ids.gather(rows[ITEM_INDEX].cast(pl.Int64)).alias(ITEM), TIMESTAMP)


def _lists(rows: pl.DataFrame, people: pl.Series, ids: pl.Series) -> dict[str, list[str]]:
    """What each person chose, oldest first."""
    mine = rows.select(USER, ITEM_INDEX, TIMESTAMP).filter(pl.col(USER).is_in(people.implode()))
    ordered = _named(mine.sort(TIMESTAMP, maintain_order=True), ids)
    found = ordered.group_by(USER, maintain_order=True).agg(ITEM)
    return dict(zip(found[USER].to_list(), found[ITEM].to_list(), strict=True))
