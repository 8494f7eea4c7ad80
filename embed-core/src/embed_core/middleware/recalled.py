"""Vectors that are in the cache already: looked up for the whole input at once, each missing input asked for once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embed_core._io import IO
from embed_core._types import Kind, Next, Request, Vectors
from embed_core.errors import EmbedError
from embed_core.instrumentation import EmbeddingCacheEvent, Listeners, emit
from embed_core.kvstore import KVStore, decode

_log = logging.getLogger("embed_core.cache")


@dataclass(frozen=True, slots=True)
class Recalled:
    """Reads the cache; a store that fails is reported and bypassed."""

    store: KVStore
    keys: Callable[[Kind, Sequence[Any]], list[bytes]]
    model: str
    listeners: Listeners

    async def __call__(self, request: Request, next: Next, io: IO) -> Vectors:
        keys = self.keys(request.kind, request.inputs)
        known = await self._look_up(keys, io)
        hits = sum(key in known for key in keys)
        if self.listeners():
            event = EmbeddingCacheEvent(kind=request.kind, model=self.model, hits=hits, misses=len(keys) - hits)
            await emit(event, self.listeners(), io)
        missing = _missing(keys, known)
        request.progress.advance(len(keys) - len(missing))
        fresh = await self._fetch(request, keys, known, missing, next)
        if len(fresh) == len(keys):
            return fresh
        if (
            len({len(vector) for vector in known.values()} | {fresh.shape[1]} - {0}) > 1
        ):  # another dimension's leftovers
            return await next(request)
        return _assemble(keys, known | dict(zip(missing, fresh, strict=True)))

    async def _look_up(self, keys: Sequence[bytes], io: IO) -> dict[bytes, Vectors]:
        distinct = list(dict.fromkeys(keys))
        try:
            return decode(await io.call(lambda: self.store.get_many(distinct)))
        except Exception:  # noqa: BLE001  a cache never loses or blocks an embedding
            _log.warning("the embeddings cache could not be read and is bypassed", exc_info=True)
            return {}

    async def _fetch(
        self,
        request: Request,
        keys: Sequence[bytes],
        known: Mapping[bytes, Vectors],
        missing: Mapping[bytes, int],
        next: Next,
    ) -> Vectors:
        if not missing:
            return np.empty((0, 0), dtype=np.float32)
        try:
            return await next(request.pick(list(missing.values())))
        except EmbedError as error:
            _add_hits_and_duplicates(error, request, keys, known)
            raise


def _missing(keys: Sequence[bytes], known: Mapping[bytes, Vectors]) -> dict[bytes, int]:
    """Return the first row of each key that is not known."""
    first: dict[bytes, int] = {}
    for row, key in enumerate(keys):
        if key not in known:
            first.setdefault(key, row)
    return first


def _assemble(keys: Sequence[bytes], vectors: Mapping[bytes, Vectors]) -> Vectors:
    rows = np.empty((len(keys), len(vectors[keys[0]])), dtype=np.float32)
    for row, key in enumerate(keys):
        rows[row] = vectors[key]
    return rows


def _add_hits_and_duplicates(
    error: EmbedError, request: Request, keys: Sequence[bytes], known: Mapping[bytes, Vectors]
) -> None:
    position = dict(zip(request.indices, keys, strict=True))
    done = dict(known) | {position[index]: vector for index, vector in error.completed.items()}
    reasons = {position[index]: reason for index, reason in error.failed.items()}
    error.completed = {index: done[key] for index, key in position.items() if key in done}
    error.failed = {index: reasons[key] for index, key in position.items() if key in reasons}
