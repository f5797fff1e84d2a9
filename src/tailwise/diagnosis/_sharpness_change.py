"""What a treatment did to the sharpness of one popularity group."""

from dataclasses import dataclass
from typing import Any

from tailwise.diagnosis._uncertain import Uncertain

__all__ = ["GroupChange", "direction"]


def direction(change: Uncertain) -> str:
    """``"flatter"``, ``"sharper"``, or ``"unclear"`` where the interval holds zero or is missing."""
    if change.low is None or change.high is None or change.low <= 0 <= change.high:
        return "unclear"
    return "flatter" if change.high < 0 else "sharper"


@dataclass(frozen=True)
class GroupChange:
    """What became of one group; values are means over seeds.

    Attributes:
        name: Of the group.
        before: ``held_out`` of the baseline.
        after: Of the treatment.
        difference: ``after - before``.
        ratio: ``after / before``; no value where one of them is not above zero for every seed.
        relative_difference: Likewise of ``relative``, the rise as a share of the loss.
        curvature_before: ``curvature`` of the baseline.
        curvature_after: Of the treatment.
        curvature_difference: ``curvature_after - curvature_before``.
        in_sample: Before and after.
        random: Before and after.
    """

    name: str
    before: float
    after: float
    difference: Uncertain
    ratio: Uncertain
    relative_difference: Uncertain
    curvature_before: float
    curvature_after: float
    curvature_difference: Uncertain
    in_sample: tuple[float, float]
    random: tuple[float, float]

    @property
    def verdict(self) -> str:
        """``"flatter"``, ``"sharper"`` or ``"unclear"``, by the interval of ``difference``."""
        return direction(self.difference)

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        plain = {
            name: value.as_dict() if isinstance(value, Uncertain) else value
            for name, value in vars(self).items()
        }
        return {
            **plain,
            "in_sample": list(self.in_sample),
            "random": list(self.random),
            "verdict": self.verdict,
        }
