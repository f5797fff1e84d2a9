import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.dashboard import CostAssumptions, MeasuredChange, cost_benefit
from tailwise.dashboard._cost_form import FIELDS, read_form


def test_a_shop_worked_by_hand_pays_back_in_two_and_a_half_months():
    assumed = CostAssumptions(
        monthly_gmv=200_000,
        gross_margin=0.25,
        training_hours=20,
        training_overhead=1.5,
        trainings_per_month=4,
        training_price=3,
        requests_per_month=3_600_000,
        extra_ms_per_request=10,
        serving_price=2,
        tail_stock=60_000,
        carrying_rate=0.2,
        one_time_cost=5_000,
    )
    found = cost_benefit(assumed, MeasuredChange(0.04, 0.01, 0.07, 0.3, 0.4))
    # 20 h x 0.5 x 4 x 3; 3.6 M x 10 ms are 10 h; 60,000 x 0.1 x 0.2 / 12; 200,000 x 4 % x 25 %
    assert found.training_cost == pytest.approx(120)
    assert found.serving_cost == pytest.approx(20)
    assert found.carrying_saved == pytest.approx(100)
    assert found.extra_margin.estimate == pytest.approx(2_000)
    assert found.net.estimate == pytest.approx(2_000 + 100 - 120 - 20)
    assert found.payback_months.estimate == pytest.approx(5_000 / 1_960)
    assert found.net.low == pytest.approx(500 + 100 - 140)
    assert found.payback_months.high == pytest.approx(5_000 / (3_500 + 100 - 140))


def test_what_is_not_known_yet_stays_unknown_and_never_pays_back():
    found = cost_benefit(CostAssumptions(), MeasuredChange(0.02, -math.inf, math.inf))
    assert found.net.low == -math.inf
    assert found.payback_months.low == math.inf
    assert found.payback_months.high == 0


def test_no_gmv_gains_nothing_even_from_an_unknown_change():
    found = cost_benefit(
        CostAssumptions(monthly_gmv=0, tail_stock=0), MeasuredChange(0.0, -math.inf, math.inf)
    )
    assert (found.extra_gmv.low, found.extra_gmv.high) == (0, 0)
    assert found.net.low == found.net.high == -found.training_cost


@given(
    st.floats(-0.5, 0.5),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
    st.floats(0, 1e9),
    st.floats(0, 1e6),
)
def test_a_better_end_never_earns_less_nor_pays_back_later(change, down, up, gmv, once):
    assumed = CostAssumptions(monthly_gmv=gmv, one_time_cost=once)
    found = cost_benefit(assumed, MeasuredChange(change, change - down, change + up))
    assert found.net.low <= found.net.estimate <= found.net.high
    assert found.payback_months.low >= found.payback_months.estimate >= found.payback_months.high


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gross_margin", 30.0),
        ("monthly_gmv", -1.0),
        ("training_price", math.inf),
        ("one_time_cost", math.nan),
    ],
)
def test_a_number_out_of_range_is_refused_by_name_and_value(name, value):
    with pytest.raises(ValueError, match=rf"{name} must .*; got {value:g}"):
        CostAssumptions(**{name: value})


def test_an_interval_that_does_not_hold_its_estimate_is_refused():
    with pytest.raises(ValueError, match=r"must rise in this order; got 0.3, 0.2"):
        MeasuredChange(0.2, 0.3, 0.4)


def test_the_form_has_a_field_for_every_assumption():
    assert [field.name for field in FIELDS] == list(CostAssumptions.__dataclass_fields__)


def test_a_form_says_what_is_wrong_with_each_field_and_keeps_what_was_typed():
    form = read_form({"gross_margin": "30", "monthly_gmv": "1,000", "tail_stock": "12e3", "other": "x"})
    assert form.assumed is None
    assert set(form.errors) == {"gross_margin", "monthly_gmv"}
    assert "got '1,000'" in form.errors["monthly_gmv"]
    assert form.texts["monthly_gmv"] == "1,000"
    assert read_form({"tail_stock": "12e3"}).assumed == CostAssumptions(tail_stock=12_000)


def test_an_untouched_form_says_that_it_is_an_example():
    assert read_form({}).is_example
    assert not read_form({"tail_stock": "1"}).is_example
