"""Queries in, lists out: the same alone and in a crowd, and something to show whatever happens."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import ConfigError, DataError
from tailwise.recommenders import MostPopular, top_items
from tailwise.serving import (
    EngineClosedError,
    EngineSettings,
    Filters,
    OverloadedError,
    Query,
    ServedCatalogue,
    ServedModel,
)
from tests.serving.engines import (
    COUNTS,
    IDS,
    KINDS,
    MAX_LENGTH,
    N_ITEMS,
    NOBODY,
    PRICES,
    Scripted,
    catalogue,
    engine,
    sasrec,
)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(30):
            return await work

    return asyncio.run(bounded())


def ids_of(answer) -> list[str]:
    return [slot.item_id for slot in answer.slots]


def random_queries(n: int, seed: int = 0) -> list[Query]:
    rng = np.random.default_rng(seed)
    return [
        Query(
            int(rng.integers(1, 12)),
            tuple(IDS[i] for i in rng.integers(0, N_ITEMS, rng.integers(1, 2 * MAX_LENGTH))),
            user_id=f"u{rng.integers(0, 30)}",
            exclude=frozenset(IDS[i] for i in rng.integers(0, N_ITEMS, 3)),
        )
        for _ in range(n)
    ]


def test_a_hundred_queries_at_once_are_answered_as_one_after_the_other():
    queries = random_queries(100)

    async def both() -> None:
        alone, crowd = engine(sasrec()), engine(sasrec())
        await alone.start()
        await crowd.start()
        expected = [await alone.rank(query, 10) for query in queries]
        got = await asyncio.gather(*(crowd.rank(query, 10) for query in queries))
        assert crowd.state().n_batches < 100  # they did go together
        for one, other in zip(expected, got, strict=True):
            assert ids_of(one) == ids_of(other)
            # Other batch sizes choose other kernels: units in the last place.
            scores = [[slot.score for slot in answer.slots] for answer in (one, other)]
            np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-4)
        await alone.close()
        await crowd.close()

    run(both())


def test_lists_are_those_of_the_recommender_itself():
    queries = [replace(query, exclude=frozenset()) for query in random_queries(10, seed=1)]

    async def ask() -> list[list[str]]:
        served = engine(sasrec())
        await served.start()
        answers = [await served.rank(query, 10) for query in queries]
        await served.close()
        return [ids_of(answer) for answer in answers]

    for query, got in zip(queries, run(ask()), strict=True):
        items, _ = top_items(sasrec(), [[IDS.index(i) for i in query.history]], query.k)
        assert got == [IDS[i] for i in items[0].tolist()]


def test_a_returning_user_pays_for_what_is_new():
    async def visit() -> list[int]:
        served = engine(sasrec())
        await served.start()
        read = []
        for n in (5, 5, 8, 8, 9):
            await served.rank(Query(3, tuple(IDS[:n]), user_id="u"), 10)
            read.append(served.state().n_items_read)
        assert served.state().cache == {"unchanged": 2, "grown": 2, "anew": 1}
        await served.close()
        return read

    assert run(visit()) == [5, 5, 8, 8, 9]


def test_an_anonymous_history_leaves_nothing_behind():
    async def visit() -> None:
        served = engine(sasrec())
        await served.start()
        await served.rank(Query(3, tuple(IDS[:5])), 10)
        assert served.state().n_queries_kept == served.state().state_bytes == 0
        await served.close()

    run(visit())


def test_a_forgotten_user_is_read_anew_and_others_are_not():
    async def visit() -> None:
        served = engine(sasrec())
        await served.start()
        for user in ("u", "v"):
            await served.rank(Query(3, tuple(IDS[:5]), user_id=user), 10)
        await served.forget(["u", "nobody"])
        assert await served.kept_users() == ["v"]
        for user in ("u", "v"):
            await served.rank(Query(3, tuple(IDS[:5]), user_id=user), 10)
        assert served.state().cache == {"unchanged": 1, "grown": 0, "anew": 3}
        await served.close()
        await served.forget(["v"])
        assert await served.kept_users() == []

    run(visit())


def test_an_engine_that_keeps_nothing_of_users_has_nothing_to_forget():
    async def visit() -> None:
        served = engine(Scripted())
        await served.start()
        await served.rank(Query(3, tuple(IDS[:5]), user_id="u"), 10)
        await served.forget(["u"])
        assert await served.kept_users() == []
        await served.close()

    run(visit())


@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "int8+float32"])
def test_short_item_vectors_find_nearly_the_same_items(dtype):
    queries = [replace(query, k=10) for query in random_queries(30, seed=2)]

    async def lists(item_dtype: str) -> list[list[str]]:
        served = engine(sasrec(), item_dtype=item_dtype)
        await served.start()
        answers = [await served.rank(query, 10) for query in queries]
        await served.close()
        return [ids_of(answer) for answer in answers]

    full, short = run(lists("float32")), run(lists(dtype))
    shared = np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(full, short, strict=True)])
    assert shared > 0.97


filters = st.builds(
    Filters,
    categories=st.frozensets(st.sampled_from(["red", "blue", "green"]), max_size=2),
    brands=st.frozensets(st.sampled_from(["b0", "b1", "b2"]), max_size=2),
    min_price=st.none() | st.floats(0, 20),
    max_price=st.none() | st.floats(15, 45),
    in_stock=st.booleans(),
)
item = st.sampled_from([*IDS, "unknown"])
queries = st.builds(
    Query,
    k=st.integers(1, N_ITEMS + 5),
    history=st.lists(item, max_size=15).map(tuple),
    user_id=st.none() | st.sampled_from(["ann", "bob"]),
    exclude=st.frozensets(item, max_size=6),
    exclude_seen=st.booleans(),
    filters=filters,
    explore=st.booleans(),
    seed=st.integers(0, 5),
)


def may_be_listed(query: Query) -> set[str]:
    """By the definitions of Filters and Query, item by item."""
    allowed = set()
    for i, item_id in enumerate(IDS):
        f, price = query.filters, PRICES[i]
        holds = (
            (not f.categories or KINDS[i] in f.categories)
            and (not f.brands or f"b{i % 4}" in f.brands)
            and (f.min_price is None or (price is not None and price >= f.min_price))
            and (f.max_price is None or (price is not None and price <= f.max_price))
            and (not f.in_stock or i % 7 != 0)
            and item_id not in query.exclude
            and not (query.exclude_seen and item_id in query.history)
        )
        if holds:
            allowed.add(item_id)
    return allowed


@settings(max_examples=25)
@given(st.lists(queries, min_size=1, max_size=6), st.sampled_from(["float32", "int8"]))
def test_no_list_holds_what_may_not_be_listed_and_every_list_is_as_long_as_it_can_be(asked, dtype):
    async def ask() -> list[Any]:
        served = engine(sasrec(), item_dtype=dtype, n_candidates=10)
        await served.start()
        ranked = await asyncio.gather(*(served.rank(query, 10) for query in asked))
        alike = await asyncio.gather(*(served.similar("i3", query) for query in asked))
        popular = [served.most_popular(query) for query in asked]
        await served.close()
        return [*zip(asked, ranked, alike, popular, strict=True)]

    for query, ranked, alike, popular in run(ask()):
        allowed = may_be_listed(query)
        for answer, own in ((ranked, allowed), (alike, allowed - {"i3"}), (popular, allowed)):
            got = ids_of(answer)
            assert set(got) <= own
            assert len(got) == len(set(got)) == min(query.k, len(own))
            assert [slot.position for slot in answer.slots] == list(range(1, len(got) + 1))
        assert ranked.unknown_items == tuple(i for i in query.history if i == "unknown")
        knows = any(i != "unknown" for i in query.history)
        assert (ranked.method, ranked.reason) == (
            ("model", None) if knows else ("most-popular", "no-history")
        )
        assert ranked.is_explored == (knows and query.explore)
        assert not alike.is_explored


def test_most_popular_lists_go_by_count_and_then_by_index():
    order = sorted(range(N_ITEMS), key=lambda i: (-COUNTS[i], i))
    answer = engine(sasrec()).most_popular(Query(N_ITEMS))
    assert ids_of(answer) == [IDS[i] for i in order]
    assert [slot.score for slot in answer.slots] == [float(COUNTS[i]) for i in order]
    assert answer.slots[-1].segment == "cold"
    assert (answer.method, answer.reason) == ("most-popular", None)


def test_a_full_queue_refuses_with_a_time_to_come_back():
    scripted = Scripted()

    async def crowd() -> None:
        served = engine(scripted, queue_limit=2, max_batch=1)
        await served.start()
        scripted.entered.clear()
        scripted.gate.clear()
        first = asyncio.create_task(served.rank(Query(1, ("i1",)), 10))
        await asyncio.to_thread(scripted.entered.wait, 10)  # it is with the model: nothing waits
        waiting = [asyncio.create_task(served.rank(Query(1, ("i2",)), 10)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="must be at most 2") as refused:
            await served.rank(Query(1, ("i3",)), 10)
        assert refused.value.retry_after_s > 0
        assert served.state().n_waiting == 2
        scripted.gate.set()
        assert [ids_of(a) for a in await asyncio.gather(first, *waiting)] == [["i2"], ["i3"], ["i3"]]
        assert served.state().n_refused == 1
        await served.close()

    run(crowd())


def test_what_takes_too_long_is_answered_by_the_most_popular_and_says_so():
    scripted = Scripted()

    async def slow() -> None:
        served = engine(scripted, queue_limit=1)
        await served.start()
        scripted.gate.clear()
        for _ in range(3):  # those whose time is up leave the queue, or the third would be refused
            answer = await served.rank(Query(3, ("i1",)), 0.02)
            assert (answer.method, answer.reason) == ("most-popular", "time-limit")
            assert "i1" not in ids_of(answer)
            assert len(answer.slots) == 3
        scripted.gate.set()
        assert (await served.rank(Query(1, ("i1",)), 10)).method == "model"
        assert served.state().fallbacks == {"time-limit": 3}
        await served.close()

    run(slow())


def test_nobody_computes_for_an_asker_who_has_gone():
    scripted = Scripted()

    async def leave() -> None:
        served = engine(scripted, max_batch=1)
        await served.start()
        scripted.entered.clear()
        scripted.gate.clear()
        first = asyncio.create_task(served.rank(Query(1, ("i1",)), 10))
        await asyncio.to_thread(scripted.entered.wait, 10)
        gone = asyncio.create_task(served.rank(Query(1, ("i20",)), 10))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        scripted.gate.set()
        await first
        await served.rank(Query(1, ("i2",)), 10)
        assert [20] not in [history for batch in scripted.batches for history in batch]
        assert served.state().n_skipped == 1
        await served.close()

    run(leave())


def test_a_poisonous_query_fails_alone(caplog):
    scripted = Scripted(poison=13)

    async def crowd() -> None:
        served = engine(scripted, max_batch=8)
        await served.start()
        scripted.entered.clear()
        scripted.gate.clear()
        first = asyncio.create_task(served.rank(Query(1, ("i0",)), 10))
        await asyncio.to_thread(scripted.entered.wait, 10)
        rest = [asyncio.create_task(served.rank(Query(1, (f"i{i}",)), 10)) for i in (5, 13, 7)]
        await asyncio.sleep(0)
        scripted.gate.set()
        _, five, poisoned, seven = await asyncio.gather(first, *rest)
        assert [[5], [13], [7]] in scripted.batches  # they were in one batch
        assert (ids_of(five), ids_of(seven)) == (["i6"], ["i8"])
        assert (five.reason, seven.reason) == (None, None)
        assert (poisoned.method, poisoned.reason) == ("most-popular", "model-error")
        assert len(poisoned.slots) == 1
        await served.close()

    run(crowd())
    assert "failed at a request" in caplog.text
    assert "i13" not in caplog.text  # nothing of a user in the log


def test_scores_that_are_no_numbers_are_a_model_error():
    class Diverged(Scripted):
        def scores(self, histories):
            return torch.full((len(histories), N_ITEMS), torch.nan)

    async def ask() -> Any:
        served = engine(sasrec())
        with pytest.raises(DataError, match="NaN"):
            await engine(Diverged()).start()
        await served.close()

    run(ask())


def test_closing_answers_what_waits_and_takes_nothing_more():
    async def drain() -> None:
        served = engine(sasrec(), max_batch=4)
        await served.start()
        tasks = [asyncio.create_task(served.rank(query, 10)) for query in random_queries(50, seed=3)]
        await asyncio.sleep(0)
        await served.close(10)
        answers = await asyncio.gather(*tasks)
        assert {answer.method for answer in answers} == {"model"}
        with pytest.raises(EngineClosedError) as closed:
            await served.rank(Query(1, ("i1",)), 10)
        assert closed.value.retry_after_s > 0

    run(drain())


def test_closing_in_a_hurry_leaves_the_rest_to_the_most_popular():
    scripted = Scripted()

    async def hurry() -> None:
        served = engine(scripted, max_batch=1)
        await served.start()
        scripted.entered.clear()
        scripted.gate.clear()
        tasks = [asyncio.create_task(served.rank(Query(2, ("i1",)), 10)) for _ in range(3)]
        await asyncio.to_thread(scripted.entered.wait, 10)
        await served.close(0.01)
        assert {(await task).reason for task in tasks[1:]} == {"time-limit"}
        scripted.gate.set()
        assert (await tasks[0]).reason is None

    run(hurry())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int8+float32"])
def test_similar_items_are_the_nearest_by_cosine_whatever_their_lengths(dtype):
    vectors = sasrec().item_vectors().detach().clone()
    vectors[9] = 3 * vectors[4]  # the same direction, another length
    recommender = sasrec()
    with torch.no_grad():
        recommender.item_vectors.residual.weight.copy_(vectors)

    async def ask() -> Any:
        served = engine(recommender, item_dtype=dtype)
        await served.start()
        answer = await served.similar("i4", Query(N_ITEMS, ("i30",)))
        await served.close()
        return answer

    answer = run(ask())
    cosines = torch.nn.functional.cosine_similarity(vectors, vectors[4][None])
    expected = [IDS[i] for i in cosines.argsort(descending=True).tolist() if i not in (4, 30)]
    assert ids_of(answer)[0] == "i9"
    if dtype.endswith("float32"):
        assert ids_of(answer) == expected
    assert len(answer.slots) == N_ITEMS - 2
    # Sums of float32; entries of three digits, or of 255 steps, in both vectors.
    tolerance = {"bfloat16": 0.01, "int8": 0.02}.get(dtype, 1e-5)
    for slot in answer.slots:
        assert slot.score == pytest.approx(float(cosines[IDS.index(slot.item_id)]), abs=tolerance)
    assert answer.method == "item-vectors"


def test_items_without_vectors_are_similar_by_what_the_model_says_after_them():
    async def ask() -> Any:
        served = engine(Scripted())
        await served.start()
        answer = await served.similar("i4", Query(2))
        with pytest.raises(ValueError, match="item_id must be in the catalogue; got 'zz'"):
            await served.similar("zz", Query(2))
        await served.close()
        return answer

    answer = run(ask())
    assert (ids_of(answer), answer.method) == (["i5", "i6"], "model")


def test_an_explored_list_is_decided_by_its_seed_and_keeps_to_the_candidates():
    query = Query(4, ("i1", "i2"), explore=True, seed=3)

    async def ask() -> list[Any]:
        served = engine(sasrec(), n_candidates=8, temperature=5.0)
        await served.start()
        asked = [query, query, replace(query, seed=4), replace(query, explore=False, k=8)]
        answers = [await served.rank(one, 10) for one in asked]
        await served.close()
        return answers

    one, same, other, best = run(ask())
    assert one == same
    assert ids_of(one) != ids_of(other)
    assert set(ids_of(one)) | set(ids_of(other)) <= set(ids_of(best))
    assert (one.temperature, one.n_candidates, best.temperature) == (5.0, 8, None)
    assert all(0 < slot.propensity < 1 for slot in one.slots)
    assert {slot.propensity for slot in best.slots} == {1.0}


def test_a_last_bit_that_reorders_the_best_does_not_change_what_is_drawn():
    class NearlyTied(Scripted):
        def __init__(self, sign: float) -> None:
            super().__init__()
            self.sign = sign

        def scores(self, histories):
            return self.sign * 1e-6 * torch.arange(N_ITEMS).float().expand(len(histories), -1)

    async def drawn(sign: float) -> list[str]:
        served = engine(NearlyTied(sign))
        await served.start()
        answer = await served.rank(Query(10, ("i1",), explore=True, seed=5), 10)
        await served.close()
        return ids_of(answer)

    assert run(drawn(1.0)) == run(drawn(-1.0))


def test_the_model_s_own_temperature_goes_before_the_engine_s():
    from tailwise.serving import Engine

    model = ServedModel("t", "d", MostPopular(COUNTS), catalogue(), NOBODY, temperature=0.25)

    async def ask() -> Any:
        served = Engine(model, EngineSettings(warm_up=False, temperature=9.0))
        await served.start()
        answer = await served.rank(Query(2, ("i1",), explore=True), 10)
        await served.close()
        return answer

    assert run(ask()).temperature == 0.25


def test_new_prices_are_obeyed_from_the_next_query_on():
    query = Query(N_ITEMS, ("i1",), filters=Filters(max_price=5.0))

    async def swap() -> None:
        served = engine(sasrec())
        await served.start()
        assert "i30" not in ids_of(await served.rank(query, 10))
        prices = pl.DataFrame({"item_id": ["i30", "i2"], "price": [1.0, 99.0]})
        served.replace_catalogue(served.model.catalogue.with_properties(prices))
        after = ids_of(await served.rank(query, 10))
        assert "i30" in after
        assert "i2" not in after
        with pytest.raises(DataError, match="must hold the items of model 'control'"):
            served.replace_catalogue(ServedCatalogue(["a"], ["A"], [1], ["head"]))
        await served.close()

    run(swap())


def test_a_warm_engine_has_answered_batches_of_all_sizes_and_remembers_nobody():
    scripted = Scripted()

    async def start() -> None:
        served = engine(scripted, warm_up=True, max_batch=6)
        await served.start()
        vectors = engine(sasrec(), warm_up=True, max_batch=6)
        await vectors.start()
        state = vectors.state()
        assert (state.n_queries_kept, state.n_readings_kept) == (0, 0)
        assert (state.state_bytes, state.n_items_read) == (0, 0)
        await served.close()
        await vectors.close()

    run(start())
    assert {len(batch) for batch in scripted.batches} == {1, 2, 4, 6}


def test_a_list_of_no_length_is_refused():
    with pytest.raises(ValueError, match="k must be >= 1; got 0"):
        engine(sasrec()).most_popular(Query(0))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("item_dtype", "float16"),
        ("max_batch", 0),
        ("max_wait_ms", -1),
        ("queue_limit", 0),
        ("temperature", 0.0),
        ("threads", 0),
    ],
)
def test_settings_out_of_range_name_themselves_and_their_value(field, value):
    with pytest.raises(ConfigError, match=rf"engine\.{field} must be .*; got '?{value}"):
        EngineSettings(**{field: value})


def test_a_model_of_another_catalogue_is_refused():
    with pytest.raises(DataError, match="must score the catalogue's 40 items; got 2"):
        ServedModel("c", "d", MostPopular(np.array([1, 2])), catalogue(), NOBODY)
