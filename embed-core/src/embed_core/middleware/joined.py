"""Calls that miss on the same input at the same time make one provider call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from embed_core._io import IO, Ended
from embed_core._rows import Rows
from embed_core._space import Dimension
from embed_core._types import Kind, Next, Request, Vectors
from embed_core.errors import EmbedError, InvalidInputError
from embed_core.forks import Lock, reset_in_children
from embed_core.kvstore import KVStore, visit

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

_log = logging.getLogger("embed_core.cache")


@dataclass(eq=False, slots=True)
class Flight:
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


class Flights:
    """The inputs that are being embedded right now, by cache key."""

    def __init__(self) -> None:
        self.reset()
        reset_in_children(self)

    def reset(self) -> None:
        """Forget every flight: in a forked child nobody is there to land one."""
        self._lock = Lock()
        self._of_threads: dict[bytes, Flight] = {}
        self._of_tasks: dict[bytes, Flight] = {}

    def __len__(self) -> int:
        return len(self._of_threads) + len(self._of_tasks)

    def board(self, keys: Iterable[bytes], io: IO) -> tuple[dict[bytes, Flight], dict[bytes, Flight]]:
        """Return the flights that are now the caller's to land, and those of others to wait for."""
        loop = None if io.blocking else _running_loop()
        mine: dict[bytes, Flight] = {}
        others: dict[bytes, Flight] = {}
        own = self._of_threads if loop is None else self._of_tasks
        with self._lock:
            for key in keys:
                there = (self._of_threads.get(key), self._of_tasks.get(key))
                flight = next((one for one in there if one is not None and one.may_carry(loop)), None)
                if flight is None:
                    mine[key] = own[key] = Flight(io, loop)
                else:
                    others[key] = flight
        return mine, others

    def land(self, flights: Mapping[bytes, Flight], vectors: Mapping[bytes, Vectors]) -> None:
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


async def _landed(flight: Flight) -> Vectors | None:
    import asyncio

    return await asyncio.shield(asyncio.wrap_future(flight.landed))


@dataclass(frozen=True, slots=True)
class Joined:
    """Waits for what another call of the same model is embedding already, after sending what nobody else is.

    Sending before waiting is why two calls can never wait for each other.
    """

    store: KVStore
    keys: Callable[[Kind, Sequence[Any]], list[bytes]]
    rows: Rows
    dimension: Dimension
    flights: Flights = field(default_factory=Flights)

    async def __call__(self, request: Request, next: Next, io: IO) -> Vectors:
        keys = self.keys(request.kind, request.inputs)
        vectors: dict[bytes, Vectors] = {}
        try:
            while missing := [row for row, key in enumerate(keys) if key not in vectors]:
                part = request.pick(missing) if vectors else request
                await self._round(part, [keys[row] for row in missing], vectors, next, io)
        except InvalidInputError:  # sent again without its culprit, and the store has the rest
            raise
        except (EmbedError, Ended) as error:
            _add_joined(error, dict(zip(request.ids, keys, strict=True)), vectors)
            raise
        return np.stack([vectors[key] for key in keys])

    async def _round(
        self, request: Request, keys: Sequence[bytes], vectors: dict[bytes, Vectors], next: Next, io: IO
    ) -> None:
        """Add the vectors of all keys but those whose flight was cancelled."""
        mine, others = self.flights.board(dict.fromkeys(keys), io)
        vectors |= await self._fly(request, keys, mine, next, io)
        for key, flight in others.items():
            landed = await io.call(flight.landed.result, partial(_landed, flight))
            if landed is not None:
                vectors[key] = landed
        failed = [row for row, key in enumerate(keys) if key in others and others[key].failed]
        if failed:  # not another round: where nobody succeeds, the last caller would wait for all others to fail
            alone = await next(request.pick(failed))
            vectors |= zip((keys[row] for row in failed), alone, strict=True)

    async def _fly(
        self, request: Request, keys: Sequence[bytes], mine: dict[bytes, Flight], next: Next, io: IO
    ) -> dict[bytes, Vectors]:
        """Embed what is ours, and land it whatever happens."""
        vectors: dict[bytes, Vectors] = {}
        try:
            vectors |= await self._embed(request, keys, mine, next, io)
        except InvalidInputError:  # perhaps the fault of another input of the batch
            raise
        except Exception:
            for flight in mine.values():
                flight.failed = True
            raise
        finally:
            self.flights.land(mine, vectors)
        return vectors

    async def _embed(
        self, request: Request, keys: Sequence[bytes], mine: dict[bytes, Flight], next: Next, io: IO
    ) -> dict[bytes, Vectors]:
        """Embed what is ours, unless another call finished and stored it between our look-up and now."""
        if not mine:
            return {}
        vectors = await visit(self.store, io, lambda: self._stored(list(mine)))
        rows = {key: row for row, key in enumerate(keys) if key in mine and key not in vectors}
        if len(rows) == len(keys):
            return dict(zip(keys, await next(request), strict=True))
        if rows:
            vectors |= zip(rows, await next(request.pick(list(rows.values()))), strict=True)
        return vectors

    def _stored(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        try:
            return self.rows.decode(self.store.get_many(keys), self.dimension.known)
        except Exception:  # a cache never loses or blocks an embedding
            _log.debug("the embeddings cache could not be read and is bypassed", exc_info=True)
            return {}


def _add_joined(error: EmbedError | Ended, position: Mapping[int, bytes], vectors: Mapping[bytes, Vectors]) -> None:
    if vectors:
        done = {id_: vectors[key] for id_, key in position.items() if key in vectors}
        if isinstance(error, EmbedError):
            error.failed = error.failed or {id_: error for id_ in position if id_ not in done}
        error.completed = done | dict(error.completed)
