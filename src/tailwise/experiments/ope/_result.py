"""What an off-policy evaluation found, as frozen records and as plain values for JSON."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tailwise.experiments.ope._diagnostics import SlotDiagnostics
from tailwise.experiments.ope._intervals import Mean
from tailwise.experiments.ope._log import LogChecks
from tailwise.experiments.ope._weights import Interaction

__all__ = ["Estimate", "Estimator", "OffPolicyResult", "ShownValue"]

Estimator = Literal["ips", "snips", "dr"]
"""Inverse propensity score, self-normalised, doubly robust."""


@dataclass(frozen=True)
class ShownValue:
    """What lists earned that were shown: mean reward per list.

    Attributes:
        value: Mean reward per list.
        low: Lower end of the interval.
        high: Upper end.
        n_lists: Lists.
    """

    value: float
    low: float
    high: float
    n_lists: int

    @classmethod
    def of(cls, mean: Mean, n_lists: int) -> "ShownValue":
        """Take value and ends of a mean."""
        return cls(mean.value, mean.low, mean.high, n_lists)


@dataclass(frozen=True)
class Estimate:
    """What a policy would have earned, by one estimator.

    Attributes:
        estimator: See :data:`Estimator`.
        interaction: What a slot's reward is taken to depend on; see :data:`Interaction`.
        value: Mean reward per list.
        low: Lower end of the interval, clustered by user.
        high: Upper end.
        standard_error: Clustered by user.
        difference: Value minus that of what was shown, on the same lists.
        difference_low: Lower end; paired, clustered by user.
        difference_high: Upper end.
        change: Value over what was shown, minus 1; None where either is not above zero.
        change_low: Lower end, from the logarithm of the ratio.
        change_high: Upper end.
        unclipped_value: The same without clipping: its distance from ``value`` is what clipping did.
    """

    estimator: Estimator
    interaction: Interaction
    value: float
    low: float
    high: float
    standard_error: float
    difference: float
    difference_low: float
    difference_high: float
    change: float | None
    change_low: float | None
    change_high: float | None
    unclipped_value: float


@dataclass(frozen=True)
class OffPolicyResult:
    """An off-policy evaluation.

    Attributes:
        policy: Name of the evaluated policy.
        reward: What was earned, such as ``clicks``.
        unit: ``lists``, or ``slots`` where the log names no lists.
        shown: The drawn lists themselves, under the policy that drew them.
        not_drawn: The lists of the log that were not drawn; None where there are none.
        estimates: Every estimator with every set of weights.
        headline: The one that sentences speak of: doubly robust where it can be had, else self-normalised,
            with the weights that assume least of those that were diagnosed.
        diagnostics: Of the headline's weights before clipping, slot by slot.
        checks: What of the log was read and left out.
        clip: Weights were cut here; None where they were not.
        n_clipped: Slots whose weight was cut, with the headline's weights.
        max_unsupported: Share of the policy's probability without support from which it is refused.
        confidence: Of all intervals but the diagnostics', which are 99 %.
        cautions: Sentences on what to be careful about.
    """

    policy: str
    reward: str
    unit: Literal["lists", "slots"]
    shown: ShownValue
    not_drawn: ShownValue | None
    estimates: tuple[Estimate, ...]
    headline: Estimate
    diagnostics: tuple[SlotDiagnostics, ...]
    checks: LogChecks
    clip: float | None
    n_clipped: int
    max_unsupported: float
    confidence: float
    cautions: tuple[str, ...]

    def estimate(self, estimator: Estimator, interaction: Interaction | None = None) -> Estimate:
        """Return one estimate; ``interaction`` None means the headline's.

        Raises:
            KeyError: it was not made.
        """
        wanted = self.headline.interaction if interaction is None else interaction
        for found in self.estimates:
            if (found.estimator, found.interaction) == (estimator, wanted):
                return found
        raise KeyError((estimator, wanted))

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        content = asdict(self)
        content["diagnostics"] = [found.as_dict() for found in self.diagnostics]
        return {"format": 1, **content}
