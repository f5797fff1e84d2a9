import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.experiments import METRICS, user_outcomes
from tailwise.experiments._user_outcomes import MEASURES

DAY = 86_400.0
EVENT_COLUMNS = {
    "event_id": pl.String,
    "type": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "occurred_at": pl.Float64,
    "session_id": pl.String,
    "quantity": pl.Int64,
    "revenue": pl.Float64,
    "currency": pl.String,
    "segment": pl.String,
}


def events(*rows: dict[str, object]) -> pl.DataFrame:
    filled = [
        {
            "event_id": f"e{i}",
            "type": "click",
            "user_id": "anna",
            "item_id": "i1",
            "session_id": None,
            "quantity": 1,
            "revenue": None,
            "currency": None,
            "segment": "tail",
            **row,
        }
        for i, row in enumerate(rows)
    ]
    return pl.DataFrame(filled, schema=EVENT_COLUMNS)


def bought(at: float, revenue: float = 10.0, currency: str = "EUR", **more: object) -> dict[str, object]:
    return {"type": "purchase", "occurred_at": at, "revenue": revenue, "currency": currency, **more}


def exposures(*rows: tuple[str, str, int, float]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "variant", "stage", "exposed_at"], orient="row")


ANNA = exposures(("anna", "treatment", 0, 0.0))


def measured(*rows: dict[str, object], name: str, **more: object) -> object:
    return user_outcomes(events(*rows), ANNA, **{"now": 30 * DAY, **more})[name][0]  # type: ignore[arg-type]


def test_what_happens_before_exposure_or_at_the_windows_end_does_not_count():
    rows = [{"occurred_at": at} for at in (-1.0, 0.0, 7 * DAY - 1, 7 * DAY)]
    assert measured(*rows, name="clicks") == 2
    assert measured(*rows, name="tail_clicks", window_days=1.0) == 1


def test_users_enter_when_their_window_closes_and_not_before():
    both = exposures(("late", "control", 1, 2 * DAY), ("anna", "treatment", 0, 0.0))
    log = events({"occurred_at": 5.0})
    assert user_outcomes(log, both, now=7 * DAY - 1).height == 0
    assert user_outcomes(log, both, now=7 * DAY)["user_id"].to_list() == ["anna"]
    table = user_outcomes(log, both, now=9 * DAY)
    assert table["user_id"].to_list() == ["anna", "late"]
    assert table["clicks"].to_list() == [1, 0]  # who did nothing is there, with nothing
    assert table["window_closes_at"].to_list() == [7 * DAY, 9 * DAY]


def test_segments_and_types_are_told_apart():
    rows = [
        {"occurred_at": 1.0, "segment": "head"},
        {"occurred_at": 2.0, "type": "impression"},
        {"occurred_at": 3.0, "type": "add-to-cart"},
        bought(4.0, segment="head"),
        bought(4.0, segment="cold"),
    ]
    table = user_outcomes(events(*rows), ANNA, now=30 * DAY)
    names = ("clicks", "head_clicks", "tail_clicks", "tail_impressions", "head_purchases", "tail_purchases")
    assert [table[name][0] for name in names] == [1, 1, 0, 1, 1, 0]
    assert table["converted"][0] == 1


def test_segments_of_the_catalogue_go_before_those_of_the_events():
    rows = [{"occurred_at": 1.0, "segment": None}, {"occurred_at": 2.0, "item_id": "gone"}]
    items = pl.DataFrame({"item_id": ["i1"], "segment": ["head"]})
    table = user_outcomes(events(*rows), ANNA, now=30 * DAY, items=items)
    assert (table["head_clicks"][0], table["tail_clicks"][0], table["clicks"][0]) == (1, 0, 2)
    with pytest.raises(DataError, match="item_id of items must be unique"):
        user_outcomes(events(*rows), ANNA, now=30 * DAY, items=pl.concat([items, items]))


def test_clicks_that_carry_no_segment_are_warned_of_with_their_number():
    rows = [{"occurred_at": 1.0, "segment": None}, {"occurred_at": 2.0}]
    with pytest.warns(UserWarning, match="1 of 2 clicks and purchases carry no segment"):
        assert measured(*rows, name="tail_clicks") == 1


