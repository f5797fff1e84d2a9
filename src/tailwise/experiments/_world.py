"""A shop whose truth is known: who visits, what they like, and what each model would show them."""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SCENARIOS",
    "Behaviour",
    "Outcomes",
    "Population",
    "Scenario",
    "World",
    "population",
    "simulate_windows",
]

Floats = NDArray[np.float64]
DAY_S = 86_400.0


@dataclass(frozen=True)
class Behaviour:
    """What one model's lists look like, and how well it answers.

    Attributes:
        tail_share: Share of the slots that hold tail items, 0 to 1.
        head_appeal: Chance of a click on a head item that is looked at, for a user whose taste is half tail.
        tail_appeal: Likewise of a tail item.
        novelty: Extra appeal of tail items at first, as a share; it fades with ``novelty_days``.
        novelty_days: Days since the user's first exposure in which novelty falls to 1/e.
        error_share: Requests that fail, and show nothing.
        fallback_share: Requests that the fallback answers.
        slow_share: Requests slower than the limit.
    """

    tail_share: float = 0.3
    head_appeal: float = 0.10
    tail_appeal: float = 0.06
    novelty: float = 0.0
    novelty_days: float = 3.0
    error_share: float = 0.001
    fallback_share: float = 0.01
    slow_share: float = 0.02


@dataclass(frozen=True)
class World:
    """Users, prices and time; what both models share.

    Attributes:
        n_users: Everybody who visits at some time.
        new_share: Those among them who come for the first time while the experiment runs.
        arrival_days: Over which the new ones arrive, evenly.
        visits_per_day: Mean; users differ by a gamma distribution.
        visit_shape: Shape of that gamma; small is uneven.
        slots: Length of a list.
        position_bias: The slot at position p is looked at with probability p ** -position_bias.
        tail_taste: Mean share of a user's interest in tail items; users differ by a beta distribution.
        taste_strength: Sum of the beta's parameters; large is alike.
        head_conversion: Purchases per click on a head item.
        tail_conversion: Likewise of a tail item.
        head_price: Median price of a head item, in the currency's unit.
        tail_price: Likewise of a tail item.
        price_spread: Standard deviation of the logarithm of prices.
        drift_per_day: Growth of every appeal per day, as a share: a base rate that does not stay.
        weekly_swing: Appeal swings by this share over the week.
        bot_share: Users who are machines: they visit ``bot_visits_per_day``, click at random, never buy.
        bot_visits_per_day: Of a bot.
    """

    n_users: int = 200_000
    new_share: float = 0.4
    arrival_days: float = 60.0
    visits_per_day: float = 0.4
    visit_shape: float = 1.5
    slots: int = 10
    position_bias: float = 0.7
    tail_taste: float = 0.4
    taste_strength: float = 6.0
    head_conversion: float = 0.12
    tail_conversion: float = 0.12
    head_price: float = 20.0
    tail_price: float = 20.0
    price_spread: float = 0.6
    drift_per_day: float = 0.0
    weekly_swing: float = 0.0
    bot_share: float = 0.0
    bot_visits_per_day: float = 20.0

    @property
    def looked_at(self) -> float:
        """Slots of a list that a user looks at, on average."""
        return float((np.arange(1, self.slots + 1) ** -self.position_bias).sum())


@dataclass(frozen=True)
class Scenario:
    """A world and the two models in it.

    Attributes:
        name: Short.
        world: What both share.
        control: The model in use.
        treatment: The model that is tried.
    """

    name: str
    world: World
    control: Behaviour
    treatment: Behaviour

    def effect(self, column: str, *, window_days: float, seed: int = 0) -> float:
        """Return the true change of a per-user mean, as a share of control's, by expectation.

        Averaged over a million drawn users, their clicks and purchases not drawn but expected.

        Args:
            column: ``clicks``, ``head_clicks``, ``tail_clicks``, ``purchases``, ``head_purchases``,
                ``tail_purchases`` or ``gmv``.
            window_days: Of the users' windows.
            seed: Of those users.
        """
        rng = np.random.default_rng(seed)
        people = population(dataclasses.replace(self.world, n_users=1_000_000), rng)
        means = [
            _expected(self.world, behaviour, people, window_days)[column].mean()
            for behaviour in (self.control, self.treatment)
        ]
        return float(means[1] / means[0] - 1)


class Population(NamedTuple):
    """Users, ``[n]`` each.

    Attributes:
        place: In [0, 1): where the hash put them.
        came_at: Day of the first visit ever; negative for users of old.
        rate: Visits per day.
        taste: Share of interest in tail items.
        is_bot: A machine.
    """

    place: Floats
    came_at: Floats
    rate: Floats
    taste: Floats
    is_bot: NDArray[np.bool_]

    def of(self, users: NDArray[np.int64]) -> "Population":
        """Return some of them."""
        return Population(
            self.place[users], self.came_at[users], self.rate[users], self.taste[users], self.is_bot[users]
        )


