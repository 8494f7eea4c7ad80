"""Every finished batch goes into the cache before anything else can happen to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embed_core._cache import Cache
from embed_core._io import IO
from embed_core._result import Onward, Result
from embed_core._types import Request
from embed_core.kvstore import visit


@dataclass(frozen=True, slots=True)
class Remembered:
    """Writes the cache, inside batching: a crash loses one batch."""

    cache: Cache

    async def __call__(self, request: Request, next: Onward, io: IO) -> Result:
        result = await next(request)
        keys, vectors = self.cache.keys_of(request), result.vectors
        if not result.is_whole:
            rows = np.flatnonzero(result.done).tolist()
            keys, vectors = [keys[row] for row in rows], vectors[rows]
        begun: list[bool] = []

        def write() -> None:
            begun.append(True)
            self.cache.keep(keys, vectors)

        try:
            if keys:
                await visit(self.cache.store, io, write)
        finally:
            if keys and not begun:  # cancelled while it waited for a thread
                write()
        return result
