import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.interactions import check_catalogue, check_interactions


def _log(**columns: list[object]) -> pl.DataFrame:
    return pl.DataFrame(
        {"user_id": ["a", "a", "b"], "item_id": ["x", "y", "x"], "timestamp": [3, 1, 2]} | columns,
        strict=False,
    )


@pytest.mark.parametrize("blank", [None, "", "  "])
@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_blank_identifiers_name_column_count_file_and_rows(column: str, blank: str | None):
    table = _log(**{column: ["a", blank, blank]})
    with pytest.raises(
        DataError, match=f"{column} must have .*; got 2 of 3 rows(?s:.*)In shop.csv.*rows 2, 3"
    ):
        check_interactions(table, source="shop.csv")


def test_missing_timestamp_is_refused():
    with pytest.raises(DataError, match="timestamp must have a value in every row; got 1 of 3 rows"):
        check_interactions(_log(timestamp=[1, None, 2]))


def test_nan_timestamp_is_refused():
    with pytest.raises(DataError, match="timestamp must have a value in every row; got 1 of 3 rows"):
        check_interactions(_log(timestamp=[1.0, float("nan"), 2.0]))


def test_exact_duplicates_are_removed_and_counted():
    table = pl.concat([_log(), _log().head(2)])
    log = check_interactions(table)
    assert (log.n_rows_read, log.n_duplicate_rows, log.n_duplicate_rows_removed) == (5, 2, 2)
    assert log.n_interactions == 3


def test_duplicates_are_kept_on_request_and_still_counted():
    log = check_interactions(pl.concat([_log(), _log()]), duplicates="keep")
    assert (log.n_duplicate_rows, log.n_duplicate_rows_removed, log.n_interactions) == (3, 0, 6)


def test_rows_that_differ_in_an_ignored_column_are_no_duplicates():
    table = pl.concat([_log(), _log()]).with_columns(order_line=pl.Series(range(6)))
    log = check_interactions(table)
    assert log.n_interactions == 6
    assert log.ignored_columns == ("order_line",)


def test_unknown_duplicates_rule_is_refused():
    with pytest.raises(ValueError, match="duplicates must be 'drop' or 'keep'; got 'count'"):
        check_interactions(_log(), duplicates="count")  # type: ignore[arg-type]


def test_optional_columns_become_numbers_and_empty_ones_are_ignored():
    log = check_interactions(_log(quantity=["1", " 2.5", None], rating=[None, None, None]))
    assert log.table["quantity"].to_list() == [1.0, 2.5, None]
    assert "rating" not in log.table.columns
    assert log.ignored_columns == ("rating",)


def test_price_that_is_no_number_names_column_count_value_and_row():
    with pytest.raises(DataError, match=r"price must be a number; got 1 of 3 rows.*'1,50'(?s:.*)row 2"):
        check_interactions(_log(price=["1.5", "1,50", None]))


# Timestamps. 1 700 000 000 s is 2023-11-14T22:13:20Z.


def _times(values: list[object], unit: str = "s") -> list[int]:
    table = pl.DataFrame({"user_id": ["a"] * len(values), "item_id": [str(i) for i in range(len(values))]})
    table = table.with_columns(pl.Series("timestamp", values))
    return check_interactions(table, timestamp_unit=unit).table["timestamp"].to_list()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "written",
    [
        1_700_000_000,
        1_700_000_000.9,
        "1700000000",
        "1700000000.5",
        "1.7e9",
        "2023-11-14T22:13:20Z",
        "2023-11-14 22:13:20",
        "2023-11-14T22:13:20.750Z",
        "2023-11-14T23:13:20+01:00",
        "2023-11-14T17:43:20-0430",
        "2023-11-15T08:13:20+10",
    ],
)
def test_one_moment_reads_the_same_however_it_is_written(written: object):
    assert _times([written]) == [1_700_000_000]


def test_dates_are_midnight_utc():
    assert _times(["2023-11-14"]) == [1_699_920_000]


