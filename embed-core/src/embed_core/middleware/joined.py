"""Calls that miss on the same input at the same time make one provider call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from embed_core._cache import Cache
from embed_core._io import IO
from embed_core._result import Onward, Result
from embed_core._types import Request, Vectors
from embed_core.forks import Lock, reset_in_children

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


@dataclass(eq=False, slots=True)
class Pending:
    """One input on its way.

    Attributes:
        io: the runner of the call that embeds it.
        loop: the event loop of that call; None for a thread.
        landed: its vector, or None where the flight gave none.
        failed: whether it gave none because it cannot, rather than because its call was cancelled.
    """

    io: IO
    loop: AbstractEventLoop | None
    landed: Future[Vectors | None] = field(default_factory=Future)
    failed: bool = False

    def may_carry(self, loop: AbstractEventLoop | None) -> bool:
        """Tell whether a caller in this loop, or in a thread, may wait for it.

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
        """Forget every flight: in a forked child nobody is there to land one."""
        self._lock = Lock()
        self._of_threads: dict[bytes, Pending] = {}
        self._of_tasks: dict[bytes, Pending] = {}

    def __len__(self) -> int:
        return len(self._of_threads) + len(self._of_tasks)

    def board(self, keys: Iterable[bytes], io: IO) -> tuple[dict[bytes, Pending], dict[bytes, Pending]]:
        """Return the flights that are now the caller's to land, and those of others to wait for."""
        loop = None if io.blocking else _running_loop()
        mine: dict[bytes, Pending] = {}
        others: dict[bytes, Pending] = {}
        own = self._of_threads if loop is None else self._of_tasks
        with self._lock:
            for key in keys:
                there = (self._of_threads.get(key), self._of_tasks.get(key))
                flight = next((one for one in there if one is not None and one.may_carry(loop)), None)
                if flight is None:
                    mine[key] = own[key] = Pending(io, loop)
                else:
                    others[key] = flight
        return mine, others

    def land(self, flights: Mapping[bytes, Pending], vectors: Mapping[bytes, Vectors]) -> None:
        """Give the waiting callers their vectors, or None where they must try themselves."""
        with self._lock:
            for key, flight in flights.items():
                own = self._of_threads if flight.loop is None else self._of_tasks
                if own.get(key) is flight:
                    del own[key]
        for key, flight in flights.items():
            flight.landed.set_result(vectors.get(key))


def _running_loop() -> AbstractEventLoop:
    import asyncio

    return asyncio.get_running_loop()


async def _landed(flight: Pending) -> Vectors | None:
    import asyncio

    return await asyncio.shield(asyncio.wrap_future(flight.landed))


@dataclass(frozen=True, slots=True)
class Joined:
    """Waits for what another call of the same model is embedding already, after sending what nobody else is.

    Sending before waiting is why two calls can never wait for each other.
    """

    cache: Cache
    flights: InFlight = field(default_factory=InFlight)

    async def __call__(self, request: Request, next: Onward, io: IO) -> Result:
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
        """Return what became of a request, and the rows that others embed; a flight that was cancelled gave nothing."""
        keys, result = self.cache.keys_of(request), Result(len(request.inputs))
        mine, others = self.flights.board(dict.fromkeys(keys), io)
        try:
            if mine:
                await self._fly(request, keys, mine, result, next, io)
        finally:
            self._land(keys, mine, result)
        for key, flight in others.items():
            landed = await io.call(flight.landed.result, partial(_landed, flight))
            if landed is not None:
                same = [row for row, one in enumerate(keys) if one == key]
                result.place(same, Result.of(np.stack([landed] * len(same))))
        joined = [row for row, key in enumerate(keys) if key in others]
        alone = [row for row in joined if others[keys[row]].failed]
        if alone:  # not another round: where nobody succeeds, the last caller would wait for all others to fail
            result.place(alone, await next(request.pick(alone)))
        return result, [row for row in joined if row not in alone]

    async def _fly(
        self,
        request: Request,
        keys: Sequence[bytes],
        mine: Mapping[bytes, Pending],
        result: Result,
        next: Onward,
        io: IO,
    ) -> None:
        """Embed what is ours, unless another call finished and stored it between our look-up and now."""
        stored = await self.cache.visit(io, lambda: self.cache.known(mine))
        rows = [row for row, key in enumerate(keys) if key in mine]
        if there := [row for row in rows if keys[row] in stored]:
            result.place(there, Result.of(np.stack([stored[keys[row]] for row in there])))
        if rest := [row for row in rows if keys[row] not in stored]:
            whole = len(rest) == len(keys)
            result.place(range(len(keys)) if whole else rest, await next(request if whole else request.pick(rest)))

    def _land(self, keys: Sequence[bytes], mine: Mapping[bytes, Pending], result: Result) -> None:
        landed: dict[bytes, Vectors] = {}
        for row, key in enumerate(keys):
            if key in mine:
                mine[key].failed = row in result.failed
                if result.done[row]:
                    landed[key] = result.vectors[row]
        self.flights.land(mine, landed)
