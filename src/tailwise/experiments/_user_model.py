"""Simulated users with the tastes of real ones: fitted on held-out interactions, never on training data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tailwise.errors import DataError

__all__ = ["Response", "UserModel", "UserModelSettings"]

DAY_S = 86_400.0
SMOOTHING = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0, 300.0)  # interactions' worth of everybody's taste


@dataclass(frozen=True)
class UserModelSettings:
    """What interactions alone cannot tell; to be declared.

    Attributes:
        click_rate: Chance that an item of average relevance is clicked when it is looked at, in (0, 1).
        sharpness: Exponent by which relevance moves that chance, >= 0; 0 is indifferent.
        position_bias: The slot at position p is looked at with probability p ** -position_bias.
        conversion: Chance that a clicked item of median price is bought, in (0, 1).
        price_elasticity: Exponent by which a higher price lowers that chance, >= 0.
        visits_per_day: Of users whom the held-out part does not know.
    """

    click_rate: float = 0.06
    sharpness: float = 0.5
    position_bias: float = 0.7
    conversion: float = 0.12
    price_elasticity: float = 0.3
    visits_per_day: float = 0.1

    def __post_init__(self) -> None:
        for name in ("click_rate", "conversion"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be a chance in (0, 1); got {getattr(self, name)}.")
        for name in ("sharpness", "position_bias", "price_elasticity", "visits_per_day"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be >= 0 and finite; got {getattr(self, name)}.")


@dataclass(frozen=True)
class Response:
    """What a user did with one slot that was looked at and clicked.

    Attributes:
        position: 1 is the first.
        item_id: What stood there.
        is_bought: The click led to a purchase.
        revenue: What was paid; 0 without a purchase.
    """

    position: int
    item_id: str
    is_bought: bool
    revenue: float


@dataclass(frozen=True, eq=False)
class UserModel:
    """Tastes of users, as shares of interest.

    Relevance of an item to a user is the user's affinity to its category times the item's share of the
    category's interactions: no model of ours or of the company's has a part in it.

    Attributes:
        settings: What was declared.
        smoothing: Interactions' worth of everybody's taste in each user's; chosen on the later half.
        affinity: User -> category -> share of interest, of categories the user touched.
        general: Category -> share of everybody's interest.
        item_share: Item -> share of its category's interactions, smoothed by one each.
        category_of: Item -> category.
        price_of: Item -> price; items without one cost ``median_price``.
        median_price: Of all items that have a price; 1 where none has.
        visits_per_day: User -> days with an interaction over days of the held-out part.
        n_interactions: Of each user.
    """

    settings: UserModelSettings
    smoothing: float
    affinity: Mapping[str, Mapping[str, float]]
    general: Mapping[str, float]
    item_share: Mapping[str, float]
    category_of: Mapping[str, str]
    price_of: Mapping[str, float]
    median_price: float
    visits_per_day: Mapping[str, float]
    n_interactions: Mapping[str, int]

    @classmethod
    def fit(
        cls,
        held_out: pl.DataFrame,
        items: pl.DataFrame,
        *,
        training: pl.DataFrame | None = None,
        settings: UserModelSettings = UserModelSettings(),
    ) -> "UserModel":
        """Fit on held-out interactions.

        How much of everybody's taste goes into each user's is the value under which the later half of the
        interactions is most likely given the earlier one; then all of them are used.

        Args:
            held_out: ``user_id``, ``item_id``, ``timestamp`` (unix seconds).
            items: ``item_id``; optionally ``category`` (text; all one without) and ``price``.
            training: What recommenders were trained on: to prove that nothing of it is in ``held_out``.
            settings: See :class:`UserModelSettings`.

        Raises:
            DataError: a row is in both parts, an item is not in the catalogue, or there are too few rows.
        """
        _check(held_out, items, training)
        categories = items["category"] if "category" in items.columns else pl.Series(["all"] * items.height)
        category_of = dict(
            zip(items["item_id"].to_list(), categories.fill_null("none").to_list(), strict=True)
        )
        rows = held_out.sort("timestamp", "user_id", "item_id").with_columns(
            pl.col("item_id").replace_strict(category_of, return_dtype=pl.String).alias("category")
        )
        half = rows.height // 2
        scores = [_likelihood(rows[:half], rows[half:], smoothing) for smoothing in SMOOTHING]
        smoothing = SMOOTHING[int(np.argmax(scores))]
        general, counts = _taste(rows)
        priced = items.drop_nulls("price") if "price" in items.columns else items.clear()
        prices = priced["price"].cast(pl.Float64).to_list() if priced.height else []
        moments = rows["timestamp"].to_numpy()
        days = max(1.0, float(moments.max() - moments.min()) / DAY_S)
        active = rows.group_by("user_id").agg(
            ((pl.col("timestamp") / DAY_S).floor().n_unique() / days).alias("v")
        )
        return cls(
            settings=settings,
            smoothing=smoothing,
            affinity={user: _smoothed(own, general, smoothing) for user, own in counts.items()},
            general=general,
            item_share=_item_shares(rows, category_of),
            category_of=category_of,
            price_of=dict(zip(priced["item_id"].to_list(), prices, strict=True)),
            median_price=float(np.median(prices)) if prices else 1.0,
            visits_per_day=dict(zip(active["user_id"].to_list(), active["v"].to_list(), strict=True)),
            n_interactions={user: sum(own.values()) for user, own in counts.items()},
        )

    def relevance(self, user_id: str, item_id: str) -> float:
        """Return an item's share of a user's interest over that of an average item; 1 is average.

        Raises:
            KeyError: the catalogue does not know the item.
        """
        category = self.category_of[item_id]
        own = self.affinity.get(user_id)
        share = self.general.get(category, 0.0)
        if own is not None:
            seen = self.n_interactions[user_id]
            share = own.get(category, share * self.smoothing / (seen + self.smoothing))
        return share * self.item_share[item_id] * len(self.category_of)

    def click_chance(self, user_id: str, item_id: str, position: int) -> float:
        """Return the chance that the slot is looked at and clicked, at most 0.9."""
        moved = float(self.relevance(user_id, item_id) ** self.settings.sharpness)
        return min(0.9, self.settings.click_rate * moved) * float(position**-self.settings.position_bias)

    def purchase_chance(self, item_id: str) -> float:
        """Return the chance that a clicked item is bought, at most 0.9."""
        factor = float((self.price(item_id) / self.median_price) ** -self.settings.price_elasticity)
        return min(0.9, self.settings.conversion * factor)

    def price(self, item_id: str) -> float:
        """Return what an item costs."""
        return self.price_of.get(item_id, self.median_price)

    def visit_rate(self, user_id: str) -> float:
        """Return a user's visits per day."""
        return self.visits_per_day.get(user_id, self.settings.visits_per_day)

    def respond(self, user_id: str, shown: Sequence[str], rng: np.random.Generator) -> tuple[Response, ...]:
        """Draw what a user clicks and buys of a list, in the order of the list.

        Args:
            user_id: Who; unknown users have everybody's taste.
            shown: ``item_id``, the first position first.
            rng: Where chance comes from.

        Raises:
            KeyError: the catalogue does not know an item.
        """
        found = []
        for position, item in enumerate(shown, start=1):
            if rng.random() < self.click_chance(user_id, item, position):
                is_bought = bool(rng.random() < self.purchase_chance(item))
                found.append(Response(position, item, is_bought, self.price(item) if is_bought else 0.0))
        return tuple(found)


