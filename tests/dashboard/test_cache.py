import asyncio
import threading

import pytest

from tailwise.dashboard import PageCache


def test_a_page_is_computed_once_per_version():
    async def run():
        cache, calls = PageCache(patience_s=30), []
        for version in (1, 1, 1, 2):
            found = await cache.get("page", version, lambda v=version: calls.append(v) or f"page {v}")
        cache.close()
        return calls, found

    calls, found = asyncio.run(run())
    assert calls == [1, 2]
    assert (found.value, found.is_stale) == ("page 2", False)


def test_while_a_new_page_is_computed_the_old_one_is_answered_and_marked():
    async def run():
        cache, gate = PageCache(patience_s=30), threading.Event()
        await cache.get("page", 1, lambda: "old")
        cache._patience_s = 0.01

        def slow():
            gate.wait(10)
            return "new"

        first = await cache.get("page", 2, slow)
        second = await cache.get("page", 2, slow)
        gate.set()
        cache._patience_s = 30
        third = await cache.get("page", 2, lambda: "never")
        cache.close()
        return first, second, third

    first, second, third = asyncio.run(run())
    assert (first.value, first.is_stale) == ("old", True)
    assert (second.value, second.is_stale) == ("old", True)
    assert (third.value, third.is_stale) == ("new", False)


def test_where_an_old_page_can_be_shown_a_new_one_is_waited_for_less_long():
    async def run():
        cache, gate = PageCache(patience_s=30, again_s=0.01), threading.Event()

        def slow():
            gate.wait(0.2)
            return "old"

        first = await cache.get("page", 1, slow)
        second = await cache.get("page", 2, lambda: gate.wait(10) and "new")
        is_busy = cache.is_busy()
        gate.set()
        cache.close()
        return first, second, is_busy

    first, second, is_busy = asyncio.run(run())
    assert (first.value, first.is_stale) == ("old", False)
    assert (second.value, second.is_stale) == ("old", True)
    assert is_busy


def test_many_who_ask_at_once_wait_for_one_computation():
    async def run():
        cache, calls = PageCache(patience_s=30, threads=4), []

        def slow():
            calls.append(1)
            threading.Event().wait(0.05)
            return "page"

        found = await asyncio.gather(*(cache.get("page", 1, slow) for _ in range(20)))
        cache.close()
        return calls, found

    calls, found = asyncio.run(run())
    assert len(calls) == 1
    assert {each.value for each in found} == {"page"}


def test_a_failure_is_said_beside_the_old_page_and_not_repeated_until_something_changes():
    async def run():
        cache, calls = PageCache(patience_s=30), []

        def fail():
            calls.append(1)
            raise ValueError("broken table")

        await cache.get("page", 1, lambda: "old")
        failed = [await cache.get("page", 2, fail) for _ in range(3)]
        mended = await cache.get("page", 3, lambda: "new")
        cache.close()
        return calls, failed, mended

    calls, failed, mended = asyncio.run(run())
    assert len(calls) == 1
    assert all(f.value == "old" and f.is_stale and str(f.error) == "broken table" for f in failed)
    assert (mended.value, mended.error) == ("new", None)


def test_only_so_many_pages_are_kept():
    async def run():
        cache, calls = PageCache(patience_s=30, size=2), []
        for key in ("a", "b", "c", "a"):
            await cache.get(key, 1, lambda k=key: calls.append(k))
        cache.close()
        return calls

    assert asyncio.run(run()) == ["a", "b", "c", "a"]


@pytest.mark.parametrize("arguments", [{"patience_s": -1}, {"again_s": -1}, {"size": 0}, {"threads": 0}])
def test_a_cache_that_cannot_be_is_refused(arguments):
    with pytest.raises(ValueError, match=r"must be >= 0, size and threads >= 1; got"):
        PageCache(**arguments)
