"""Questions of many, answered together."""

import asyncio
import threading
import time

import pytest

from tailwise.serving._batcher import Batcher, EngineClosedError


def run(work):
    async def bounded():
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(bounded())


def test_a_batch_is_what_waits_and_never_more_than_its_limit():
    sizes, gate = [], threading.Event()

    def answer(questions):
        gate.wait(10)
        sizes.append(len(questions))
        return [q * 10 for q in questions]

    async def work():
        batcher = Batcher(answer, max_batch=4, queue_limit=100)
        await batcher.start()
        tasks = [asyncio.create_task(batcher.ask(i, 10)) for i in range(12)]
        await asyncio.sleep(0.05)
        gate.set()
        assert await asyncio.gather(*tasks) == [10 * i for i in range(12)]  # each their own
        await batcher.close(5)
        assert (batcher.n_answered, batcher.n_waiting) == (12, 0)

    run(work())
    assert max(sizes) == 4
    assert sum(sizes) == 12
    assert len(sizes) <= 4


def test_a_batch_weighs_no_more_than_its_limit_unless_one_question_does():
    batches, gate = [], threading.Event()

    def answer(questions):
        gate.wait(10)
        batches.append(list(questions))
        return questions

    async def work():
        batcher = Batcher(answer, max_batch=9, weigh=lambda q: q, max_weight=10, queue_limit=100)
        await batcher.start()
        tasks = [asyncio.create_task(batcher.ask(q, 10)) for q in (10, 4, 5, 2, 50, 0, 9, 1)]
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(*tasks)
        await batcher.close(5)

    run(work())
    assert batches == [[10], [4, 5], [2], [50], [0, 9, 1]]


def test_a_question_that_cannot_be_weighed_goes_alone_and_the_thread_lives_on():
    async def work():
        batcher = Batcher(lambda q: q, max_batch=9, weigh=len, max_weight=10, queue_limit=100)
        await batcher.start()
        assert await asyncio.gather(*(batcher.ask(q, 10) for q in ("a", 5, "b"))) == ["a", 5, "b"]
        await batcher.close(5)

    run(work())


@pytest.mark.parametrize(("wait_ms", "together"), [(0, False), (1000, True)])
def test_a_free_thread_waits_for_company_as_long_as_it_is_told(wait_ms, together):
    sizes = []

    def answer(questions):
        sizes.append(len(questions))
        return questions

    async def work():
        batcher = Batcher(answer, max_batch=2, max_wait_ms=wait_ms, queue_limit=9)
        await batcher.start()
        first = asyncio.create_task(batcher.ask(1, 10))
        await asyncio.sleep(0.05)
        assert await batcher.ask(2, 10) == 2  # the batch is full: nobody waits the whole second
        assert await first == 1
        await batcher.close(5)

    run(work())
    assert sizes == ([2] if together else [1, 1])


def test_a_question_whose_time_is_up_is_not_answered_even_if_nobody_could_withdraw_it():
    seen, entered, gate = [], threading.Event(), threading.Event()

    def answer(questions):
        seen.extend(questions)
        entered.set()
        gate.wait(10)
        return questions

    async def work():
        batcher = Batcher(answer, max_batch=1, queue_limit=9)
        await batcher.start()
        first = asyncio.create_task(batcher.ask("first", 10))
        await asyncio.to_thread(entered.wait, 10)
        late = asyncio.create_task(batcher.ask("late", 0.02))
        await asyncio.sleep(0)
        time.sleep(0.05)  # the loop is stuck: nobody notices that the time is up
        gate.set()
        for _ in range(5000):
            if batcher.n_skipped == 0:
                time.sleep(0.001)
        assert await first == "first"
        with pytest.raises(TimeoutError):
            await late
        await batcher.close(5)

    run(work())
    assert seen == ["first"]


def test_an_answer_that_lacks_replies_fails_instead_of_mixing_them_up():
    async def work():
        batcher = Batcher(lambda questions: [], max_batch=4, queue_limit=9)
        await batcher.start()
        with pytest.raises(ValueError, match="zip"):
            await batcher.ask(1, 10)
        await batcher.close(5)

    run(work())


def test_what_fails_at_the_start_is_told_to_who_starts():
    def prepare():
        raise RuntimeError("no model")

    async def work():
        batcher = Batcher(lambda questions: questions, max_batch=4, queue_limit=9, prepare=prepare)
        with pytest.raises(RuntimeError, match="no model"):
            await batcher.start()

    run(work())


def test_a_call_runs_in_the_thread_when_the_batch_that_runs_is_over():
    seen, gate = [], threading.Event()

    def answer(questions):
        gate.wait(10)
        seen.append(("batch", threading.get_ident()))
        return questions

    def work():
        seen.append(("call", threading.get_ident()))
        return "done"

    def fail():
        raise RuntimeError("a call that fails")

    async def main():
        batcher = Batcher(answer, max_batch=1, queue_limit=10)
        await batcher.start()
        assert await batcher.call(work) == "done"  # nothing waits
        asking = asyncio.create_task(batcher.ask(1, 10))
        await asyncio.sleep(0.05)
        calling = asyncio.create_task(batcher.call(work))
        await asyncio.sleep(0.05)
        assert not calling.done()
        gate.set()
        assert (await asking, await calling) == (1, "done")
        with pytest.raises(RuntimeError, match="a call that fails"):
            await batcher.call(fail)
        assert await batcher.ask(2, 10) == 2
        await batcher.close(5)
        with pytest.raises(EngineClosedError):
            await batcher.call(work)

    run(main())
    assert [what for what, _ in seen] == ["call", "batch", "call", "batch"]
    assert len({thread for _, thread in seen}) == 1