def _check(held_out: pl.DataFrame, items: pl.DataFrame, training: pl.DataFrame | None) -> None:
    if held_out.height < 2:
        raise DataError(f"held_out must hold two interactions or more; got {held_out.height}.")
    unknown = held_out.join(items, on="item_id", how="anti")
    if unknown.height:
        raise DataError(
            f"{unknown.height:,} of {held_out.height:,} interactions name items absent from the catalogue "
            f"(first: {unknown['item_id'][0]!r}).\n  Drop them, or give the whole catalogue."
        )
    if training is not None:
        shared = held_out.join(training, on=["user_id", "item_id", "timestamp"], how="semi")
        if shared.height:
            raise DataError(
                f"held_out must hold nothing of the training part; got {shared.height:,} rows of both.\n"
                "  Users fitted on what a recommender was trained on would flatter it."
            )


def _taste(rows: pl.DataFrame) -> tuple[dict[str, float], dict[str, dict[str, int]]]:
    """Everybody's shares of categories, and each user's counts."""
    shares = rows.group_by("category").len().sort("category")
    general = {category: n / rows.height for category, n in shares.iter_rows()}
    counts: dict[str, dict[str, int]] = {}
    for user, category, n in (
        rows.group_by("user_id", "category").len().sort("user_id", "category").iter_rows()
    ):
        counts.setdefault(user, {})[category] = n
    return general, counts


def _smoothed(own: Mapping[str, int], general: Mapping[str, float], smoothing: float) -> dict[str, float]:
    total = sum(own.values()) + smoothing
    return {category: (n + smoothing * general[category]) / total for category, n in own.items()}


def _likelihood(earlier: pl.DataFrame, later: pl.DataFrame, smoothing: float) -> float:
    """Mean log-likelihood of later interactions' categories, given earlier ones of the same users."""
    general, counts = _taste(earlier)
    total = 0.0
    for user, category in later.select("user_id", "category").iter_rows():
        own = counts.get(user, {})
        share = general.get(category, 1 / (earlier.height + 1))
        total += math.log((own.get(category, 0) + smoothing * share) / (sum(own.values()) + smoothing))
    return total / max(1, later.height)


def _item_shares(rows: pl.DataFrame, category_of: Mapping[str, str]) -> dict[str, float]:
    """Each item's share of its category; every item counts one more than it was chosen."""
    chosen = dict(rows.group_by("item_id").len().iter_rows())
    counts = {item: 1 + chosen.get(item, 0) for item in category_of}
    totals: dict[str, int] = {}
    for item, n in counts.items():
        totals[category_of[item]] = totals.get(category_of[item], 0) + n
    return {item: n / totals[category_of[item]] for item, n in counts.items()}
