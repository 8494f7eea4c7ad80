"""Vectors that are in the cache already: looked up for the whole input at once, each missing input asked for once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from embed_core._cache import Cache
from embed_core._io import IO
from embed_core._result import Onward, Result
from embed_core._types import Request, Vectors
from embed_core.instrumentation import EmbeddingCacheEvent, Handler, Listeners, emit
from embed_core.kvstore import visit

_log = logging.getLogger("embed_core.cache")


@dataclass(frozen=True, slots=True)
class Recalled:
    """Reads the cache; a store that fails is reported once and bypassed for a while."""

    cache: Cache
    model: str
    listeners: Listeners

    async def __call__(self, request: Request, next: Onward, io: IO) -> Result:
        keys = self.cache.keys(request.kind, request.inputs)
        known = await visit(self.cache.store, io, lambda: self._look_up(keys))
        if listeners := self.listeners():
            await self._tell(request, sum(key in known for key in keys), listeners, io)
        missing = _missing(keys, known)
        request.progress.skip(len(keys) - len(missing))
        _log.debug("`%s`: %d of %d inputs are not in the cache", self.model, len(missing), len(keys))
        if not missing:
            return Result.of(_assemble(keys, known))
        request = replace(request, keys=keys)
        if len(missing) == len(keys):
            return await next(request)
        fresh = await next(request.pick(list(missing.values())))
        if fresh.vectors.shape[1] and any(len(vector) != fresh.vectors.shape[1] for vector in known.values()):
            return await self(request, next, io)  # now they are known to be stale
        result = Result(len(keys))
        at = {key: place for place, key in enumerate(missing)}
        waiting = [row for row, key in enumerate(keys) if key in at]
        result.place(waiting, fresh.pick([at[keys[row]] for row in waiting]))
        there = [row for row, key in enumerate(keys) if key in known]
        if there:
            result.place(there, Result.of(_assemble([keys[row] for row in there], known)))
        return result

    def _look_up(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        known = self.cache.known(keys)
        if len({len(vector) for vector in known.values()}) > 1:  # nothing tells which of them are right
            self.cache.forget(known)
            return {}
        return known

    async def _tell(self, request: Request, hits: int, listeners: Sequence[Handler], io: IO) -> None:
        misses, call_id = len(request.inputs) - hits, request.call_id
        event = EmbeddingCacheEvent(kind=request.kind, model=self.model, call_id=call_id, hits=hits, misses=misses)
        await emit(event, listeners, io)


def _missing(keys: Sequence[bytes], known: Mapping[bytes, Vectors]) -> dict[bytes, int]:
    """Return the first row of each key that is not known."""
    first: dict[bytes, int] = {}
    for row, key in enumerate(keys):
        if key not in known:
            first.setdefault(key, row)
    return first


def _assemble(keys: Sequence[bytes], vectors: Mapping[bytes, Vectors]) -> Vectors:
    return np.concatenate([vectors[key] for key in keys]).reshape(len(keys), -1)
