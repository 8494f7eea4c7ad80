"""The only operations that have a colour: call, map and sleep.

The engine is written once, as `async def`, and reaches the outside through an `IO`. An asyncio caller awaits it;
a sync caller drives the same coroutine with `drive`, which needs no event loop and so works inside a running one.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import nullcontext, suppress
from functools import partial
from operator import length_hint
from typing import Any, Protocol, Self, TypeVar

from embed_core._threads import DAEMONS, in_thread, raise_, report

T = TypeVar("T")
X = TypeVar("X")

_END: Any = object()


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
        """Run `fn` over `items`, at most `workers` at a time, until all are done, one raises or the call is ended."""
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
    """The call has failed for good elsewhere, so a wait for a turn or for another attempt ends.

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


class _Sliding:
    """A runner that may embed one window of a stream, beside those of the windows before and after it.

    Attributes:
        spent: set once the last batch is sent, so that the next window begins.
    """

    spent: Any
    _ended: Any
    _slots: Any  # of the provider calls in flight, where windows share them
    _next: Self | None = None

    def following(self) -> Self:
        """Return the runner of the next window: it shares the slots, and ends with this one."""
        following = type(self)()
        following._slots, self._next = self._slots, following
        if self._ended.is_set():
            following.end()
        return following

    def end(self) -> None:
        self._ended.set()
        if self._next is not None:
            self._next.end()
        self.spent.set()

    async def after(self, before: Self | None, embed: Callable[[IO], Awaitable[T]]) -> T:
        """Embed a window once the window before it has sent its last batch.

        Raises:
            Ended: the window before it has failed, or the stream was closed.
        """
        io: Any = self
        try:
            if before is not None:
                await io.call(before.spent.wait, before.spent.wait)
            return await embed(io)
        except BaseException:
            self.end()
            raise
        finally:
            self.spent.set()

    def _take(self, iterator: Iterator[Any]) -> Any:
        """Return the next item, or `_END` where there is none or the call was ended."""
        item = _END if self._ended.is_set() else next(iterator, _END)
        if not length_hint(iterator, 1):
            self.spent.set()
        return item


class Threaded(_Sliding, Blocking):
    """Batches side by side in threads, for a sync caller of an integration that mostly waits."""

    def __init__(self, slots: int | None = None) -> None:
        self.spent, self._ended = threading.Event(), threading.Event()
        self._slots = nullcontext() if slots is None else threading.Semaphore(slots)

    async def map(self, fn: Callable[[X], Coroutine[Any, Any, None]], items: Iterable[X], *, workers: int) -> None:
        iterator, turn = iter(items), threading.Lock()
        done = queue.SimpleQueue[BaseException | None]()

        def work() -> None:
            while True:
                with self._slots:
                    with turn:
                        item = self._take(iterator)
                    if item is _END:
                        return
                    try:
                        drive(fn(item))
                    except Ended:  # whoever ended the call tells why
                        return
                    except BaseException:  # before the caller hears of it, others would go on
                        self.end()
                        raise

        try:
            for _ in range(workers):
                DAEMONS.submit(partial(report, done, contextvars.copy_context(), work))
            for _ in range(workers):
                raise_(done.get())
        except BaseException:  # Ctrl-C in the waiting caller, too
            self.abandoned = True
            self.end()
            raise

    async def sleep(self, seconds: float) -> None:
        if self._ended.wait(seconds):
            raise Ended


class Asyncio(_Sliding):
    """Batches side by side in tasks of the running event loop.

    Only who is in one gets here, so asyncio is loaded already: a sync program never loads it, which is a tenth of the
    time that our import takes.
    """

    blocking = False
    abandoned = False

    def __init__(self, slots: int | None = None) -> None:
        import asyncio

        self.spent, self._ended = asyncio.Event(), asyncio.Event()
        self._slots = nullcontext() if slots is None else asyncio.Semaphore(slots)

    async def call(self, sync: Callable[[], T], async_: Callable[[], Awaitable[T]] | None = None) -> T:
        if async_ is not None:
            return await async_()
        return await in_thread(sync, brief=True)

    async def map(self, fn: Callable[[X], Coroutine[Any, Any, None]], items: Iterable[X], *, workers: int) -> None:
        iterator = iter(items)

        async def work() -> None:
            while True:
                async with self._slots:
                    if (item := self._take(iterator)) is _END:
                        return
                    await fn(item)

        if workers == 1:
            return await work()
        import asyncio

        tasks = {asyncio.create_task(self.caught(work)) for _ in range(workers)}
        try:
            while tasks:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                while done:  # no name is left for the task, which would hold the error that holds this frame
                    raise_(done.pop().result())
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
        return None

    async def caught(self, work: Callable[[], Coroutine[Any, Any, None]]) -> BaseException | None:
        """Run `work` and return the exception that it raises.

        Not a `TaskGroup`: that passes over a hook's own `CancelledError`, as if the batch were done, and a task that
        raises `KeyboardInterrupt` stops the loop before its waiting caller hears of it.
        """
        try:
            await work()
        except Ended:  # whoever ended the call tells why
            return None
        except BaseException as error:  # raised again where the caller waits
            self.end()
            return error
        return None

    async def sleep(self, seconds: float) -> None:
        import asyncio

        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
            raise Ended
