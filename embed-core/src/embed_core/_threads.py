"""Daemon threads that never delay interpreter exit, and hand their exceptions to the waiting caller."""

from __future__ import annotations

import contextvars
import queue
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from embed_core.forks import reset_in_children

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

_MOST_THREADS = 64
"""Threads of one sort that an event loop waits for at once, so that thousands of tasks do not exhaust files and memory.

A cancelled task stops waiting and releases its place, so a hung thread blocks no other task.
"""

_Turns: TypeAlias = "weakref.WeakValueDictionary[int, asyncio.Semaphore]"
"""By the id of the loop. A semaphore refers to its loop, so the map keeps neither; the tasks that use it keep both."""

_long: _Turns = weakref.WeakValueDictionary()
_brief: _Turns = weakref.WeakValueDictionary()


async def in_thread(fn: Callable[[], T], *, brief: bool = False) -> T:
    """Run `fn` in a daemon thread with the caller's context; cancelling stops the wait, not the thread.

    Brief work, such as a cache lookup, has its own limit of threads, so it never queues behind slow provider calls.

    Not `asyncio.to_thread`: its executor is joined when the loop closes, so one hung call would hold up Ctrl-C.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    async with (_brief if brief else _long).setdefault(id(loop), asyncio.Semaphore(_MOST_THREADS)):
        return await _in_thread(fn, loop)


async def _in_thread(fn: Callable[[], T], loop: asyncio.AbstractEventLoop) -> T:
    finished: asyncio.Future[None] = loop.create_future()
    done = queue.SimpleQueue[BaseException | None]()
    results: list[T] = []

    def work() -> None:
        report(done, context, lambda: results.append(fn()))
        with suppress(RuntimeError):  # the loop is closed, so no task waits for the result
            loop.call_soon_threadsafe(_settle, finished)

    context = contextvars.copy_context()
    DAEMONS.submit(work)
    await finished
    raise_(done.get())
    return results[0]


def report(
    done: queue.SimpleQueue[BaseException | None], context: contextvars.Context, work: Callable[[], None]
) -> None:
    """Run `work` in a worker thread and report its exception, or None, to the waiting caller."""
    try:
        context.run(work)
    except BaseException as error:  # raised again in the waiting caller
        done.put(error)
    else:
        done.put(None)


def _settle(finished: asyncio.Future[None]) -> None:
    if not finished.done():
        finished.set_result(None)


def raise_(error: BaseException | None) -> None:
    """Raise an error, if any, from a frame that drops it, so that no cycle waits for the garbage collector."""
    try:
        if error is not None:
            raise error
    finally:
        del error


class _Daemons:
    """A pool of daemon threads, started on demand and reused: a hung provider call never delays interpreter exit."""

    def __init__(self, idle_seconds: float = 10.0) -> None:
        self._idle_seconds = idle_seconds
        self.reset()

    def reset(self) -> None:
        """Forget all threads, because a forked child has none of them."""
        self._lock = threading.Lock()
        self._queue: queue.Queue[Callable[[], None]] = queue.Queue()
        self._idle = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work`, which must not raise, in an idle thread or a new one."""
        with self._lock:
            self._queue.put(work)
            if self._idle:
                self._idle -= 1
                return
        threading.Thread(target=self._run, name="embed-core-worker", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                work = self._queue.get(timeout=self._idle_seconds)
            except queue.Empty:
                with self._lock:
                    if self._queue.empty():
                        self._idle -= 1
                        return
                continue
            work()
            del work
            with self._lock:
                self._idle += 1


DAEMONS = _Daemons()
reset_in_children(DAEMONS)