def test_datetimes_are_read_as_utc_or_in_their_zone():
    table = pl.DataFrame({"user_id": ["a"], "item_id": ["x"], "timestamp": ["2023-11-14T22:13:20"]})
    naive = table.with_columns(pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S"))
    log = check_interactions(naive)
    assert log.table["timestamp"].to_list() == [1_700_000_000]
    assert log.timestamps == "datetimes without zone, read as UTC"
    berlin = naive.with_columns(pl.col("timestamp").dt.replace_time_zone("Europe/Berlin"))
    assert check_interactions(berlin).table["timestamp"].to_list() == [1_700_000_000 - 3600]
    day = naive.with_columns(pl.col("timestamp").dt.date())
    assert check_interactions(day).table["timestamp"].to_list() == [1_699_920_000]


@pytest.mark.parametrize(("unit", "factor"), [("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_finer_units_are_refused_with_the_remedy_and_read_with_it(unit: str, factor: int):
    with pytest.raises(
        DataError, match=rf"got 1 rows up to {1_700_000_000 * factor} .*(?s:.*)timestamp_unit='{unit}'"
    ):
        _times([1_700_000_000 * factor])
    assert _times([1_700_000_000 * factor + 1], unit) == [1_700_000_000]


def test_seconds_declared_as_milliseconds_are_refused():
    with pytest.raises(
        DataError, match=r"must be in unix milliseconds; got 1 rows up to 1700000000(?s:.*)seconds"
    ):
        _times([1_700_000_000], "ms")


def test_mixed_units_name_the_offender():
    with pytest.raises(DataError, match=r"throughout; got 1 of 3 rows .*1700000000000(?s:.*)row 2"):
        _times([1_700_000_000, 1_700_000_000_000, 1_700_000_001])


def test_unknown_unit_is_an_argument_error():
    with pytest.raises(ValueError, match="timestamp_unit must be one of s, ms, us, ns; got 'min'"):
        _times([1], "min")


def test_days_written_as_numbers_are_recognised():
    with pytest.raises(DataError, match=r"20240131(?s:.*)YYYYMMDD"):
        _times(["20240131", "20240201"])


@pytest.mark.parametrize("written", ["31/01/2024", "2024-02-30", "2024-01-31 25:00", "yesterday"])
def test_text_that_is_no_iso_time_names_value_and_row(written: str):
    with pytest.raises(DataError, match=rf"got 1 of 2 rows that are not \(first: '{written}'(?s:.*)row 2"):
        _times(["2024-01-31", written])


def test_infinite_timestamp_names_the_value():
    with pytest.raises(DataError, match=r"got 1 of 2 rows that are not \(first: inf\)"):
        _times([1.7e9, float("inf")])


def test_number_among_which_a_word_stands_names_the_word():
    with pytest.raises(DataError, match="first: 'never'"):
        _times(["1700000000", "never"])


def test_times_before_1970_are_refused():
    with pytest.raises(DataError, match=r"before 1970; got 1 of 2 rows \(first: -1\)"):
        _times([1_700_000_000, -1])


# Catalogue


def _items(**columns: list[object]) -> pl.DataFrame:
    return pl.DataFrame({"item_id": ["b", "a"], "title": ["Beta", "Alpha"]} | columns, strict=False)


def test_catalogue_is_sorted_by_identifier_so_that_file_order_does_not_count():
    catalogue = check_catalogue(_items())
    assert (catalogue.item_ids(), catalogue.titles(), catalogue.n_items) == (["a", "b"], ["Alpha", "Beta"], 2)


def test_equal_item_rows_are_merged_and_counted():
    catalogue = check_catalogue(pl.concat([_items(), _items()]))
    assert (catalogue.n_items, catalogue.n_rows_read, catalogue.n_duplicate_rows_removed) == (2, 4, 2)


def test_one_identifier_with_two_titles_is_refused():
    table = pl.DataFrame({"item_id": ["a", "a", "b"], "title": ["One", "Other", "Beta"]})
    with pytest.raises(DataError, match=r"item_id must be unique; got 1 of 2 items .*\(first: 'a'\)"):
        check_catalogue(table)


def test_titles_keep_their_characters_but_lose_stray_space():
    # "é" written as e + combining accent becomes one character
    table = _items(title=["  Amélie\n de\tMontmartre ", "日本語 ™ «x»"])
    catalogue = check_catalogue(table)
    assert catalogue.titles() == ["日本語 ™ «x»", "Amélie de Montmartre"]
    assert catalogue.n_titles_cleaned == 1


def test_missing_title_is_described_by_brand_and_category_with_a_warning():
    table = pl.DataFrame(
        {
            "item_id": ["1", "2", "3", "4"],
            "title": [None, " ", "", "Fine"],
            "brand": ["Acme", None, None, None],
            "category": ["Tools", "Toys", None, "Any"],
        }
    )
    with pytest.warns(UserWarning, match=r"3 of 4 items have no title \(first: '1', '2', '3'\).*1 items"):
        catalogue = check_catalogue(table)
    assert catalogue.titles() == ["Acme Tools", "Toys", "Unknown item", "Fine"]
    assert catalogue.n_untitled == 3


def test_missing_title_is_an_error_on_request():
    with pytest.raises(DataError, match=r"title must be given .* got 1 of 2 items .*\(first: 'b'\)"):
        check_catalogue(_items(title=[None, "Alpha"]), missing_titles="error")


def test_catalogue_price_must_be_a_number():
    with pytest.raises(DataError, match=r"price must be a number; got 1 of 2 rows .*'cheap'"):
        check_catalogue(_items(price=["1.0", "cheap"]))
