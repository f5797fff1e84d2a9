"""A model that is told to fail or to be slow does so, as often and as much as was said."""

import asyncio
import time
from dataclasses import replace

import pytest

from tailwise.errors import ConfigError
from tailwise.serving import Engine, Lineup, Member, Query, Service, ServiceSettings
from tailwise.serving._drill import Drill, DrillError
from tailwise.serving._service import Ask

from .http_client import FAST, MemoryLog, member, model

KNOWN = Query(3, history=("a01",))


@pytest.mark.parametrize(
    ("text", "drill"),
    [
        ("fail:0.2", Drill(fail_share=0.2)),
        ("slow:400ms", Drill(slow_ms=400)),
        ("fail:0.1,slow:0.3s", Drill(0.1, 300)),
        ("slow:300ms, fail:1", Drill(1.0, 300)),
    ],
)
def test_a_drill_is_read_as_it_is_written_and_written_as_it_is_read(text, drill):
    assert Drill.parse(text) == drill
    assert Drill.parse(str(drill)) == drill


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"drill must be fail:SHARE or slow:TIME; got ''.*Write fail:0.2"),
        ("crash:0.2", "must be fail:SHARE or slow:TIME; got 'crash:0.2'"),
        ("fail:often", "must be fail:SHARE or slow:TIME; got 'fail:often'"),
        ("fail:nan", "must be fail:SHARE or slow:TIME; got 'fail:nan'"),
        ("fail:1.2", r"fail must be a share in \(0, 1\]; got 1.2"),
        ("fail:20", r"fail must be a share in \(0, 1\]; got 20"),
        ("fail:0", "fail must be > 0; got '0'"),
        ("slow:400", "must be fail:SHARE or slow:TIME; got 'slow:400'"),
        ("slow:-1s", "must be fail:SHARE or slow:TIME; got 'slow:-1s'"),
        ("slow:61s", "slow must be a time up to 60 s; got 61000 ms"),
        ("fail:0.1,fail:0.2", "must name 'fail' once; got 'fail:0.1,fail:0.2'"),
    ],
)
def test_what_is_no_drill_is_refused_with_what_to_write(text, message):
    with pytest.raises(ConfigError, match=message):
        Drill.parse(text)


def test_rankings_fail_by_the_share_that_was_said():
    drill, n_failed = Drill(fail_share=0.2), 0
    for _ in range(4000):
        try:
            drill.fail_by_chance()
        except DrillError:
            n_failed += 1
    assert abs(n_failed / 4000 - 0.2) < 0.032  # five standard errors


def ranked(drill: Drill | None, *queries: Query, timeout_s: float = 5.0):
    async def ask():
        engine = Engine(model(), FAST, drill=drill)
        await engine.start()
        began = time.monotonic()
        try:
            answers = await asyncio.gather(*(engine.rank(query, timeout_s) for query in queries))
            return answers, time.monotonic() - began
        finally:
            await engine.close(2.0)

    return asyncio.run(ask())


def test_a_model_that_fails_is_answered_for_by_the_most_popular_items():
    (answer,), _ = ranked(Drill(fail_share=1.0), KNOWN)
    assert (answer.method, answer.reason) == ("most-popular", "model-error")
    (answer,), _ = ranked(None, KNOWN)
    assert (answer.method, answer.reason) == ("model", None)


def test_a_model_that_is_slow_takes_that_much_longer_and_meets_its_time_limit():
    (answer,), took = ranked(Drill(slow_ms=150), KNOWN)
    assert (answer.method, took >= 0.15) == ("model", True)
    (answer,), took = ranked(Drill(slow_ms=400), KNOWN, timeout_s=0.05)
    assert (answer.method, answer.reason) == ("most-popular", "time-limit")


def test_who_has_no_history_is_not_ranked_and_so_not_failed():
    (answer,), took = ranked(Drill(1.0, 1000.0), Query(3))
    assert (answer.reason, took < 0.5) == ("no-history", True)


def test_lists_of_a_drilled_model_say_so_in_the_log_and_others_do_not():
    log = MemoryLog()

    async def ask():
        drilled = Member(Engine(model(2), FAST, drill=Drill(0.5, 1.0)), "run/2")
        lineup = Lineup({"control": member(1), "treatment": drilled})
        for each in lineup.members().values():
            await each.engine.start()
        service = Service(lineup, sink=log, settings=ServiceSettings())
        one = Ask("home", 3, history=("a01",), variant="control")
        for variant in ("control", "treatment"):
            await service.recommend(replace(one, variant=variant))
        await lineup.close(1.0)

    asyncio.run(ask())
    assert [dict(each.context) for each in log.lists] == [{}, {"drill": "fail:0.5,slow:1ms"}]
