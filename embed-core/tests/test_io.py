"""The runners: the same coroutine with and without an event loop."""

import asyncio
import contextvars
import multiprocessing
import threading

import pytest
from embed_core import MockEmbedding, _threads
from embed_core._io import Asyncio, Blocking, Ended, Threaded, drive
from embed_core._threads import in_thread

variable = contextvars.ContextVar("variable", default="unset")


def test_sync_methods_work_inside_a_running_event_loop():
    async def main():
        return MockEmbedding().get_text_embedding("a")

    assert asyncio.run(main()) == MockEmbedding().get_text_embedding("a")


def test_a_middleware_that_awaits_something_else_is_told_what_to_do():
    async def sleepy(request, onward, io):
        await asyncio.sleep(0)
        return await onward(request)

    with pytest.raises(RuntimeError, match=r"use `io.call`, `io.map` or `io.sleep`"):
        MockEmbedding(middlewares=(sleepy,)).embed_texts(["a"])


@pytest.mark.parametrize("io", [Blocking(), Threaded()])
def test_the_callers_context_is_seen_by_every_batch(io):
    seen = []

    async def look(_item):
        seen.append(variable.get())

    token = variable.set("mine")
    try:
        drive(io.map(look, range(5), workers=2))
    finally:
        variable.reset(token)
    assert seen == ["mine"] * 5


def test_async_calls_see_the_callers_context_too():
    async def main():
        variable.set("mine")
        return await in_thread(variable.get)

    assert asyncio.run(main()) == "mine"


@pytest.mark.parametrize("raised", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_thread_raises_is_raised_where_somebody_waits(raised):
    async def fail(item):
        if item == 1:
            raise raised

    with pytest.raises(type(raised)):
        drive(Threaded().map(fail, range(3), workers=2))

    def fail_in_thread():
        raise raised

    async def main():
        await in_thread(fail_in_thread)

    with pytest.raises(type(raised)):
        asyncio.run(main())


def test_an_ended_call_wakes_its_sleeping_batches():
    async def main_of(item):
        if item == 0:
            started.wait(60)
            raise ValueError("no")
        started.set()
        try:
            await io.sleep(60)
        except Ended:
            woken.set()
            raise

    io, started, woken = Threaded(), threading.Event(), threading.Event()
    with pytest.raises(ValueError, match="no"):
        drive(io.map(main_of, [0, 1], workers=2))
    assert woken.wait(60)


def test_a_cancelled_wait_leaves_its_thread_to_finish_alone():
    release, finished = threading.Event(), threading.Event()

    def slow():
        release.wait(60)
        finished.set()

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await in_thread(slow)

    asyncio.run(main())
    release.set()
    assert finished.wait(60)


def work_in(daemons):
    """Return the thread in which a daemon works, once it is idle again."""
    found = []
    daemons.submit(lambda: found.append(threading.get_ident()))
    while not (found and daemons._idle):
        threading.Event().wait(0.001)
    return found[0]


def test_an_idle_worker_thread_is_used_again():
    daemons = _threads._Daemons(idle_seconds=60)
    assert len({work_in(daemons) for _ in range(5)}) == 1


def test_an_idle_worker_thread_is_let_go():
    daemons, done = _threads._Daemons(idle_seconds=0.01), threading.Event()
    daemons.submit(lambda: None)
    while any(getattr(thread, "_target", None) == daemons._run for thread in threading.enumerate()):
        threading.Event().wait(0.001)
    daemons.submit(done.set)
    assert done.wait(60)


def _embed_in_child(connection):
    connection.send(asyncio.run(_only_sync().aembed_texts(["a"])).tolist())


def _only_sync():
    class OnlySync(MockEmbedding):
        async def _aget_text_embeddings(self, texts):
            return await self._abatch("text", texts)

    return OnlySync()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_worker_threads_of_its_own():
    expected = asyncio.run(_only_sync().aembed_texts(["a"])).tolist()
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_embed_in_child, args=(there,))
    child.start()
    assert here.poll(60)
    assert here.recv() == expected
    child.join(20)


def test_one_worker_makes_no_tasks():
    async def count(_item):
        tasks.append(len(asyncio.all_tasks()))

    tasks = []
    asyncio.run(Asyncio().map(count, range(3), workers=1))
    assert tasks == [1, 1, 1]
