"""One start and one end or error event per provider call, and nothing at all when nobody listens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from embed_core._io import IO
from embed_core._types import Next, Origin, Request, Vectors
from embed_core.instrumentation import EmbeddingEndEvent, EmbeddingErrorEvent, EmbeddingStartEvent, Listeners, emit

_log = logging.getLogger("embed_core")


@dataclass(frozen=True, slots=True)
class Instrumented:
    """Tells the listeners the inputs, vectors, duration and usage of each provider call."""

    model: str
    origin: Callable[[], Origin]
    listeners: Listeners

    async def __call__(self, request: Request, next: Next, io: IO) -> Vectors:
        listeners = self.listeners()
        _log.debug("`%s`: a call with %d inputs of kind %s", self.model, len(request.inputs), request.kind)
        if not listeners:
            return await next(request)
        start = EmbeddingStartEvent(
            kind=request.kind, model=self.model, chunks=request.inputs, call_id=request.call_id, origin=self.origin()
        )
        await emit(start, listeners, io)
        began = time.perf_counter()
        try:
            vectors = await next(request)
        except BaseException as error:
            failed = EmbeddingErrorEvent.after(start, time.perf_counter() - began, request.report, error=error)
            await emit(failed, listeners, io)
            raise
        ended = EmbeddingEndEvent.after(
            start,
            time.perf_counter() - began,
            request.report,
            embeddings=vectors.copy(),  # handlers may keep it, and the caller may change its own
            truncated=request.truncated,
        )
        await emit(ended, listeners, io)
        return vectors