def population(world: World, rng: np.random.Generator) -> Population:
    """Draw the users of a world."""
    n = world.n_users
    is_new = rng.random(n) < world.new_share
    is_bot = rng.random(n) < world.bot_share
    rate = rng.gamma(world.visit_shape, world.visits_per_day / world.visit_shape, n)
    taste = rng.beta(
        world.taste_strength * world.tail_taste, world.taste_strength * (1 - world.tail_taste), n
    )
    return Population(
        place=rng.random(n),
        came_at=np.where(is_new, rng.random(n) * world.arrival_days, -1.0),
        rate=np.where(is_bot, world.bot_visits_per_day, rate),
        taste=taste,
        is_bot=is_bot,
    )


Outcomes = dict[str, Floats]
"""Columns of the outcome table, ``[n]`` each."""


def simulate_windows(
    scenario: Scenario,
    people: Population,
    treated: NDArray[np.bool_],
    exposed_at: Floats,
    *,
    window_days: float,
    service_window_days: float,
    rng: np.random.Generator,
) -> Outcomes:
    """Draw what users do from their first exposure until their windows close, and did before.

    A window begins with a visit; further ones are Poisson. Clicks are Poisson given visits, purchases
    binomial given clicks, prices log-normal.

    Args:
        scenario: The truth.
        people: ``[n]`` users.
        treated: ``[n]`` bool.
        exposed_at: ``[n]`` days since the start.
        window_days: Length of the windows; ``pre_`` columns are as long.
        service_window_days: Of the requests that the service limits look at.
        rng: Where chance comes from.

    Returns:
        ``clicks``, ``purchases``, ``gmv``, ``orders``, ``converted``, ``sessions``, clicks and purchases by
        segment, ``pre_`` of clicks and purchases, and the service's columns.
    """
    world = scenario.world
    n = treated.size
    season = _season(world, exposed_at + window_days / 2)
    early = rng.poisson(people.rate * service_window_days)
    visits = 1 + early + rng.poisson(people.rate * max(0.0, window_days - service_window_days))
    rates = [
        _rates(world, behaviour, people, window_days) for behaviour in (scenario.control, scenario.treatment)
    ]
    errors = _by(treated, scenario.control.error_share, scenario.treatment.error_share)
    answered = visits - rng.binomial(visits, errors)
    head_rate, tail_rate = (np.where(treated, rates[1][i], rates[0][i]) for i in (0, 1))
    found: Outcomes = {"sessions": visits.astype(np.float64)}
    head = _choices(answered, head_rate * season, world.head_conversion, people, rng)
    tail = _choices(answered, tail_rate * season, world.tail_conversion, people, rng)
    found |= {
        "head_clicks": head[0],
        "head_purchases": head[1],
        "tail_clicks": tail[0],
        "tail_purchases": tail[1],
    }
    found["clicks"], found["purchases"] = head[0] + tail[0], head[1] + tail[1]
    found["orders"] = found["purchases"]
    found["converted"] = (found["purchases"] > 0).astype(np.float64)
    found["gmv"] = _spent(head[1], world.head_price, world, rng) + _spent(
        tail[1], world.tail_price, world, rng
    )
    requests = 1 + early
    found["requests"] = requests.astype(np.float64)
    for column, share in (
        ("errors", "error_share"),
        ("fallbacks", "fallback_share"),
        ("slow_requests", "slow_share"),
    ):
        chance = _by(treated, getattr(scenario.control, share), getattr(scenario.treatment, share))
        found[column] = rng.binomial(requests, chance).astype(np.float64)
    # Before: under control; unknown of users who had not come yet.
    is_known = people.came_at + window_days < exposed_at
    earlier = rng.poisson(people.rate * window_days)
    then = _season(world, exposed_at - window_days / 2)
    for segment, rate, conversion in (
        ("head", rates[0][0], world.head_conversion),
        ("tail", rates[0][1], world.tail_conversion),
    ):
        clicks, purchases = _choices(earlier, rate * then, conversion, people, rng)
        found[f"pre_{segment}_clicks"] = np.where(is_known, clicks, np.nan)
        found[f"pre_{segment}_purchases"] = np.where(is_known, purchases, np.nan)
    found["pre_clicks"] = found["pre_head_clicks"] + found["pre_tail_clicks"]
    assert found["pre_clicks"].shape == (n,)
    return found


