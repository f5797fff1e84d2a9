"""An export of the event log as a log of slots with rewards."""

import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.events import LogReader
from tailwise.experiments.ope import check_logged_lists, exported_slots

from ..events.making import event, list_id, served, using

SLOTS = pl.DataFrame(
    {
        "recommendation_id": ["a", "a", "b", "b", "c", "d"],
        "user_id": ["u", "u", "v", "v", "u", "w"],
        "surface": ["home"] * 5 + ["similar"],
        "method": ["model"] * 4 + ["most-popular", "model"],
        "is_explored": [True, True, False, False, False, False],
        "temperature": [1.0, 1.0, None, None, None, None],
        "n_candidates": [100, 100, None, None, None, None],
        "position": [1, 2, 1, 2, 1, 1],
        "item_id": ["x", "y", "x", "z", "x", "x"],
        "propensity": [0.5, 0.25, 1.0, 1.0, 1.0, 1.0],
        "score": [0.0] * 6,
    }
)
EVENTS = pl.DataFrame(
    {
        "type": ["click", "click", "purchase", "purchase", "click", "impression", "click"],
        "attributed_id": ["a", "a", "a", "a", "b", "b", None],
        "item_id": ["x", "x", "y", "y", "z", "x", "x"],
        "revenue": [None, None, 10.0, 2.5, None, None, None],
        "currency": [None, None, "EUR", "EUR", None, None, None],
    }
)


@pytest.fixture
def folder(tmp_path):
    def write(events=EVENTS, slots=SLOTS):
        for kind, table in (("slots", slots), ("events", events)):
            for day, rows in ((1, table.head(3)), (2, table.tail(-3))):
                path = tmp_path / kind / f"day=2026-01-0{day}" / f"{kind}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                rows.write_parquet(path)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("reward", "expected"),
    [("clicks", [1, 0, 0, 1]), ("purchases", [0, 1, 0, 0]), ("revenue", [0, 12.5, 0, 0])],
)
def test_every_model_slot_of_an_explored_surface_has_what_it_earned(folder, reward, expected):
    table = exported_slots(folder(), reward)
    assert table["recommendation_id"].to_list() == ["a", "a", "b", "b"]  # no fallback, no similar items
    assert table[reward].to_list() == expected
    log = check_logged_lists(table, columns={"reward": reward})
    assert log.checks.n_deterministic_lists == 1


def test_revenue_in_two_currencies_is_not_added_up(folder):
    mixed = EVENTS.with_columns(currency=pl.Series([None, None, "EUR", "JPY", None, None, None]))
    with pytest.raises(DataError, match="revenue must be in one currency to be added up; got EUR, JPY"):
        exported_slots(folder(mixed), "revenue")


def test_a_log_without_exploration_is_refused_as_one(folder):
    table = exported_slots(folder(slots=SLOTS.with_columns(is_explored=pl.lit(False))), "clicks")
    with pytest.raises(DataError, match="Turn on exploration"):
        check_logged_lists(table, columns={"reward": "clicks"})


def test_another_folder_and_another_reward_are_refused(tmp_path, folder):
    with pytest.raises(DataError, match="folder must be an export of the event log"):
        exported_slots(tmp_path / "nothing", "clicks")
    with pytest.raises(ValueError, match="reward must be one of clicks, purchases, revenue; got 'likes'"):
        exported_slots(folder(), "likes")


def test_what_the_event_log_itself_exports_is_read(tmp_path):
    url = f"sqlite:///{tmp_path / 'log.db'}"

    async def fill(log):
        for number, user in ((1, "u1"), (2, "u2")):
            await log.record(served(number, user_id=user))
        await log.append(
            [event("c1", recommendation_id=list_id(1)), event("c2", recommendation_id=list_id(1))]
        )
        await log.append(
            [
                event(
                    "p1",
                    "purchase",
                    user_id="u2",
                    item_id="i2",
                    recommendation_id=list_id(2),
                    revenue=2.5,
                    currency="EUR",
                )
            ]
        )

    using(url, tmp_path / "spool", fill)
    reader = LogReader(url)
    reader.export(tmp_path / "out")
    reader.close()
    for reward, expected in (("clicks", [1, 0, 0, 0]), ("revenue", [0, 0, 0, 2.5])):
        log = check_logged_lists(exported_slots(tmp_path / "out", reward), columns={"reward": reward})
        assert log.reward.tolist() == expected
    assert log.propensity.tolist() == [0.5, 0.25] * 2
    assert log.lists.select("user_id", "temperature", "n_candidates").rows() == [
        ("u1", 0.7, 9),
        ("u2", 0.7, 9),
    ]
