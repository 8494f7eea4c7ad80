"""Every finished batch goes into the cache before anything else can happen to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from embed_core._io import IO
from embed_core._rows import Rows
from embed_core._types import Kind, Next, Request, Vectors
from embed_core.kvstore import KVStore, visit

_log = logging.getLogger("embed_core.cache")


@dataclass(frozen=True, slots=True)
class Remembered:
    """Writes the cache, inside batching: a crash loses one batch. A store that fails is reported and bypassed."""

    store: KVStore
    keys: Callable[[Kind, Sequence[Any]], list[bytes]]
    rows: Rows

    async def __call__(self, request: Request, next: Next, io: IO) -> Vectors:
        vectors = await next(request)
        begun: list[bool] = []

        def write() -> None:
            begun.append(True)
            self._write(request, vectors)

        try:
            await visit(self.store, io, write)
        finally:
            if not begun:  # cancelled while it waited for a thread
                write()
        return vectors

    def _write(self, request: Request, vectors: Vectors) -> None:
        try:
            keys = self.keys(request.kind, request.inputs)
            self.store.put_many(dict(zip(keys, self.rows.encode(vectors), strict=True)))
        except Exception:  # a cache never loses or blocks an embedding
            _log.warning("the embeddings cache could not be written and is bypassed", exc_info=True)
