"""Calls that miss on the same input at the same time make one provider call."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from embed_core._cache import Cache
from embed_core._io import IO
from embed_core._result import Onward, Result
from embed_core._types import Request, Vectors
from embed_core.forks import Lock, reset_in_children
from embed_core.kvstore import visit

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


@dataclass(eq=False, slots=True)
class Pending:
    """The inputs that one call has in flight.

    Attributes:
        io: the runner of the call.
        loop: the event loop of the call; None for a thread.
        vectors: the results by key; an input that has none failed or was cancelled.
        failed: the keys of the inputs that failed.
    """

    io: IO
    loop: AbstractEventLoop | None
    vectors: Future[Mapping[bytes, Vectors]] = field(default_factory=Future)
    failed: Collection[bytes] = ()

    def may_be_awaited(self, loop: AbstractEventLoop | None) -> bool:
        """Tell whether a caller in this loop, or in a thread, may wait for them.

        A thread waits for no task, because it may hold up that task's own event loop. A task of a loop that has stopped
        may never go on, and a thread that an interrupted call has left behind may hang.
        """
        if self.loop is None:
            return not self.io.abandoned
        return loop is not None and self.loop.is_running()


class InFlight:
    """The inputs that are being embedded right now, by cache key."""

    def __init__(self) -> None:
        self.reset()
        reset_in_children(self)

    def reset(self) -> None:
        """Forget every input: in a forked child nobody embeds one."""
        self._lock = Lock()
        self._of_threads: dict[bytes, Pending] = {}
        self._of_tasks: dict[bytes, Pending] = {}

    def __len__(self) -> int:
        return len(self._of_threads) + len(self._of_tasks)

    def claim(self, keys: Iterable[bytes], io: IO) -> tuple[Pending, set[bytes], dict[bytes, Pending]]:
        """Return the caller's call with the inputs that are now its to embed, and those of other calls to wait for."""
        loop = None if io.blocking else _running_loop()
        call, mine = Pending(io, loop), set[bytes]()
        others: dict[bytes, Pending] = {}
        own = self._of_threads if loop is None else self._of_tasks
        with self._lock:
            for key in keys:
                there = (self._of_threads.get(key), self._of_tasks.get(key))
                pending = next((one for one in there if one is not None and one.may_be_awaited(loop)), None)
                if pending is None:
                    mine.add(key)
                    own[key] = call
                else:
                    others[key] = pending
        return call, mine, others

    def settle(self, call: Pending, keys: Iterable[bytes], vectors: Mapping[bytes, Vectors]) -> None:
        """Give the waiting callers the vectors there are; they must try the others themselves."""
        own = self._of_threads if call.loop is None else self._of_tasks
        with self._lock:
            for key in keys:
                if own.get(key) is call:
                    del own[key]
        call.vectors.set_result(vectors)


def _running_loop() -> AbstractEventLoop:
    import asyncio

    return asyncio.get_running_loop()


async def _vectors(pending: Pending) -> Mapping[bytes, Vectors]:
    import asyncio

    return await asyncio.shield(asyncio.wrap_future(pending.vectors))


_SENDING: ContextVar[bool] = ContextVar("embed_core_sending", default=False)
"""Whether this context is that of a hook, or of a handler that is told of its call: others wait for its inputs."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Waits for inputs that another call of the same model is embedding, after sending those that no call is.

    A call waits only while nobody waits for it: it sends before it waits, and the call of a hook or of a handler waits
    for none. So no two calls wait for each other, and none for itself.
    """

    cache: Cache
    in_flight: InFlight = field(default_factory=InFlight)

    async def __call__(self, request: Request, next: Onward, io: IO) -> Result:
        if _SENDING.get():
            return await next(request)
        result = Result(len(request.inputs))
        rows: Sequence[int] = range(len(request.inputs))
        while rows:
            part = request if len(rows) == len(request.inputs) else request.pick(rows)
            found, others = await self._round(part, next, io)
            cancelled = [rows[at] for at in others if found.is_open(at)]
            result.place(rows, found)
            rows = cancelled
        return result

    async def _round(self, request: Request, next: Onward, io: IO) -> tuple[Result, Sequence[int]]:
        """Return the result of a request, and the rows that other calls embed; a cancelled call gives none."""
        keys, result = self.cache.keys_of(request), Result(len(request.inputs))
        call, mine, others = self.in_flight.claim(dict.fromkeys(keys), io)
        outside = _SENDING.set(True)
        try:
            if mine:
                await self._embed(request, keys, mine, result, next, io)
        finally:
            _SENDING.reset(outside)
            self._settle(call, keys, mine, result)
        for key, one in others.items():
            vector = (await io.call(one.vectors.result, partial(_vectors, one))).get(key)
            if vector is not None:
                same = [row for row, other in enumerate(keys) if other == key]
                result.place(same, Result.of(np.stack([vector] * len(same))))
        joined = [row for row, key in enumerate(keys) if key in others]
        alone = [row for row in joined if keys[row] in others[keys[row]].failed]
        if alone:  # not another round: where nobody succeeds, the last caller would wait for all others to fail
            result.place(alone, await next(request.pick(alone)))
        return result, [row for row in joined if row not in alone]

    async def _embed(
        self,
        request: Request,
        keys: Sequence[bytes],
        mine: Collection[bytes],
        result: Result,
        next: Onward,
        io: IO,
    ) -> None:
        """Embed our own inputs, unless another call finished and stored them between our look-up and now."""
        stored = await visit(self.cache.store, io, lambda: self.cache.known(mine))
        there = [row for row, key in enumerate(keys) if key in stored]
        if there:
            result.place(there, Result.of(np.stack([stored[keys[row]] for row in there])))
        rest = [row for row, key in enumerate(keys) if key in mine and key not in stored]
        if len(rest) == len(keys):
            result.place(range(len(keys)), await next(request))
        elif rest:
            result.place(rest, await next(request.pick(rest)))

    def _settle(self, call: Pending, keys: Sequence[bytes], mine: Collection[bytes], result: Result) -> None:
        copy, done = result.vectors.copy(), result.done  # the caller may change its own array at once
        call.failed = {keys[row] for row in result.failed}
        vectors = {key: copy[row] for row, key in enumerate(keys) if key in mine and done[row]}
        self.in_flight.settle(call, mine, vectors)
