import numpy as np
import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.experiments import METRICS, describe_catalogue, describe_groups

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "segment": ["head", "tail", "tail", "cold"],
        "brand": ["X", "X", "Y", None],
    }
)
OUTCOMES = pl.DataFrame(
    {
        "user_id": ["c1", "t1", "t2", "t3"],
        "variant": ["control", "treatment", "treatment", "treatment"],
        "stage": [0, 0, 0, 1],
        "exposed_at": [0.0, 0.0, 10.0, 20.0],
        "window_closes_at": [100.0, 100.0, 110.0, 120.0],
    }
)


def log(*rows: tuple[str, str, str, float]) -> pl.DataFrame:
    table = pl.DataFrame(rows, schema=["type", "user_id", "item_id", "occurred_at"], orient="row")
    return table.with_columns(event_id=pl.int_range(pl.len()).cast(pl.String))


def test_distinct_items_are_counted_over_equally_many_users():
    events = log(
        ("impression", "c1", "a", 1.0),
        ("impression", "t1", "a", 1.0),
        ("impression", "t1", "b", 2.0),
        ("impression", "t2", "c", 11.0),  # the second treated user of the stage has no counterpart
        ("impression", "t3", "d", 21.0),  # nor has the only one of another stage
        ("purchase", "t1", "b", 3.0),
        ("purchase", "c1", "a", 3.0),
        ("purchase", "c1", "c", 100.0),  # after the window
    )
    coverage, sell_through, brands = describe_catalogue(events, OUTCOMES, ITEMS)
    assert (coverage.control, coverage.treatment, coverage.of, coverage.n_users) == (1, 2, 4, 1)
    assert (sell_through.control, sell_through.treatment, sell_through.of) == (0, 1, 2)
    assert (brands.control, brands.treatment, brands.of) == (1, 1, 2)
    assert brands.metric is METRICS["brands_with_a_sale"]


def test_a_catalogue_without_brands_has_no_count_of_them():
    events = log(("impression", "c1", "a", 1.0))
    assert len(describe_catalogue(events, OUTCOMES, ITEMS.drop("brand"))) == 2


def test_an_item_that_is_there_twice_is_refused():
    with pytest.raises(DataError, match="item_id of the catalogue must be unique"):
        describe_catalogue(log(("impression", "c1", "a", 1.0)), OUTCOMES, pl.concat([ITEMS, ITEMS]))


def test_new_and_returning_users_are_described_apart():
    n = 1200
    rng = np.random.default_rng(0)
    returning = np.arange(n) % 3 == 0
    shown = rng.poisson(10, n) + 1
    variant = rng.choice(["control", "treatment"], n)
    rate = np.where(returning & (variant == "treatment"), 0.5, 0.2)
    table = pl.DataFrame(
        {
            "user_id": [str(i) for i in range(n)],
            "variant": variant,
            "stage": 0,
            "exposed_at": np.arange(n),
            "is_returning": returning,
            "tail_impressions": shown,
            "tail_clicks": rng.binomial(shown, rate),
        }
    )
    groups = describe_groups(table, (METRICS["tail_ctr"],))
    assert {name: effects.n_users for name, effects in groups.items()} == {
        "all": 1200,
        "new": 800,
        "returning": 400,
    }
    effect = {name: effects["tail_ctr"].fixed for name, effects in groups.items()}
    assert effect["returning"] is not None
    assert effect["new"] is not None
    assert effect["returning"].difference == pytest.approx(0.3, abs=0.05)
    assert not effect["new"].interval.excludes(0.0)
    with pytest.raises(DataError, match="is_returning"):
        describe_groups(table.drop("is_returning"))
