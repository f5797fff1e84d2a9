"""The form of assumptions: from the query of an address to checked numbers, and back into its fields."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from tailwise.dashboard._cost_benefit import CostAssumptions, MeasuredChange
from tailwise.dashboard._experiment_page import ExperimentPage

__all__ = ["FIELDS", "CostField", "CostForm", "measured_change", "read_form"]


@dataclass(frozen=True)
class CostField:
    """A number that the shop has to say.

    Attributes:
        name: Of :class:`CostAssumptions`.
        label: What it is called.
        unit: Shown behind it; ``currency`` is replaced by the shop's.
        group: Under which heading it stands.
    """

    name: str
    label: str
    unit: str
    group: str


FIELDS = (
    CostField("monthly_gmv", "GMV of a month", "currency", "Sales"),
    CostField("gross_margin", "Gross margin", "share of GMV, 0 to 1", "Sales"),
    CostField("training_hours", "One plain training", "accelerator hours", "Training"),
    CostField("training_overhead", "Treatment's training over a plain one", "times", "Training"),
    CostField("trainings_per_month", "Trainings", "per month", "Training"),
    CostField("training_price", "Accelerator hour", "currency", "Training"),
    CostField("requests_per_month", "Lists", "per month", "Serving"),
    CostField("extra_ms_per_request", "Treatment's list over control's", "milliseconds", "Serving"),
    CostField("serving_price", "Server hour", "currency", "Serving"),
    CostField("tail_stock", "Tail items in stock, at cost", "currency", "Stock"),
    CostField("carrying_rate", "Keeping stock for a year", "share of its value, 0 to 1", "Stock"),
    CostField("one_time_cost", "Introducing it, once", "currency", "Introduction"),
)


@dataclass(frozen=True)
class CostForm:
    """What was typed, and what came of it.

    Attributes:
        texts: By field, as typed or as the default.
        errors: By field, what is wrong with it.
        assumed: None where something is wrong.
        is_example: Nothing was typed: these are an example's numbers.
    """

    texts: Mapping[str, str]
    errors: Mapping[str, str]
    assumed: CostAssumptions | None
    is_example: bool


def read_form(query: Mapping[str, str]) -> CostForm:
    """Read the numbers; what is missing keeps the example's.

    Example:
        >>> read_form({"gross_margin": "30"}).errors
        {'gross_margin': 'gross_margin must be a share in [0, 1]; got 30. For twenty percent, write 0.2.'}
    """
    example = CostAssumptions()
    texts = {
        field.name: query.get(field.name, f"{getattr(example, field.name):.12g}")[:40].strip()
        for field in FIELDS
    }
    errors: dict[str, str] = {}
    values: dict[str, float] = {}
    for name, text in texts.items():
        try:
            values[name] = float(text.replace("_", "?"))
            dataclasses.replace(example, **{name: values[name]})
        except ValueError as error:
            is_number = name in values
            errors[name] = (
                str(error) if is_number else f"{name} must be a number such as 1234.5; got {text!r}."
            )
    return CostForm(
        texts, errors, None if errors else CostAssumptions(**values), not any(f.name in query for f in FIELDS)
    )


def measured_change(page: ExperimentPage) -> MeasuredChange | None:
    """Take what a page measured: GMV per user with its confidence sequence, and sell-through of the tail.

    Returns:
        None where GMV was not measured. Ends that are not known yet are infinite.
    """
    gmv = page.gmv
    if gmv is None or gmv.change is None:
        return None
    sold = next((share for share in page.catalogue if share.metric.name == "tail_sell_through"), None)
    is_counted = sold is not None and sold.of > 0
    return MeasuredChange(
        gmv.change,
        float("-inf") if gmv.low is None else gmv.low,
        float("inf") if gmv.high is None else gmv.high,
        sold.control / sold.of if sold is not None and is_counted else None,
        sold.treatment / sold.of if sold is not None and is_counted else None,
    )
