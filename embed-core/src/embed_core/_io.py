"""The only operations that have a colour: call, map and sleep.

The engine is written once, as `async def`, and reaches the outside through an `IO`. An asyncio caller awaits it;
a sync caller drives the same coroutine with `drive`, which needs no event loop and so works inside a running one.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

from embed_core._forks import reset_in_children

T = TypeVar("T")
X = TypeVar("X")

_END: Any = object()

_MOST_THREADS = 64
"""How many threads one event loop waits for at once: thousands of tasks would else open thousands of files and run out.

A cancelled task waits no more and gives its turn back, so a hung thread holds up nobody.
"""

_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = weakref.WeakKeyDictionary()


class IO(Protocol):
    """How a coroutine of the engine touches the world.

    Attributes:
        blocking: whether waiting holds up the caller's thread.
        abandoned: whether the caller was interrupted and left threads behind, which may hang.
    """

    blocking: bool
    abandoned: bool

    async def call(self, sync: Callable[[], T], async_: Callable[[], Awaitable[T]] | None = None) -> T:
        """Run the twin that fits the caller; without an async twin the sync one never blocks an event loop."""
        ...

    async def map(self, fn: Callable[[X], Coroutine[Any, Any, None]], items: Iterable[X], *, workers: int) -> None:
        """Run `fn` over `items`, at most `workers` at a time, until all are done or one raises."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait, without holding up anybody else.

        Raises:
            Ended: the call was ended.
        """
        ...

    def end(self) -> None:
        """Let nothing of this call sleep any more, nor begin to."""
        ...


class Ended(BaseException):
    """What waits for its turn, or to try again, need not: something else in the same call has failed for good.

    No `Exception`, as `asyncio.CancelledError` is none: it is nobody's failure.
    """


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, in the caller's thread and context."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    msg = "a middleware awaited something other than its `io` in a sync call; use `io.call`, `io.map` or `io.sleep`"
    raise RuntimeError(msg)


class Blocking:
    """Everything one after the other, in the caller's thread."""

    blocking = True
    abandoned = False

    async def call(self, sync: Callable[[], T], async_: Callable[[], Awaitable[T]] | None = None) -> T:
        return sync()

    async def map(self, fn: Callable[[X], Coroutine[Any, Any, None]], items: Iterable[X], *, workers: int) -> None:
        for item in items:
            await fn(item)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251  # this is the blocking runner

    def end(self) -> None:
        """Do nothing: while one thing happens nothing else sleeps."""


class Threaded(Blocking):
    """Batches side by side in threads, for a sync caller of an integration that mostly waits."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    async def map(self, fn: Callable[[X], Coroutine[Any, Any, None]], items: Iterable[X], *, workers: int) -> None:
        iterator, turn = iter(items), threading.Lock()
        done = queue.SimpleQueue[BaseException | None]()

        def work() -> None:
            while not self._ended.is_set():
                with turn:
                    item = next(iterator, _END)
                if item is _END:
                    return
                drive(fn(item))

        try:
            for _ in range(workers):
                DAEMONS.submit(partial(_report, done, contextvars.copy_context(), work))
            for _ in range(workers):
                _raise(done.get())
        except BaseException:  # Ctrl-C in the waiting caller, too
            self.abandoned = True
            self.end()
            raise

    async def sleep(self, seconds: float) -> None:
        if self._ended.wait(seconds):
            raise Ended

    def end(self) -> None:
        self._ended.set()


class Asyncio:
    """Batches side by side in tasks of the running event loop."""

    blocking = False
    abandoned = False

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    async def call(self, sync: Callable[[], T], async_: Callable[[], Awaitable[T]] | None = None) -> T:
        if async_ is not None:
            return await async_()
        return await in_thread(sync)

    async def map(self, fn: Callable[[X], Coroutine[Any, Any, None]], items: Iterable[X], *, workers: int) -> None:
        iterator = iter(items)

        async def work() -> None:
            for item in iterator:
                await fn(item)

        if workers == 1:
            return await work()
        tasks = {asyncio.create_task(_caught(work)) for _ in range(workers)}
        try:
            while tasks:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    _raise(task.result())
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
        return None

    async def sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
            raise Ended

    def end(self) -> None:
        self._ended.set()


async def _caught(work: Callable[[], Coroutine[Any, Any, None]]) -> BaseException | None:
    """Run `work` and return what it raises.

    Not a `TaskGroup`: that passes over a hook's own `CancelledError`, as if the batch were done, and a task that raises
    `KeyboardInterrupt` stops the loop before its waiting caller hears of it.
    """
    try:
        await work()
    except BaseException as error:  # raised again where the caller waits
        return error
    return None


async def in_thread(fn: Callable[[], T]) -> T:
    """Run `fn` in a daemon thread with the caller's context; cancelling stops the wait, not the thread.

    Not `asyncio.to_thread`: its executor is joined when the loop closes, so one hung call would hold up Ctrl-C.
    """
    loop = asyncio.get_running_loop()
    turns = _turns.setdefault(loop, asyncio.Semaphore(_MOST_THREADS))
    async with turns:
        return await _in_thread(fn, loop)


async def _in_thread(fn: Callable[[], T], loop: asyncio.AbstractEventLoop) -> T:
    finished: asyncio.Future[None] = loop.create_future()
    done = queue.SimpleQueue[BaseException | None]()
    results: list[T] = []

    def work() -> None:
        _report(done, context, lambda: results.append(fn()))
        with suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
            loop.call_soon_threadsafe(_settle, finished)

    context = contextvars.copy_context()
    DAEMONS.submit(work)
    await finished
    _raise(done.get())
    return results[0]


def _report(
    done: queue.SimpleQueue[BaseException | None], context: contextvars.Context, work: Callable[[], None]
) -> None:
    """Run `work` in a worker thread and hand what it raises to whoever waits."""
    try:
        context.run(work)
    except BaseException as error:  # raised again where somebody waits
        done.put(error)
    else:
        done.put(None)


def _settle(finished: asyncio.Future[None]) -> None:
    if not finished.done():
        finished.set_result(None)


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error


class _Daemons:
    """Daemon threads, made on demand and kept a while: a hung provider call never holds up interpreter exit."""

    def __init__(self, idle_seconds: float = 10.0) -> None:
        self._idle_seconds = idle_seconds
        self.reset()

    def reset(self) -> None:
        """Forget every thread; a forked child has none of them."""
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
