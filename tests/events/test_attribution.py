"""Which list an event is owed to; worked by hand, against a slow independent version, and in any order."""

import asyncio
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.events import AttributionWindows, Event, EventLog
from tailwise.serving import ServedList
from tests.events.making import DAY, HOUR, NOON, event, list_id, opened, served, stored, using


def owed(url: str, spool: Path, *things: Event | ServedList, **windows: float) -> dict[str, tuple]:
    """Put all into a log; by event id, how it is attributed, to which list, and at which position."""

    async def work(log: EventLog) -> None:
        for thing in things:
            await (log.append([thing]) if isinstance(thing, Event) else log.record(thing))

    using(url, spool, work)
    columns = ("event_id", "attribution", "attributed_id", "position")
    return {row[0]: row[1:] for row in stored(url, **windows).select(columns).rows()}


NONE = ("none", None, None)


def test_an_event_that_names_its_list_is_owed_to_the_slot_however_late(url: str, spool: Path) -> None:
    click = event("e1", item_id="i2", recommendation_id=list_id(1), at=NOON + 300 * DAY)
    assert owed(url, spool, served(1), click) == {"e1": ("named", list_id(1), 2)}


def test_an_attributed_event_carries_what_the_experiment_needs(url: str, spool: Path) -> None:
    owed(url, spool, served(1), event("e1", item_id="i2", recommendation_id=list_id(1)))
    row = stored(url).row(0, named=True)
    expected = {
        "surface": "discovery", "experiment": "discovery-eisam", "variant": "treatment", "stage": 2,
        "in_experiment": True, "model": "sha256:abc", "method": "model", "is_explored": True,
        "position": 2, "segment": "tail", "propensity": 0.25, "shown_at": None,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"recommendation_id": list_id(9)}, "no such list"),
        ({"item_id": "i9"}, "the item is not in it"),
        ({"user_id": "u9"}, "it was another user's"),
    ],
)
def test_a_list_that_is_named_wrongly_earns_nothing(url: str, spool: Path, wrong: dict, why: str) -> None:
    click = event("e1", **({"recommendation_id": list_id(1)} | wrong))
    assert owed(url, spool, served(1), click) == {"e1": NONE}, why


def test_a_list_of_an_anonymous_request_can_be_named_by_whoever_logs_in(url: str, spool: Path) -> None:
    click = event("e1", recommendation_id=list_id(1), user_id="u5")
    assert owed(url, spool, served(1, user_id=None), click) == {"e1": ("named", list_id(1), 1)}


def test_without_a_name_the_latest_impression_within_the_window_counts(url: str, spool: Path) -> None:
    shown = [
        event(f"s{i}", "impression", recommendation_id=list_id(i), at=NOON + i * HOUR) for i in (1, 2, 3)
    ]
    found = owed(
        url, spool, served(1), served(2), served(3), *shown,
        event("before", at=NOON), event("between", at=NOON + 2.5 * HOUR),
        event("at-once", at=NOON + 3 * HOUR),
        event("last-moment", at=NOON + 3 * HOUR + DAY), event("too-late", at=NOON + 3 * HOUR + DAY + 1),
        event("bought", "purchase", at=NOON + 3 * HOUR + 7 * DAY),
        event("carted", "add-to-cart", at=NOON + 3 * HOUR + 7 * DAY + 1),
        event("other-item", item_id="i2", at=NOON + 4 * HOUR),
        event("other-user", user_id="u2", at=NOON + 4 * HOUR),
    )  # fmt: skip
    third = ("window", list_id(3), 1)
    assert {name: found[name] for name in found if not name.startswith("s")} == {
        "before": NONE, "between": ("window", list_id(2), 1), "at-once": third, "last-moment": third,
        "too-late": NONE, "bought": third, "carted": NONE, "other-item": NONE, "other-user": NONE,
    }  # fmt: skip
    assert found["s2"] == ("named", list_id(2), 1)


def test_the_windows_are_those_that_are_asked_for(url: str, spool: Path) -> None:
    things = served(1), event("s", "impression", recommendation_id=list_id(1)), event("e1", at=NOON + HOUR)
    assert owed(url, spool, *things, click_s=HOUR)["e1"] == ("window", list_id(1), 1)
    assert owed(url, spool, click_s=HOUR - 1)["e1"] == NONE
    with pytest.raises(ValueError, match="click_s must be >= 0; got -1"):
        AttributionWindows(click_s=-1)


def test_an_impression_that_names_its_list_wrongly_does_not_hide_an_earlier_one(
    url: str, spool: Path
) -> None:
    found = owed(
        url, spool, served(1), served(2, "i8 i9"), served(3, user_id="u3"),
        event("s1", "impression", recommendation_id=list_id(1)),
        event("s2", "impression", recommendation_id=list_id(2), at=NOON + 1),
        event("s3", "impression", recommendation_id=list_id(3), at=NOON + 2),
        event("s4", "impression", recommendation_id=list_id(4), at=NOON + 3),
        event("s5", "impression", at=NOON + 4),
        event("e1", at=NOON + 5),
    )  # fmt: skip
    assert found["e1"] == ("window", list_id(1), 1)


