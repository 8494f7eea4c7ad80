"""One span per user call, around everything else that happens to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from embed_core._io import IO
from embed_core._types import Next, Request, Vectors
from embed_core.instrumentation import Listeners, Span, SpanHandler, emit


@dataclass(frozen=True, slots=True)
class Traced:
    """Tells the span handlers when a call begins and ends, and gives every event inside it the call's id."""

    model: str
    listeners: Listeners
    span_handlers: Callable[[], Sequence[SpanHandler]]

    async def __call__(self, request: Request, next: Next, io: IO) -> Vectors:
        handlers = self.span_handlers()
        if not handlers and not self.listeners():
            return await next(request)
        span = Span(kind=request.kind, model=self.model, size=len(request.inputs))
        await emit(span, [one.on_span_start for one in handlers], io)
        began, error = time.perf_counter(), None
        try:
            return await next(replace(request, call_id=span.id))
        except BaseException as raised:
            error = raised
            raise
        finally:
            ended = replace(span, duration=time.perf_counter() - began, error=error)
            await emit(ended, [one.on_span_end for one in reversed(handlers)], io)
