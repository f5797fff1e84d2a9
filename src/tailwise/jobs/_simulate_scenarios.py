"""What a simulation adds to the people of the user model: worlds by name."""

from dataclasses import dataclass

from tailwise.errors import ConfigError

__all__ = ["SCENARIOS", "HttpScenario", "find_scenario"]


@dataclass(frozen=True)
class HttpScenario:
    """How people differ from the fitted ones; the lists are what the served models make of them.

    Attributes:
        name: Short.
        words: What is supposed, for a person.
        tail_appeal: Factor of the chance of a click on an item that is not head.
        novelty: Extra chance of such a click at first, as a share; fades with ``novelty_days``.
        novelty_days: Days since the user's first visit in which novelty falls to 1/e.
        drift_per_day: Growth of all chances per day, as a share.
        weekly_swing: Chances swing by this share over the week.
        lost_share: The treatment's lists that never reach the screen.
        bot_share: Users who are machines: they visit ``bot_visits_per_day``, click at random, never buy.
        bot_visits_per_day: Of a bot.
        needs_equal_models: Both names must serve one model.
        needs_drill: The service must break the treatment on purpose (``tailwise serve --drill``).
    """

    name: str
    words: str
    tail_appeal: float = 1.0
    novelty: float = 0.0
    novelty_days: float = 2.0
    drift_per_day: float = 0.0
    weekly_swing: float = 0.0
    lost_share: float = 0.0
    bot_share: float = 0.0
    bot_visits_per_day: float = 20.0
    needs_equal_models: bool = False
    needs_drill: bool = False


SCENARIOS = {
    each.name: each
    for each in (
        HttpScenario("as-fitted", "people as the held-out data have them"),
        HttpScenario(
            "real-uplift", "people like rare items three times as much as the data say", tail_appeal=3.0
        ),
        HttpScenario("a-a", "one model under both names", needs_equal_models=True),
        HttpScenario("over-correction", "people like rare items half as much", tail_appeal=0.5),
        HttpScenario("broken", "the treatment fails and is slow, as the service was told", needs_drill=True),
        HttpScenario("lost", "a fifth of the treatment's lists never reach the screen", lost_share=0.2),
        HttpScenario("novelty", "rare items please at first, and that fades", novelty=1.0),
        HttpScenario(
            "drift",
            "all interest grows by 5 % a day and swings over the week",
            drift_per_day=0.05,
            weekly_swing=0.3,
        ),
        HttpScenario("bots", "one user in fifty is a machine", bot_share=0.02),
    )
}
"""Worlds by name; their numbers are declared, not fitted."""


def find_scenario(name: str) -> HttpScenario:
    """Return a scenario.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in SCENARIOS:
        raise ConfigError(f"--scenario must be one of {', '.join(SCENARIOS)}; got {name!r}.")
    return SCENARIOS[name]
