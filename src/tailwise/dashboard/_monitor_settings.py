"""How the monitor looks, and what it calls out of bounds."""

from dataclasses import dataclass

__all__ = ["MonitorSettings"]


@dataclass(frozen=True)
class MonitorSettings:
    """Bounds of the monitor.

    Attributes:
        window_days: The stretch that is judged, ending now, > 0. A day holds every hour of the day.
        reference_days: The stretch before it, to compare with, > 0. A week holds every day of the week.
        k: Places of each list that count, >= 1.
        share_change: Relative change of a segment's share of slots from which on it is out of bounds, in
            (0, 1); the intervals of both stretches must moreover not meet.
        coverage_drop: Relative drop of coverage, at equal numbers of slots, in (0, 1).
        gini_rise: Rise of the Gini index, at equal numbers of slots, in (0, 1).
        head_loss: How much less of what is chosen the earlier head holds than without drift, as a share of
            all choices, in (0, 1).
        moved_share: Share of the catalogue that another training would put into another segment, in (0, 1).
        minimum_lists: Lists in either stretch before anything about lists is judged, >= 1.
        minimum_choices: Clicks and purchases in both together before anything about them is judged, >= 2.
    """

    window_days: float = 1.0
    reference_days: float = 7.0
    k: int = 10
    share_change: float = 0.25
    coverage_drop: float = 0.25
    gini_rise: float = 0.05
    head_loss: float = 0.1
    moved_share: float = 0.05
    minimum_lists: int = 200
    minimum_choices: int = 500

    def __post_init__(self) -> None:
        for name in ("window_days", "reference_days"):
            if not 0 < getattr(self, name) < 3650:
                raise ValueError(f"{name} must be in (0, 3650); got {getattr(self, name)}.")
        for name in ("share_change", "coverage_drop", "gini_rise", "head_loss", "moved_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be in (0, 1); got {getattr(self, name)}.")
        for name, least in (("k", 1), ("minimum_lists", 1), ("minimum_choices", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}; got {getattr(self, name)}.")