def test_an_impression_that_arrives_after_the_click_changes_the_result_alone(url: str, spool: Path) -> None:
    click = event("e1", at=NOON + HOUR)
    assert owed(url, spool, served(1), click)["e1"] == NONE
    before = stored(url).filter(event_id="e1").select("seq", "event_id", "occurred_at", "received_at").rows()
    late = event("s1", "impression", recommendation_id=list_id(1))
    assert owed(url, spool, late)["e1"] == ("window", list_id(1), 1)
    after = stored(url).filter(event_id="e1").select("seq", "event_id", "occurred_at", "received_at").rows()
    assert after == before


# Any order, any repetition.

MOMENTS = [NOON + hours * HOUR for hours in (0, 1, 1, 1, 2, 30)]


def world(seed: int) -> tuple[list[Event], list[ServedList]]:
    """Events and lists of two users and two items, crowded so that most rules meet."""
    rng = random.Random(seed)
    answered = [
        served(number, rng.choice(["i1", "i1 i2", "i2 i1"]), at=rng.choice(MOMENTS),
               user_id=rng.choice([None, None, "u1", "u2"]))
        for number in range(1, 5)
    ]  # fmt: skip
    logged = [
        event(f"e{number}", rng.choice(["impression"] * 3 + ["click", "add-to-cart", "purchase"]),
              user_id=rng.choice(["u1", "u1", "u2"]), item_id=rng.choice(["i1", "i1", "i2"]),
              at=rng.choice(MOMENTS), received_at=NOON, recommendation_id=rng.choice(NAMED))
        for number in rng.sample(range(100), 24)
    ]  # fmt: skip
    return logged, answered


NAMED = [None, None, *(list_id(number) for number in range(1, 6))]  # the last was never answered


def by_hand(logged: list[Event], answered: list[ServedList]) -> dict[str, tuple]:
    """The rule as it is written, with loops."""
    windows = {"click": DAY, "add-to-cart": 7 * DAY, "purchase": 7 * DAY}

    def slot(of: Event, number: str | None) -> tuple | None:
        for one in answered:
            if one.recommendation_id == number and one.user_id in (None, of.user_id):
                for place in one.answer.slots:
                    if place.item_id == of.item_id:
                        return number, place.position
        return None

    found: dict[str, tuple] = {}
    for each in logged:
        found[each.event_id] = NONE
        if (named := slot(each, each.recommendation_id)) is not None:
            found[each.event_id] = ("named", *named)
        elif each.type != "impression":
            shown = [
                (one.occurred_at, one.event_id, slot(one, one.recommendation_id))
                for one in logged
                if one.type == "impression" and (one.user_id, one.item_id) == (each.user_id, each.item_id)
                and 0 <= each.occurred_at - one.occurred_at <= windows[each.type]
                and slot(one, one.recommendation_id) is not None
            ]  # fmt: skip
            if shown:
                found[each.event_id] = ("window", *max(shown)[2])
    return found


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.data())
def test_any_order_and_repetition_give_the_same_log_and_the_rule_as_written(
    seed: int, data: st.DataObject
) -> None:
    logged, answered = world(seed)
    things: list[Any] = [*logged, *answered]
    again = data.draw(st.lists(st.sampled_from(things)))
    repeated = data.draw(st.permutations(things + again))
    folder = Path(tempfile.mkdtemp())
    url = f"sqlite:///{folder}/events.db"

    async def work() -> None:
        async with opened(url, folder / "spool") as log:
            tasks = [log.append([t]) if isinstance(t, Event) else log.record(t) for t in repeated]
            await asyncio.gather(*tasks)

    try:
        asyncio.run(work())
        table = stored(url)
    finally:
        shutil.rmtree(folder)
    found = {
        row["event_id"]: NONE if row["attribution"] == "none" else tuple(row[name] for name in ANSWER)
        for row in table.iter_rows(named=True)
    }
    assert found == by_hand(logged, answered)
    assert len(table) == len(logged)


ANSWER = ("attribution", "attributed_id", "position")


def test_pages_that_cut_through_equal_moments_lose_no_event(
    url: str, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailwise.events._frames_out.EVENTS_AT_ONCE", 3)
    things = [event(f"e{i:02d}", at=NOON + (i // 5)) for i in range(20)]
    shown = event("s", "impression", recommendation_id=list_id(1), at=NOON)
    found = owed(url, spool, served(1), shown, *things)
    assert found == {"s": ("named", list_id(1), 1)} | {
        f"e{i:02d}": ("window", list_id(1), 1) for i in range(20)
    }
