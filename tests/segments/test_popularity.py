import numpy as np
import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.segments import PopularityWindow, popularity

LOG = pl.DataFrame({"item_index": [0, 2, 2, 3], "timestamp": [0, 86_400, 172_800, 259_200]})


def test_popularity_counts_every_training_row():
    assert popularity(LOG, 5).tolist() == [1, 0, 2, 1, 0]
    assert popularity(LOG, 5).dtype == np.int64


def test_last_two_days_include_the_last_interaction_but_not_one_exactly_two_days_older():
    counts = popularity(LOG, 5, window=PopularityWindow(last_days=2))
    # the window is (259200 - 172800, 259200]: the row at 86,400 lies just outside
    assert counts.tolist() == [0, 0, 1, 1, 0]


def test_window_start_counts_and_window_end_does_not():
    counts = popularity(LOG, 5, window=PopularityWindow(start=86_400, end=172_800))
    assert counts.tolist() == [0, 0, 1, 0, 0]


def test_last_days_can_end_before_the_last_interaction():
    counts = popularity(LOG, 5, window=PopularityWindow(last_days=1, end=172_801))
    assert counts.tolist() == [0, 0, 1, 0, 0]


def test_empty_training_part_counts_zero_for_every_item():
    assert popularity(LOG.clear(), 2, window=PopularityWindow(last_days=1)).tolist() == [0, 0]


def test_item_outside_the_catalogue_is_named_and_counted():
    with pytest.raises(DataError, match=r"item_index must lie in 0\.\.2; got 1 others \(first: 3\)"):
        popularity(LOG, 3)


def test_null_timestamp_is_an_error_only_where_a_window_needs_it():
    log = LOG.with_columns(timestamp=pl.Series([0, None, 1, 2], dtype=pl.Int64))
    assert popularity(log, 4).sum() == 4
    with pytest.raises(DataError, match="timestamp must not be null; got 1 nulls in 4"):
        popularity(log, 4, window=PopularityWindow(last_days=1))


def test_missing_timestamp_column_is_named():
    with pytest.raises(DataError, match="must have the column 'timestamp'"):
        popularity(LOG.drop("timestamp"), 4, window=PopularityWindow(last_days=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "must have last_days, start or end"),
        ({"last_days": -3}, "last_days must be a positive number of days; got -3"),
        ({"last_days": 3, "start": 5}, "start must follow from last_days and end; got start=5"),
        ({"start": 9, "end": 9}, "start must lie before end; got start=9 and end=9"),
    ],
)
def test_impossible_window_names_the_offending_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        PopularityWindow(**arguments)
