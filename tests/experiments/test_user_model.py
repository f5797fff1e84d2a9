"""Users fitted on held-out interactions: their tastes come back, and training data are refused."""

import numpy as np
import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.experiments import UserModel, UserModelSettings

ITEMS = pl.DataFrame(
    {
        "item_id": ["r1", "r2", "b1", "b2", "x1"],
        "category": ["red", "red", "blue", "blue", None],
        "price": [10.0, 40.0, 10.0, None, 10.0],
    }
)


def log(rows: list[tuple[str, str]]) -> pl.DataFrame:
    users, items = zip(*rows, strict=True)
    return pl.DataFrame(
        {"user_id": users, "item_id": items, "timestamp": [86_400 * (i + 1) for i in range(len(rows))]}
    )


def tastes(seed: int = 0, n: int = 40) -> pl.DataFrame:
    """Users r* choose red nine times in ten, users b* blue."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(30):
        for user in range(n):
            own, other = ("r", "b") if user % 2 else ("b", "r")
            rows.append((f"{own}{user}", f"{own if rng.random() < 0.9 else other}{1 + rng.integers(2)}"))
    return log(rows)


def test_users_prefer_what_they_chose_and_learn_it_from_the_log_alone():
    model = UserModel.fit(tastes(), ITEMS)
    # Red is nine tenths of the interest, its two items share it, and there are five items: 0.9 / 2 * 5.
    assert model.relevance("r1", "r1") == pytest.approx(2.25, rel=0.2)
    assert model.relevance("r1", "b1") == pytest.approx(0.25, rel=0.5)
    assert model.relevance("r1", "r1") > 5 * model.relevance("b0", "r1")


def test_tastes_that_differ_need_less_of_everybodys_than_tastes_that_do_not():
    rng = np.random.default_rng(0)
    alike = log([(f"u{i % 40}", f"{rng.choice(['r', 'b'])}{1 + rng.integers(2)}") for i in range(1200)])
    assert UserModel.fit(tastes(), ITEMS).smoothing < 10 < UserModel.fit(alike, ITEMS).smoothing


def test_an_unknown_user_has_everybodys_taste_and_the_declared_visits():
    model = UserModel.fit(tastes(), ITEMS, settings=UserModelSettings(visits_per_day=0.3))
    assert model.relevance("nobody", "r1") == pytest.approx(1.25, rel=0.1)  # a half, shared by two of five
    assert model.visit_rate("nobody") == 0.3


def test_visits_are_days_with_an_interaction_over_days():
    model = UserModel.fit(log([("u", "r1"), ("v", "r1"), ("u", "b1"), ("v", "b1"), ("u", "r2")]), ITEMS)
    assert model.visit_rate("u") == 3 / 4  # three of the four days between the first and the last


def test_positions_and_prices_move_the_chances_as_declared():
    settings = UserModelSettings(position_bias=1.0, conversion=0.2, price_elasticity=0.5)
    model = UserModel.fit(tastes(), ITEMS, settings=settings)
    assert model.click_chance("r1", "r1", 4) == pytest.approx(model.click_chance("r1", "r1", 1) / 4)
    assert model.median_price == 10
    assert model.purchase_chance("r2") == pytest.approx(0.2 / 2)  # four times the median, to the power -1/2
    assert model.price("b2") == 10  # unknown: the median


def test_drawn_clicks_come_as_often_as_their_chance():
    model = UserModel.fit(tastes(), ITEMS)
    rng = np.random.default_rng(0)
    n = 4000
    responses = [one for _ in range(n) for one in model.respond("r1", ["b1", "r1"], rng)]
    for position, item in ((1, "b1"), (2, "r1")):
        chance = model.click_chance("r1", item, position)
        clicks = sum(one.position == position for one in responses)
        assert abs(clicks - n * chance) < 5 * np.sqrt(n * chance)  # five standard deviations
    assert all((one.revenue > 0) == one.is_bought for one in responses)


def test_one_seed_draws_one_response():
    model = UserModel.fit(tastes(), ITEMS)
    first, second = (model.respond("r1", ["r1"] * 50, np.random.default_rng(7)) for _ in range(2))
    assert first == second


def test_rows_of_the_training_part_are_refused():
    rows = tastes()
    with pytest.raises(DataError, match=r"nothing of the training part; got 3 rows"):
        UserModel.fit(rows, ITEMS, training=rows[:3])
    assert UserModel.fit(rows[600:], ITEMS, training=rows[:600]).smoothing > 0


def test_items_that_the_catalogue_lacks_are_counted_and_named():
    with pytest.raises(DataError, match=r"2 of 3 interactions name items absent .*first: 'gone'"):
        UserModel.fit(log([("u", "r1"), ("u", "gone"), ("v", "gone")]), ITEMS)


def test_a_chance_beyond_one_is_refused():
    with pytest.raises(ValueError, match=r"click_rate must be a chance in \(0, 1\); got 1.5"):
        UserModelSettings(click_rate=1.5)
