"""What a better tail costs and what it earns, per month: arithmetic over stated assumptions, nothing else."""

import math
from dataclasses import dataclass, fields

__all__ = ["CostAssumptions", "CostBenefit", "MeasuredChange", "Range", "cost_benefit"]

_MONTHS_PER_YEAR = 12
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class MeasuredChange:
    """What an experiment or a simulation measured.

    Attributes:
        gmv_relative: Change of GMV per assigned user, as a share of control's; 0.02 is two percent more.
        gmv_low: Lower end of its interval; ``-inf`` where nothing is known yet.
        gmv_high: Upper end; ``inf`` likewise.
        control_sell_through: Share of tail items with a sale under control, 0 to 1; None: not measured.
        treatment_sell_through: The same under treatment, over as many users.
    """

    gmv_relative: float
    gmv_low: float
    gmv_high: float
    control_sell_through: float | None = None
    treatment_sell_through: float | None = None

    def __post_init__(self) -> None:
        if not self.gmv_low <= self.gmv_relative <= self.gmv_high:
            raise ValueError(
                "gmv_low, gmv_relative and gmv_high must rise in this order; got "
                f"{self.gmv_low}, {self.gmv_relative}, {self.gmv_high}."
            )
        for name in ("control_sell_through", "treatment_sell_through"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be a share in [0, 1]; got {value}.")


@dataclass(frozen=True)
class CostAssumptions:
    """What the shop has to say itself. Money is in the shop's currency; the defaults are an example's.

    Attributes:
        monthly_gmv: GMV of a month of the users whom the treatment will reach, as it is under control.
        gross_margin: Share of GMV that is left after the goods are paid, in [0, 1].
        training_hours: Accelerator hours of one training with the plain optimizer.
        training_overhead: Hours of the treatment's training over those, >= 0; 1 costs nothing more.
        trainings_per_month: How often the model is trained.
        training_price: Of an accelerator hour.
        requests_per_month: Lists that are asked for.
        extra_ms_per_request: Compute time of the treatment's list less control's, in milliseconds; negative
            where the treatment is faster.
        serving_price: Of an hour of the machine that computes one list at a time.
        tail_stock: Value of the tail items in stock, at what they cost.
        carrying_rate: What a year of keeping stock costs, as a share of its value, in [0, 1]: capital, space,
            write-offs.
        one_time_cost: Of introducing it: work, tests, the experiment itself.
    """

    monthly_gmv: float = 100_000.0
    gross_margin: float = 0.3
    training_hours: float = 10.0
    training_overhead: float = 1.3
    trainings_per_month: float = 4.0
    training_price: float = 2.5
    requests_per_month: float = 1_000_000.0
    extra_ms_per_request: float = 0.0
    serving_price: float = 1.0
    tail_stock: float = 50_000.0
    carrying_rate: float = 0.25
    one_time_cost: float = 5_000.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value) or abs(value) > 1e15:
                raise ValueError(f"{field.name} must be a number of at most 15 digits; got {value}.")
            if value < 0 and field.name != "extra_ms_per_request":
                raise ValueError(f"{field.name} must be >= 0; got {value:g}.")
        for name in ("gross_margin", "carrying_rate"):
            if getattr(self, name) > 1:
                raise ValueError(
                    f"{name} must be a share in [0, 1]; got {getattr(self, name):g}. "
                    "For twenty percent, write 0.2."
                )


@dataclass(frozen=True)
class Range:
    """An amount at the estimate and at both ends of the measured interval.

    Attributes:
        low: With the least favourable end.
        estimate: With the estimate.
        high: With the most favourable end.
    """

    low: float
    estimate: float
    high: float


@dataclass(frozen=True)
class CostBenefit:
    """Amounts per month.

    Attributes:
        extra_gmv: Change of GMV.
        extra_margin: Of which the shop keeps so much.
        training_cost: More than the plain optimizer's training.
        serving_cost: More than control's serving; negative where it is less.
        carrying_saved: Carrying cost of tail stock that would have lain, at most; 0 where not measured.
        net: Margin and saving less both costs.
        payback_months: Months until the one-time cost is earned; ``inf``: never. ``low`` is of the least
            favourable end, so it is the longest.
    """

    extra_gmv: Range
    extra_margin: Range
    training_cost: float
    serving_cost: float
    carrying_saved: float
    net: Range
    payback_months: Range


def cost_benefit(assumed: CostAssumptions, measured: MeasuredChange) -> CostBenefit:
    """Set what was measured against what is assumed.

    * extra GMV = monthly GMV x relative change, at the estimate and both ends of its interval; the margin is
      ``gross_margin`` of it. It supposes that the change lasts, and that the users of a month are like those
      measured.
    * training cost = hours x (overhead - 1) x trainings x price.
    * serving cost = requests x extra milliseconds x price.
    * carrying saved = tail stock x (sell-through of treatment less control) x carrying rate / 12: items that
      sell at all no longer lie. An upper bound, as an item with one sale still has stock; and it is
      sold instead of, not beside, what head items lose, which ``extra_gmv`` already nets.
    * pay-back = one-time cost / net, never where net is not positive.

    Example:
        >>> assumed = CostAssumptions(monthly_gmv=1e6, gross_margin=0.3, tail_stock=0, one_time_cost=11_940)
        >>> found = cost_benefit(assumed, MeasuredChange(0.02, -0.01, 0.05))
        >>> found.extra_margin.estimate, found.training_cost, found.net.estimate
        (6000.0, 30.0, 5970.0)
        >>> found.payback_months.estimate, found.payback_months.low
        (2.0, inf)
    """
    extra_gmv = Range(
        *(
            assumed.monthly_gmv * change if assumed.monthly_gmv else 0.0
            for change in (measured.gmv_low, measured.gmv_relative, measured.gmv_high)
        )
    )
    margin = Range(
        *(
            assumed.gross_margin * amount if assumed.gross_margin else 0.0
            for amount in (extra_gmv.low, extra_gmv.estimate, extra_gmv.high)
        )
    )
    training = (
        assumed.training_hours
        * (assumed.training_overhead - 1)
        * assumed.trainings_per_month
        * assumed.training_price
    )
    training = round(training, 9)  # 10 x (1.3 - 1) is 3
    hours = assumed.requests_per_month * assumed.extra_ms_per_request / 1000 / _SECONDS_PER_HOUR
    serving = hours * assumed.serving_price
    saved = 0.0
    if measured.control_sell_through is not None and measured.treatment_sell_through is not None:
        more = measured.treatment_sell_through - measured.control_sell_through
        saved = assumed.tail_stock * more * assumed.carrying_rate / _MONTHS_PER_YEAR
    net = Range(
        *(amount + saved - training - serving for amount in (margin.low, margin.estimate, margin.high))
    )
    payback = Range(*(_months(assumed.one_time_cost, each) for each in (net.low, net.estimate, net.high)))
    return CostBenefit(extra_gmv, margin, training, serving, saved, net, payback)


def _months(one_time: float, net: float) -> float:
    """How long until the one-time cost is earned."""
    return one_time / net if net > 0 else math.inf
