"""Every finished batch goes into the cache before anything else can happen to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embed_core._cache import Cache
from embed_core._io import IO
from embed_core._result import Onward, Result
from embed_core._types import Request


@dataclass(frozen=True, slots=True)
class Remembered:
    """Writes the cache, inside batching: a crash loses one batch."""

    cache: Cache

    async def __call__(self, request: Request, next: Onward, io: IO) -> Result:
        result = await next(request)
        rows = np.flatnonzero(result.done).tolist()
        begun: list[bool] = []

        def write() -> None:
            begun.append(True)
            keys = self.cache.keys_of(request)
            self.cache.keep([keys[row] for row in rows], result.vectors[rows])

        try:
            if rows:
                await self.cache.visit(io, write)
        finally:
            if rows and not begun:  # cancelled while it waited for a thread
                write()
        return result
