"""Iterables of inputs: the check that an argument is one, the split into windows, and a window embedded ahead."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
)
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import Any, TypeAlias

from embed_core._io import IO, Asyncio, Threaded, drive
from embed_core._threads import DAEMONS, raise_, report
from embed_core._types import Kind, Vectors
from embed_core.errors import InvalidInputError

Window: TypeAlias = tuple[range, list[Any]]
"""Inputs, after their positions in the stream."""

Embed: TypeAlias = Callable[[Window, IO], Coroutine[Any, Any, Vectors]]

Done: TypeAlias = "SimpleQueue[BaseException | None]"

_READ = 2  # windows that are read and not yet yielded, while the caller waits for the first of them


def several(kind: Kind, inputs: Iterable[Any]) -> Iterator[Any]:
    """Return an iterator over inputs.

    Raises:
        InvalidInputError: `inputs` is a single input, or a table, which would iterate over the names of its columns.
    """
    if hasattr(inputs, "columns"):
        msg = f"got a table, a `{type(inputs).__name__}`; pass one column of it, as in `table['text']`"
        raise InvalidInputError(msg)
    if _is_one(kind, inputs):
        raise _not_several(kind, inputs)
    try:
        return iter(inputs)
    except TypeError as error:
        raise _not_several(kind, inputs) from error


def _is_one(kind: Kind, inputs: Any) -> bool:
    """Tell whether a value would iterate over its parts: characters, keys, lines of a file, rows of pixels."""
    if isinstance(inputs, str | bytes | bytearray | memoryview | Mapping):
        return True
    return kind == "image" and (hasattr(inputs, "read") or getattr(inputs, "ndim", None) in {2, 3})


def _not_several(kind: Kind, inputs: Any) -> InvalidInputError:
    got = f"got one `{type(inputs).__name__}` instead of an iterable of inputs"
    return InvalidInputError(f"{got}; wrap it in a list or use `get_{kind}_embedding`")


def windows(kind: Kind, inputs: Iterable[Any], size: int) -> Iterator[Window]:
    """Yield windows of `size` inputs, the last one shorter; see `several`."""
    iterator, start = several(kind, inputs), 0
    while window := list(islice(iterator, size)):
        yield range(start, start := start + len(window)), window


async def awindows(kind: Kind, inputs: Iterable[Any] | AsyncIterable[Any], size: int) -> AsyncIterator[Window]:
    """Yield windows of `size` inputs; see `windows`."""
    if not isinstance(inputs, AsyncIterable):
        for window in windows(kind, inputs, size):
            yield window
        return
    some: list[Any] = []
    start = 0
    async for one in inputs:
        some.append(one)
        if len(some) == size:
            yield range(start, start := start + size), some
            some = []
    if some:
        yield range(start, start + len(some)), some


def ahead(read: Iterator[Window], embed: Embed, io: Threaded) -> Iterator[Vectors]:
    """Yield the vectors of windows in order; threads embed the next window while the consumer works.

    Windows are read in the caller's thread, and the error of the source comes after the blocks before it.
    """
    pending: deque[tuple[Threaded, Done, list[Vectors]]] = deque()
    before, failure = None, None
    try:
        while failure is None or pending:
            while failure is None and len(pending) < _READ:
                try:
                    window = next(read)
                except Exception as error:  # the end, too
                    failure = error
                    break
                done: Done = SimpleQueue()
                vectors: list[Vectors] = []
                work = partial(_drive_into, vectors, io.after(before, partial(embed, window)))
                pending.append((io, done, vectors))
                DAEMONS.submit(partial(report, done, contextvars.copy_context(), work))
                before, io = io, io.following()
            if pending:
                raise_(pending[0][1].get())
                yield pending.popleft()[2].pop()
        raise_(None if isinstance(failure, StopIteration) else failure)
    finally:
        del failure
        for one, *_ in pending:
            one.abandoned = True
            one.end()


async def aahead(read: AsyncIterator[Window], embed: Embed, io: Asyncio) -> AsyncGenerator[Vectors]:
    """Yield the vectors of windows in order; tasks embed the next window while the consumer works; see `ahead`."""
    import asyncio

    pending: deque[tuple[asyncio.Task[BaseException | None], list[Vectors]]] = deque()
    before, failure = None, None
    try:
        while failure is None or pending:
            while failure is None and len(pending) < _READ:
                try:
                    window = await anext(read)
                except Exception as error:  # the end, too
                    failure = error
                    break
                vectors: list[Vectors] = []
                work = partial(_await_into, vectors, io.after(before, partial(embed, window)))
                pending.append((asyncio.create_task(io.caught(work)), vectors))
                before, io = io, io.following()
            if pending:
                await asyncio.wait([pending[0][0]])
                raise_(pending[0][0].result())
                yield pending.popleft()[1].pop()
        raise_(None if isinstance(failure, StopAsyncIteration) else failure)
    finally:
        del failure
        for task, _ in pending:
            task.cancel()
        if pending:
            await asyncio.wait([task for task, _ in pending])


def _drive_into(vectors: list[Vectors], coroutine: Coroutine[Any, Any, Vectors]) -> None:
    vectors.append(drive(coroutine))


async def _await_into(vectors: list[Vectors], coroutine: Coroutine[Any, Any, Vectors]) -> None:
    vectors.append(await coroutine)
