"""Requests that end without a list: what the log keeps of them, and what it never costs."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from tailwise.serving import REFUSED, Answer, Assigned, ItemUnknownError, OverloadedError, ServedList
from tailwise.serving._lineup import Lineup
from tailwise.serving._refusals import Refusals
from tailwise.serving._service import Ask, Service, VariantUnknownError

from .http_client import FAST, Client, MemoryLog, member

HOME = Ask("home", 3, history=("a01",))


class ByUser:
    """Assigns users whose name begins with t to the treatment."""

    def assign(self, user_id: str | None, surface: str) -> Assigned:
        is_treated = (user_id or "").startswith("t")
        return Assigned("treatment" if is_treated else "control", "exp", 2, in_experiment=True)


class Counts:
    def __init__(self) -> None:
        self.refused: list[ServedList] = []
        self.n_unlogged = 0

    def count_refusal(self, refused: ServedList) -> None:
        self.refused.append(refused)

    def count_unlogged_refusal(self) -> None:
        self.n_unlogged += 1


def asked(*asks: Ask, log: Any = None, members: Any = None) -> tuple[list[Any], list[ServedList], Counts]:
    """Ask all at once; what was answered or raised, what the log keeps, and the counts."""
    log, counts = log or MemoryLog(), Counts()

    async def ask() -> list[Any]:
        lineup = Lineup(members or {"control": member(1), "treatment": member(2)})
        for each in lineup.members().values():
            await each.engine.start()
        service = Service(lineup, sink=log, live=log, assignment=ByUser(), clock=lambda: 77.0)
        service.refusals.count_in(counts)
        found = await asyncio.gather(*map(service.recommend, asks), return_exceptions=True)
        await lineup.close(1.0)
        await service.refusals.close(1.0)
        return found

    return asyncio.run(ask()), log.lists, counts


def full() -> dict[str, Any]:
    """Models that take one question at a time, and let one wait."""
    settings = replace(FAST, max_batch=1, queue_limit=1)
    return {name: member(n, settings=settings, seconds=0.1) for n, name in ((1, "control"), (2, "treatment"))}


def test_a_request_that_finds_no_place_in_the_queue_is_kept_with_all_that_an_experiment_counts():
    asks = [replace(HOME, user_id=f"t{n}") for n in range(8)]
    found, lists, counts = asked(*asks, members=full())
    refused = {each.user_id: each for each in lists if each.answer.method == REFUSED}
    turned_away = {f"t{n}" for n, each in enumerate(found) if isinstance(each, OverloadedError)}
    assert refused.keys() == turned_away
    assert 0 < len(refused) < 8
    one = next(iter(refused.values()))
    assert one.assigned == Assigned("treatment", "exp", 2, in_experiment=True)
    assert (one.surface, one.served_at, one.model) == ("home", 77.0, "digest-2")
    assert one.answer == Answer((), REFUSED, "overload")
    assert one.latency_ms < 100
    assert len(counts.refused) == len(refused)
    assert counts.n_unlogged == 0


def test_a_failure_of_the_service_and_an_item_that_the_variant_does_not_know_are_told_apart():
    class Odd(MemoryLog):
        async def items(self, user_id: str) -> Any:
            raise RuntimeError("nobody foresaw this")

    similar = Ask("similar", 3, user_id="tom", history=("a01",), item_id="zz")
    found, lists, _ = asked(Ask("home", 3, user_id="ann"), similar, log=Odd())
    assert [type(each) for each in found] == [RuntimeError, ItemUnknownError]
    assert {(each.user_id, each.surface, each.answer.reason) for each in lists} == {
        ("ann", "home", "failed"),
        ("tom", "similar", "item-unknown"),
    }


def test_of_an_answered_request_and_of_a_wrong_one_no_refusal_is_kept():
    found, lists, counts = asked(replace(HOME, user_id="ann"), replace(HOME, user_id="ann", variant="none"))
    assert isinstance(found[1], VariantUnknownError)
    assert [each.answer.method for each in lists] == ["model"]
    assert counts.refused == []


def test_an_anonymous_visitor_who_is_refused_is_counted_and_not_kept():
    found, lists, counts = asked(*[HOME] * 8, members=full())
    n = sum(isinstance(each, OverloadedError) for each in found)
    assert n == len(counts.refused) > 0
    assert all(each.answer.method != REFUSED for each in lists)


def refusal(number: int) -> ServedList:
    answer = Answer((), REFUSED, "overload")
    return ServedList(f"{number:032x}", 1.0, "home", "ann", Assigned("control"), "m", answer, 1.0)


def test_no_more_rows_are_on_their_way_than_the_bound_and_the_rest_is_counted():
    log, counts = MemoryLog(seconds=0.05), Counts()

    async def flood() -> None:
        refusals = Refusals(log, most_pending=3)
        refusals.count_in(counts)
        for number in range(10):
            refusals.keep(refusal(number))
        await refusals.close(5.0)
        refusals.keep(refusal(10))  # there is room again
        await refusals.close(5.0)

    asyncio.run(flood())
    assert [int(each.recommendation_id, 16) for each in log.lists] == [0, 1, 2, 10]
    assert (len(counts.refused), counts.n_unlogged) == (11, 7)


@pytest.mark.parametrize("log", [MemoryLog(is_away=True), MemoryLog(seconds=30.0)])
def test_a_refusal_that_the_log_cannot_keep_is_counted_and_holds_up_nobody(log):
    counts = Counts()

    async def refuse() -> float:
        refusals = Refusals(log)
        refusals.count_in(counts)
        began = time.monotonic()
        refusals.keep(refusal(1))
        took = time.monotonic() - began
        await refusals.close(0.05)
        return took

    assert asyncio.run(refuse()) < 0.05
    assert (log.lists, counts.n_unlogged) == ([], 1)


def test_a_bound_below_one_is_refused():
    with pytest.raises(ValueError, match="most_pending must be >= 1; got 0"):
        Refusals(MemoryLog(), most_pending=0)


def test_refusals_over_http_show_in_metrics_by_variant_with_those_that_the_log_lacks(tmp_path):
    client = Client(tmp_path, full(), log=MemoryLog(is_away=True), service={"assignment": ByUser()})

    async def flood() -> Any:
        bodies = [{"surface": "home", "history": ["a01"], "user_id": f"t{n}"} for n in range(8)]
        return await asyncio.gather(*(client.asking("POST", "/v1/recommendations", b) for b in bodies))

    n = sum(answer.status_code == 429 for answer in client.run(flood()))
    text = client.ask("GET", "/metrics").text
    labels = 'method="refused",reason="overload",surface="home",variant="treatment"'
    assert n > 0
    assert f"tailwise_lists_total{{{labels}}} {n:.1f}" in text
    assert f'tailwise_warnings_total{{kind="refusal-not-logged"}} {n:.1f}' in text
    client.close()
