"""Vectors that are in the cache already: looked up for the whole input at once, each missing input asked for once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embed_core._io import IO
from embed_core._rows import Rows
from embed_core._space import Dimension
from embed_core._types import Kind, Next, Request, Vectors
from embed_core.errors import EmbedError
from embed_core.instrumentation import EmbeddingCacheEvent, Listeners, emit
from embed_core.kvstore import KVStore, visit

_log = logging.getLogger("embed_core.cache")


@dataclass(frozen=True, slots=True)
class Recalled:
    """Reads the cache; a store that fails is reported and bypassed."""

    store: KVStore
    keys: Callable[[Kind, Sequence[Any]], list[bytes]]
    rows: Rows
    dimension: Dimension
    model: str
    listeners: Listeners

    async def __call__(self, request: Request, next: Next, io: IO) -> Vectors:
        keys = self.keys(request.kind, request.inputs)
        known = await visit(self.store, io, lambda: self._look_up(list(dict.fromkeys(keys))))
        await self._tell(request, hits=sum(key in known for key in keys), io=io)
        missing = _missing(keys, known)
        request.progress.advance(len(keys) - len(missing))
        if not missing:
            return _assemble(keys, known)
        try:
            fresh = await next(request.pick(list(missing.values())))
        except EmbedError as error:
            _add_hits_and_duplicates(error, request, keys, known)
            raise
        if len(fresh) == len(keys):
            return fresh
        if any(len(vector) != fresh.shape[1] for vector in known.values()):  # now they are known to be stale
            return await self(request, next, io)
        return _assemble(keys, known | dict(zip(missing, fresh, strict=True)))

    def _look_up(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        try:
            known = self.rows.decode(self.store.get_many(keys), self.dimension.known)
            if len({len(vector) for vector in known.values()}) > 1:  # nothing tells which of them are right
                self.store.delete_many(list(known))
                return {}
        except Exception:  # a cache never loses or blocks an embedding
            _log.warning("the embeddings cache could not be read and is bypassed", exc_info=True)
            return {}
        return known

    async def _tell(self, request: Request, *, hits: int, io: IO) -> None:
        if listeners := self.listeners():
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
    first = vectors[keys[0]]
    rows = np.empty((len(keys), len(first)), dtype=first.dtype)
    for row, key in enumerate(keys):
        rows[row] = vectors[key]
    return rows


def _add_hits_and_duplicates(
    error: EmbedError, request: Request, keys: Sequence[bytes], known: Mapping[bytes, Vectors]
) -> None:
    position = dict(zip(request.ids, keys, strict=True))
    done = dict(known) | {position[id_]: vector for id_, vector in error.completed.items()}
    reasons = {position[id_]: reason for id_, reason in error.failed.items()}
    error.completed = {id_: done[key] for id_, key in position.items() if key in done}
    error.failed = {id_: reasons[key] for id_, key in position.items() if key in reasons}
    index = dict(zip(request.ids, request.indices, strict=True))
    error.indices = tuple(sorted({*error.indices, *(index[id_] for id_ in error.failed)}))