def _by(treated: NDArray[np.bool_], control: float, treatment: float) -> Floats:
    return np.where(treated, treatment, control)


def _season(world: World, day: Floats) -> Floats:
    """Factor of every appeal at a time."""
    grown: Floats = np.exp(np.log1p(world.drift_per_day) * day)
    return np.asarray(grown * (1 + world.weekly_swing * np.sin(2 * np.pi * day / 7)))


def _rates(
    world: World, behaviour: Behaviour, people: Population, window_days: float
) -> tuple[Floats, Floats]:
    """Expected clicks on head and on tail items per list that is shown."""
    fading = behaviour.novelty_days / window_days * -np.expm1(-window_days / behaviour.novelty_days)
    per_taste = world.looked_at * 2  # appeals are stated for a user of taste one half
    head = per_taste * (1 - behaviour.tail_share) * behaviour.head_appeal * (1 - people.taste)
    tail = per_taste * behaviour.tail_share * behaviour.tail_appeal * people.taste
    tail = tail * (1 + behaviour.novelty * fading)
    both = world.looked_at * 0.05  # a bot clicks on what it passes, whatever it is
    return (
        np.where(people.is_bot, both * (1 - behaviour.tail_share), head),
        np.where(people.is_bot, both * behaviour.tail_share, tail),
    )


def _choices(
    lists: NDArray[np.int64], rate: Floats, conversion: float, people: Population, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Clicks and purchases of one segment."""
    clicks = rng.poisson(lists * rate)
    purchases = rng.binomial(clicks, np.where(people.is_bot, 0.0, conversion))
    return clicks.astype(np.float64), purchases.astype(np.float64)


def _spent(purchases: Floats, median: float, world: World, rng: np.random.Generator) -> Floats:
    """What the purchases cost, summed by user."""
    counts = purchases.astype(np.int64)
    prices = median * np.exp(world.price_spread * rng.standard_normal(int(counts.sum())))
    buyers = np.repeat(np.arange(counts.size), counts)
    return np.bincount(buyers, weights=prices, minlength=counts.size).astype(np.float64)


def _expected(world: World, behaviour: Behaviour, people: Population, window_days: float) -> Outcomes:
    """Per-user means given who the users are; season apart, which both models share."""
    lists = (1 + people.rate * window_days) * (1 - behaviour.error_share)
    head, tail = (lists * rate for rate in _rates(world, behaviour, people, window_days))
    bought_head = np.where(people.is_bot, 0.0, head * world.head_conversion)
    bought_tail = np.where(people.is_bot, 0.0, tail * world.tail_conversion)
    return {
        "head_clicks": head,
        "tail_clicks": tail,
        "clicks": head + tail,
        "head_purchases": bought_head,
        "tail_purchases": bought_tail,
        "purchases": bought_head + bought_tail,
        "gmv": bought_head * world.head_price + bought_tail * world.tail_price,
    }


_CONTROL = Behaviour()
_SHOP = World(drift_per_day=0.01, weekly_swing=0.2)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        # Two equal models, while base rates drift.
        Scenario("aa", _SHOP, _CONTROL, _CONTROL),
        # A slot in thirty goes to the tail, and what stands there is better chosen.
        Scenario("uplift", _SHOP, _CONTROL, Behaviour(tail_share=0.33, tail_appeal=0.068)),
        # Half of the list is given to the tail, with worse choices, and the head pays.
        Scenario("over-correction", _SHOP, _CONTROL, Behaviour(tail_share=0.5, tail_appeal=0.055)),
        # The same in small: four slots in ten.
        Scenario("mild-over-correction", _SHOP, _CONTROL, Behaviour(tail_share=0.4, tail_appeal=0.055)),
        # One request in twenty fails, and one in five is slow.
        Scenario("broken", _SHOP, _CONTROL, Behaviour(error_share=0.05, slow_share=0.2)),
        # Everything is worse by as much as the default policy accepts in clicks, and no more.
        Scenario("at-the-margin", _SHOP, _CONTROL, Behaviour(head_appeal=0.095, tail_appeal=0.057)),
        # New items please for some days; then everything is as before.
        Scenario("novelty", _SHOP, _CONTROL, Behaviour(novelty=0.5, novelty_days=2.0)),
        # Two equal models among machines that click on everything.
        Scenario("bots", dataclasses.replace(_SHOP, bot_share=0.01), _CONTROL, _CONTROL),
        # Two equal models in a shop that changes quickly.
        Scenario("drift", World(drift_per_day=0.05, weekly_swing=0.4), _CONTROL, _CONTROL),
    )
}
"""Worlds by name; the numbers are declared, not fitted."""