def test_decimal_revenue_of_the_event_log_is_added_up_as_numbers():
    rows = events(bought(1.0, 0.1), bought(2.0, 0.2))
    decimal = rows.with_columns(pl.col("revenue").cast(pl.Decimal(20, 4)))
    table = user_outcomes(decimal, ANNA, now=30 * DAY)
    assert table["gmv"].dtype == pl.Float64
    assert table["gmv"][0] == pytest.approx(0.3)


def test_purchases_of_one_second_are_one_order_and_gmv_is_their_sum():
    rows = [bought(5.0, 10.0), bought(5.0, 2.5, quantity=3), bought(90.0, 4.0), bought(95.0, -4.0)]
    table = user_outcomes(events(*rows), ANNA, now=30 * DAY)
    assert (table["orders"][0], table["gmv"][0], table["currency"][0]) == (3, 12.5, "EUR")


def test_a_session_ends_with_a_pause_of_thirty_minutes_unless_the_client_names_it():
    without = [{"occurred_at": at} for at in (0.0, 1799.0, 1799.0 + 1800.0, 5000.0)]
    assert measured(*without, name="sessions") == 2
    assert measured(*without, name="sessions", session_gap_minutes=120.0) == 1
    named = [{"occurred_at": at, "session_id": s} for at, s in ((0.0, "a"), (9000.0, "a"), (9001.0, "b"))]
    assert measured(*named, name="sessions") == 2
    # events with and without a name do not interrupt one another
    between = {"occurred_at": 2700.0, "session_id": "a"}
    assert measured(*without, *named, between, name="sessions") == 4


def test_an_event_that_is_there_twice_counts_once():
    rows = [{"occurred_at": 1.0, "event_id": "same"}, {"occurred_at": 2.0, "event_id": "same"}]
    assert measured(*rows, name="clicks") == 1


def test_the_earliest_exposure_counts_and_gives_the_stage():
    again = exposures(("anna", "treatment", 2, 5 * DAY), ("anna", "treatment", 1, 1 * DAY))
    table = user_outcomes(events({"occurred_at": 2 * DAY}), again, now=30 * DAY)
    assert (table["stage"][0], table["exposed_at"][0], table["clicks"][0]) == (1, DAY, 1)


def test_a_user_of_both_variants_is_refused():
    both = exposures(("anna", "treatment", 0, 0.0), ("anna", "control", 1, DAY))
    with pytest.raises(
        DataError, match=r"variant must stay the same for a user; got both for 1 users .*'anna'"
    ):
        user_outcomes(events({"occurred_at": 1.0}), both, now=30 * DAY)


def test_two_currencies_are_refused_and_one_that_nobody_of_the_experiment_paid_in_is_not():
    with pytest.raises(DataError, match="currency must be one for all purchases; got EUR, USD"):
        measured(bought(1.0), bought(2.0, currency="USD"), name="gmv")
    assert measured(bought(1.0), bought(2.0, currency="USD", user_id="other"), name="gmv") == 10.0


def test_days_before_the_exposure_give_covariates_and_say_who_returns():
    both = exposures(("anna", "treatment", 0, 0.0), ("new", "control", 0, 1.0))
    rows = [{"occurred_at": -DAY}, {"occurred_at": -8 * DAY}, {"occurred_at": 1.0}]
    table = user_outcomes(events(*rows), both, now=30 * DAY, covariate_days=7.0)
    assert table["pre_clicks"].to_list() == [1, 0]
    assert table["clicks"].to_list() == [1, 0]
    assert table["is_returning"].to_list() == [True, False]


def test_every_metric_of_users_reads_measures_that_exist():
    for metric in METRICS.values():
        if metric.level == "user":
            assert set(metric.columns) <= set(MEASURES), metric.name


def test_missing_columns_and_lengths_of_no_time_are_named():
    with pytest.raises(DataError, match=r"events must have the columns .* got none named segment"):
        user_outcomes(events({"occurred_at": 1.0}).drop("segment"), ANNA, now=0.0)
    with pytest.raises(ValueError, match="window_days must be > 0; got 0"):
        user_outcomes(events({"occurred_at": 1.0}), ANNA, now=0.0, window_days=0)
