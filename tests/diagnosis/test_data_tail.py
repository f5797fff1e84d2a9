import json

import numpy as np
import polars as pl
import pytest

from tailwise.diagnosis import diagnose_data, fit_power_law, measure_drift, measure_skew, segments_by_column
from tailwise.errors import DataError
from tailwise.segments import popularity, segment_items

N_ITEMS = 200


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    p = 1 / np.arange(1, N_ITEMS + 1)
    return pl.DataFrame(
        {
            "user_index": rng.integers(0, 80, 1_500),
            "item_index": rng.choice(N_ITEMS, 1_500, p=p / p.sum()),
            "timestamp": np.arange(1_500),
        }
    )


@pytest.fixture(scope="module")
def items() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(N_ITEMS)],
            "category": ["a|b" if i % 2 else "a" for i in range(N_ITEMS)],
            "brand": pl.Series([None] * N_ITEMS, dtype=pl.String),
            "seller": [i % 4 for i in range(N_ITEMS)],
        }
    )


def test_the_parts_are_those_that_the_single_functions_give(log, items):
    found = diagnose_data(log, items, columns=["seller"], n_resamples=5, n_shuffles=2, seed=1)
    counts = popularity(log, N_ITEMS)
    assert found.skew == measure_skew(counts)
    assert found.power_law == fit_power_law(counts, n_resamples=5, seed=1)
    assert found.drift == measure_drift(log, N_ITEMS, n_shuffles=2, seed=1)
    (column,) = found.columns
    assert column.table.equals(segments_by_column(items["seller"], segment_items(counts)).table)
    assert found.omitted == {}


def test_columns_without_any_value_are_left_out_unless_asked_for(log, items):
    found = diagnose_data(log, items, n_resamples=0, n_shuffles=0, separators={"category": "|"})
    assert [column.column for column in found.columns] == ["category"]
    assert found.columns[0].table["value"].to_list() == ["a", "b"]
    with pytest.raises(DataError, match="column 'brand'"):
        diagnose_data(log, items, columns=["brand"], n_resamples=0)


def test_what_a_small_log_does_not_allow_is_left_out_with_the_reason(items):
    log = pl.DataFrame({"item_index": [0, 0, 1], "timestamp": [5, 5, 5]})
    found = diagnose_data(log, items)
    assert found.power_law is None
    assert "got 2 items" in found.omitted["power_law"]
    assert found.drift is None
    assert "1 distinct times" in found.omitted["drift"]
    assert found.skew.n_interactions == 3


def test_intervals_over_users_come_on_request(log, items):
    assert diagnose_data(log, items, n_resamples=0).skew.intervals is None
    found = diagnose_data(log, items, n_resamples=0, n_user_resamples=5)
    assert found.skew.intervals.n_resamples == 5


def test_the_object_is_ready_for_json(log, items):
    found = diagnose_data(log, items, n_resamples=3, n_shuffles=1, n_user_resamples=3).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)).keys() == found.keys()
    assert found.keys() == {"skew", "power_law", "drift", "columns", "omitted"}


def test_unknown_columns_are_refused_by_name(log, items):
    with pytest.raises(ValueError, match=r"columns must be among those of items, .*; got 'colour'"):
        diagnose_data(log, items, columns=["colour"])
    with pytest.raises(ValueError, match="got 'genre'"):
        diagnose_data(log, items, separators={"genre": "|"})


def test_an_empty_log_is_refused(items):
    empty = pl.DataFrame(schema={"item_index": pl.Int64, "timestamp": pl.Int64})
    with pytest.raises(DataError, match="got 200 items without an interaction"):
        diagnose_data(empty, items)


def test_missing_times_are_an_error_and_not_an_omission(log, items):
    with pytest.raises(DataError, match="'timestamp'"):
        diagnose_data(log.drop("timestamp"), items, n_resamples=0)
