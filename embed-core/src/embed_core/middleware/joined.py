"""Calls that miss on the same input at the same time make one provider call."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from embed_core._io import IO
from embed_core._rows import Rows
from embed_core._space import Dimension
from embed_core._types import Kind, Next, Request, Vectors
from embed_core.kvstore import KVStore, visit

_log = logging.getLogger("embed_core.cache")

_Flight: TypeAlias = "Future[Vectors | None]"


class Flights:
    """The inputs that are being embedded right now, by cache key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sync: dict[bytes, _Flight] = {}
        self._async: dict[bytes, _Flight] = {}

    def board(self, keys: Iterable[bytes], *, blocking: bool) -> tuple[dict[bytes, _Flight], dict[bytes, _Flight]]:
        """Return the flights that are now the caller's to land, and those of others to wait for.

        A blocking caller joins only blocking ones: it might hold up the very event loop that it waits for.
        """
        mine: dict[bytes, _Flight] = {}
        others: dict[bytes, _Flight] = {}
        with self._lock:
            for key in keys:
                flight = self._sync.get(key) or (None if blocking else self._async.get(key))
                if flight is None:
                    mine[key] = (self._sync if blocking else self._async)[key] = Future()
                else:
                    others[key] = flight
        return mine, others

    def land(self, flights: dict[bytes, _Flight], vectors: dict[bytes, Vectors], *, blocking: bool) -> None:
        """Give the waiting callers their vectors, or None where the flight failed and they must try themselves."""
        with self._lock:
            for key in flights:
                del (self._sync if blocking else self._async)[key]
        for key, flight in flights.items():
            flight.set_result(vectors.get(key))


async def _land_async(flight: _Flight) -> Vectors | None:
    return await asyncio.shield(asyncio.wrap_future(flight))


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
        mine, others = self.flights.board(dict.fromkeys(keys), blocking=io.blocking)
        vectors: dict[bytes, Vectors] = {}
        try:
            vectors |= await self._embed(request, keys, mine, next, io)
        finally:
            self.flights.land(mine, vectors, blocking=io.blocking)
        for key, flight in others.items():
            landed = await io.call(flight.result, partial(_land_async, flight))
            if landed is not None:
                vectors[key] = landed
        if failed := [row for row, key in enumerate(keys) if key not in vectors]:
            again = await self(request.pick(failed), next, io)
            vectors |= zip((keys[row] for row in failed), again, strict=True)
        return np.stack([vectors[key] for key in keys])

    async def _embed(
        self, request: Request, keys: Sequence[bytes], mine: dict[bytes, _Flight], next: Next, io: IO
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
