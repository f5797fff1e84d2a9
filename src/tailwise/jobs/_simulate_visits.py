"""Who visits when, and what becomes of a list that is shown: drawn, and expected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailwise.jobs._simulate_scenarios import HttpScenario
from tailwise.jobs._simulate_users import Shoppers

__all__ = ["MEASURED", "Crowd", "Visit", "plan_visits"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY_S = 86_400.0
_VISIT_SHAPE = 1.5  # of the gamma distribution of visits per day; small is uneven
_NEW_SHARE = 0.3  # users who come for the first time in the simulated days
_BOT_CLICKS = 0.3  # of what a bot passes
_MOST_CHANCE = 0.9
MEASURED = ("clicks", "tail_clicks", "tail_purchases", "head_purchases", "gmv")


@dataclass(frozen=True, eq=False)
class Visit:
    """One visit.

    Attributes:
        number: Its place in the plan.
        user: Number of the user.
        at: Unix seconds.
        day: Days since the user's first visit.
    """

    number: int
    user: int
    at: float
    day: float


@dataclass(frozen=True, eq=False)
class Crowd:
    """Everybody who visits at some time, and what they do with lists.

    Attributes:
        shoppers: The user model.
        scenario: What differs from it.
        person: ``[n_users]``; whose tastes a user has.
        is_bot: ``[n_users]``.
        seed: Of all that is drawn.
    """

    shoppers: Shoppers
    scenario: HttpScenario
    person: Ints
    is_bot: NDArray[np.bool_]
    seed: int

    def user_id(self, user: int) -> str:
        """Name a user; another seed names others."""
        return f"sim{self.seed}-{user:07d}"

    def act(
        self, visit: Visit, began_at: float, items: list[str], segments: Sequence[str]
    ) -> dict[str, Ints]:
        """Draw what a user does with a list; the same visit and list, the same acts.

        Returns:
            ``looked``, ``clicked``, ``bought``: places in the list, from 0.
        """
        rng = np.random.default_rng((self.seed, visit.number))
        n = len(items)
        draws = rng.random((3, n))
        if self.is_bot[visit.user]:
            return {
                "looked": np.arange(n),
                "clicked": np.flatnonzero(draws[1] < _BOT_CLICKS),
                "bought": np.empty(0, dtype=np.int64),
            }
        looked = draws[0] < self.shoppers.looked_at(n)
        chance = self._chance(visit.user, items, segments) * self._season(visit, began_at)
        novel = self.scenario.novelty * np.exp(-visit.day / self.scenario.novelty_days)
        chance = np.where(_rare(segments), chance * (1 + novel), chance)
        clicked = looked & (draws[1] < np.minimum(chance, _MOST_CHANCE))
        bought = clicked & (draws[2] < self.shoppers.purchase_chance(items))
        return {
            "looked": np.flatnonzero(looked),
            "clicked": np.flatnonzero(clicked),
            "bought": np.flatnonzero(bought),
        }

    def expect(self, user: int, items: list[str], segments: Sequence[str]) -> Mapping[str, float]:
        """Return what a list brings from a user by expectation: :data:`MEASURED`; no season, no novelty."""
        chance = np.minimum(self._chance(user, items, segments), _MOST_CHANCE)
        clicks = self.shoppers.looked_at(len(items)) * chance
        bought = clicks * self.shoppers.purchase_chance(items)
        if self.is_bot[user]:
            clicks, bought = np.full(len(items), _BOT_CLICKS), np.zeros(len(items))
        is_tail = np.array([segment == "tail" for segment in segments])
        is_head = np.array([segment == "head" for segment in segments])
        return {
            "clicks": float(clicks.sum()),
            "tail_clicks": float(clicks[is_tail].sum()),
            "tail_purchases": float(bought[is_tail].sum()),
            "head_purchases": float(bought[is_head].sum()),
            "gmv": float((bought * np.array([self.shoppers.price(item) for item in items])).sum()),
        }

    def _chance(self, user: int, items: list[str], segments: Sequence[str]) -> Floats:
        chance = self.shoppers.click_chance(int(self.person[user]), items)
        return np.where(_rare(segments), chance * self.scenario.tail_appeal, chance)

    def _season(self, visit: Visit, began_at: float) -> float:
        day = (visit.at - began_at) / DAY_S
        grown = float((1 + self.scenario.drift_per_day) ** day)
        return grown * float(1 + self.scenario.weekly_swing * np.sin(2 * np.pi * day / 7))


def _rare(segments: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([segment != "head" for segment in segments], dtype=np.bool_)


def plan_visits(
    shoppers: Shoppers,
    scenario: HttpScenario,
    *,
    n_users: int,
    days: float,
    visits_per_day: float,
    began_at: float,
    seed: int,
) -> tuple[Crowd, list[Visit]]:
    """Draw users and all their visits, in order of time.

    Users differ in how often they come; three in ten come for the first time during these days, the others
    are of old.

    Args:
        shoppers: The user model; users are copies of its people.
        scenario: See :class:`HttpScenario`.
        n_users: At least 1.
        days: To simulate, > 0.
        visits_per_day: Mean, > 0.
        began_at: Unix seconds of the beginning.
        seed: One seed, one plan.
    """
    rng = np.random.default_rng((seed, 0xC0))
    person = np.arange(n_users, dtype=np.int64) % shoppers.n_people
    person = rng.permutation(person)
    is_bot = rng.random(n_users) < scenario.bot_share
    rate = rng.gamma(_VISIT_SHAPE, visits_per_day / _VISIT_SHAPE, n_users)
    rate = np.where(is_bot, scenario.bot_visits_per_day, rate)
    comes = np.where(rng.random(n_users) < _NEW_SHARE, rng.random(n_users) * days, 0.0)
    counts = rng.poisson(rate * (days - comes))
    user = np.repeat(np.arange(n_users), counts)
    day = comes[user] + rng.random(user.size) * (days - comes[user])
    order = np.argsort(day, kind="stable")
    first = np.full(n_users, np.inf)
    np.minimum.at(first, user, day)
    visits = [
        Visit(number, int(user[i]), began_at + float(day[i]) * DAY_S, float(day[i] - first[user[i]]))
        for number, i in enumerate(order)
    ]
    return Crowd(shoppers, scenario, person, is_bot, seed), visits
