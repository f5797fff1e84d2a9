"""What an event may say, and that what it may not is named."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.events import Event, check_event
from tailwise.events._rows import event_of, row_of_event
from tests.events.making import NOON, event

BUY = {"kind": "purchase", "currency": "EUR"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user_id": ""}, "user_id must have 1..256 characters; got 0."),
        ({"user_id": "x" * 257}, "user_id must have 1..256 characters; got 257."),
        ({"item_id": "a\x00b"}, r"item_id must have no control characters; got 'a\\x00b'."),
        ({"item_id": "a\ud800"}, r"item_id must have no control characters; got 'a\\ud800'."),
        ({"session_id": "a\nb"}, r"session_id must have no control characters; got 'a\\nb'."),
        ({"user_id": 7}, "user_id must be text; got 7."),
        ({"kind": "view"}, "type must be one of impression, click, add-to-cart, purchase; got view."),
        ({"kind": ["click"]}, "type must be one of impression, click, add-to-cart, purchase; got"),
        ({"at": 1_700_000_000_000}, "occurred_at must be unix seconds of the years 2000 to 2099; got 17000"),
        ({"at": 1_700_000_000_000}, "Divide milliseconds by 1,000."),
        ({"at": float("nan")}, "occurred_at must be .* got nan."),
        ({"at": True}, "occurred_at must be .* got True."),
        ({"at": "now"}, "occurred_at must be .* got now."),
        ({"received_at": -1.0}, "received_at must be .* got -1.0."),
        ({"recommendation_id": "A" * 32}, "recommendation_id must be 32 hexadecimal digits"),
        ({"recommendation_id": "a" * 31}, "recommendation_id must be 32 hexadecimal digits"),
        ({"position": 0}, r"position must be a whole number in 1..100,000; got 0."),
        ({"quantity": 1.5}, r"quantity must be a whole number in 1..1,000,000; got 1.5."),
        ({"quantity": 10**5000}, "got a number of more than 30 digits"),
        ({"revenue": Decimal(1)}, "currency must be given where revenue is"),
        (BUY, "revenue must be given where currency is"),
        ({"revenue": Decimal(1), "currency": "EUR"}, "revenue must come with purchases; got 1 of click."),
        ({"revenue": Decimal("0.00001"), **BUY}, "revenue must have at most 4 decimal places; got 0.00001."),
        ({"revenue": Decimal("-1"), **BUY}, "revenue must be a decimal number, >= 0 and .* got -1."),
        ({"revenue": Decimal("sNaN"), **BUY}, "revenue must be a decimal number"),
        ({"revenue": Decimal("1E-999999"), **BUY}, "revenue must have at most 4 decimal places"),
        ({"revenue": 10**12, **BUY}, "revenue must be a decimal number"),
        ({"revenue": "1", **BUY}, "revenue must be a decimal number"),
        ({"revenue": 1, "kind": "purchase", "currency": "eur"}, "currency must be three .*got eur."),
    ],
)  # fmt: skip
def test_a_broken_rule_is_named_with_its_value(fields: dict, message: str) -> None:
    fields = dict(fields)
    with pytest.raises(ValueError, match=message):
        event("e1", fields.pop("kind", "click"), **fields)


def test_every_broken_rule_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)user_id.*\nitem_id.*\nquantity"):
        event("e1", user_id="", item_id="", quantity=0)


def test_a_hostile_value_is_shown_short_and_on_one_line() -> None:
    with pytest.raises(ValueError, match="type must") as raised:
        event("e1", "<script>\n" * 1000)
    assert len(str(raised.value)) < 200
    assert "\n" not in str(raised.value)


def test_fields_from_outside_must_be_known_and_complete() -> None:
    whole = {"event_id": "e1", "type": "click", "user_id": "u1", "item_id": "i1", "occurred_at": NOON}
    assert check_event(whole) == event("e1")
    with pytest.raises(ValueError, match="colour is not a field"):
        check_event(whole | {"colour": "red"})
    with pytest.raises(ValueError, match="item_id must be given"):
        check_event({name: value for name, value in whole.items() if name != "item_id"})


@pytest.mark.parametrize(("given", "exact"), [(19.99, "19.99"), (0.1, "0.1"), (3, "3"), (1e-4, "0.0001")])
def test_a_float_stands_for_the_number_that_it_prints_as(given: float, exact: str) -> None:
    assert event("e1", "purchase", revenue=given, currency="EUR").revenue == Decimal(exact)


@given(st.integers(0, 10**16 - 1))
def test_money_comes_back_exactly_as_it_went_in(ten_thousandths: int) -> None:
    bought = event(
        "e1", "purchase", revenue=Decimal(ten_thousandths).scaleb(-4), currency="JPY", received_at=NOON
    )
    row = row_of_event(bought, 0.0)
    assert row["revenue_e4"] == ten_thousandths
    assert event_of(row) == bought


@given(st.text(min_size=1, max_size=256))
def test_an_id_is_refused_or_can_be_stored(text: str) -> None:
    try:
        made = Event(text, "click", text, text, NOON)
    except ValueError:
        return
    assert "\x00" not in made.user_id
    made.user_id.encode()
