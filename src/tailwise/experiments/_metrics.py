"""What an experiment counts: every metric, its numerator, denominator, unit and direction."""

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "GUARDRAIL_METRICS",
    "METRICS",
    "PRIMARY_METRICS",
    "SEGMENTS",
    "Metric",
    "metrics_of_kind",
]

Kind = Literal["primary", "guardrail", "descriptive"]

SEGMENTS = ("head", "mid", "tail", "cold")


@dataclass(frozen=True)
class Metric:
    """What is compared between control and treatment.

    Attributes:
        name: Short and unique.
        numerator: Column of the outcome table that is added up over users; of a catalogue metric, what
            is counted.
        denominator: None: the metric is a mean over all assigned users. A column: a ratio of two sums
            over users, with users as the clusters. Of a catalogue metric: what the count is a share of.
        unit: Of the metric's value.
        good: Which direction is wanted.
        kind: ``primary`` decides, ``guardrail`` may not get worse, ``descriptive`` explains and decides
            nothing, because the treatment changes what it is divided by or how much is shown.
        is_skewed: A few users hold much of the sum.
        level: ``user``: sums over users, with intervals. ``catalogue``: distinct items or brands of a
            variant, without.
    """

    name: str
    numerator: str
    denominator: str | None
    unit: str
    good: Literal["up", "down"]
    kind: Kind
    is_skewed: bool = False
    level: Literal["user", "catalogue"] = "user"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the outcome table that the metric reads."""
        return (self.numerator,) if self.denominator is None else (self.numerator, self.denominator)


_ALL = (
    Metric("tail_clicks", "tail_clicks", None, "clicks per user", "up", "primary"),
    Metric("tail_purchases", "tail_purchases", None, "purchases per user", "up", "primary"),
    Metric("conversion", "converted", None, "share of users", "up", "primary"),
    Metric("session_gmv", "gmv", "sessions", "currency per session", "up", "primary", is_skewed=True),
    Metric("average_order_value", "gmv", "orders", "currency per order", "up", "primary", is_skewed=True),
    Metric("clicks", "clicks", None, "clicks per user", "up", "guardrail"),
    Metric("gmv", "gmv", None, "currency per user", "up", "guardrail", is_skewed=True),
    Metric("head_purchases", "head_purchases", None, "purchases per user", "up", "guardrail"),
    *(
        Metric(f"{s}_ctr", f"{s}_clicks", f"{s}_impressions", "clicks per impression", "up", "descriptive")
        for s in SEGMENTS
    ),
    *(
        Metric(
            f"{s}_impression_share",
            f"{s}_impressions",
            "impressions",
            "share of impressions",
            "down" if s == "head" else "up",
            "descriptive",
        )
        for s in SEGMENTS
    ),
    Metric(
        "coverage",
        "items shown",
        "items of the catalogue",
        "share of items",
        "up",
        "descriptive",
        level="catalogue",
    ),
    Metric(
        "tail_sell_through",
        "tail items sold",
        "tail items of the catalogue",
        "share of tail items",
        "up",
        "descriptive",
        level="catalogue",
    ),
    Metric(
        "brands_with_a_sale",
        "brands sold",
        "brands of the catalogue",
        "share of brands",
        "up",
        "descriptive",
        level="catalogue",
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric, by name."""


def metrics_of_kind(kind: Kind) -> tuple[Metric, ...]:
    """Return the metrics of a kind, in the order of the registry.

    Example:
        >>> [metric.name for metric in metrics_of_kind("guardrail")]
        ['clicks', 'gmv', 'head_purchases']
    """
    return tuple(metric for metric in _ALL if metric.kind == kind)


PRIMARY_METRICS = metrics_of_kind("primary")
GUARDRAIL_METRICS = metrics_of_kind("guardrail")
