"""Lists of handlers, the process-wide list among them, and the way of a record to its handlers."""

from __future__ import annotations

import contextvars
import inspect
import logging
import queue
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from embed_core._io import IO
from embed_core._threads import DAEMONS, raise_, report
from embed_core.errors import ConfigurationError
from embed_core.forks import Lock
from embed_core.instrumentation.events import EmbeddingEvent, Span

RecordT = TypeVar("RecordT")

Handler: TypeAlias = Callable[[EmbeddingEvent], Awaitable[None] | None]
"""Receives every event; may be a coroutine function. An error it raises is logged and changes nothing."""

Listeners: TypeAlias = Callable[[], Sequence[Handler]]


class SpanHandler(Protocol):
    """Receives start and end of each user's call, in the caller's context; the methods may be coroutine functions."""

    def on_span_start(self, span: Span) -> Awaitable[None] | None:
        """Receive the start of a call."""
        ...

    def on_span_end(self, span: Span) -> Awaitable[None] | None:
        """Receive its end, with `duration` and, where it failed, `error`."""
        ...


_log = logging.getLogger("embed_core.events")


class Dispatcher:
    """Handlers of events and of spans.

    An event handler is a callable that takes an event; a span handler has `on_span_start` and `on_span_end`. One object
    may be both. A handler that is removed during a call still receives the end of everything whose start it received.

    Attributes:
        event_handlers: the handlers of events; replaced, never changed, so that it can be iterated over at any time.
        span_handlers: the handlers of spans; the same.
    """

    event_handlers: tuple[Handler, ...]
    span_handlers: tuple[SpanHandler, ...]

    def __init__(self, handlers: Iterable[Any] = ()) -> None:
        self._lock = Lock()
        self.set_handlers(handlers)

    @property
    def handlers(self) -> tuple[Any, ...]:
        """The attached handlers, in the order in which they receive a record."""
        return self._handlers

    def add_handler(self, handler: Any) -> None:
        """Attach a handler, which receives everything that begins from now on.

        Raises:
            ConfigurationError: it handles neither events nor spans.
        """
        with self._lock:
            self._attach((*self._handlers, handler))

    def remove_handler(self, handler: Any) -> None:
        """Detach a handler, if it is attached."""
        with self._lock:
            self._attach(tuple(attached for attached in self._handlers if attached != handler))

    def set_handlers(self, handlers: Iterable[Any]) -> None:
        """Replace all handlers."""
        with self._lock:
            self._attach(tuple(handlers))

    def __reduce__(self) -> tuple[type[Dispatcher], tuple[tuple[Any, ...]]]:
        return type(self), (self._handlers,)

    def _attach(self, handlers: tuple[Any, ...]) -> None:
        of_events, of_spans = [], []
        for handler in handlers:
            handles_spans = hasattr(handler, "on_span_start") and hasattr(handler, "on_span_end")
            if handles_spans:
                of_spans.append(handler)
            if (event_handler := self._event_handler(handler)) is not None:
                of_events.append(event_handler)
            elif not handles_spans:
                msg = f"`{type(handler).__name__}` is no handler; expected a callable that takes an event, or an object"
                raise ConfigurationError(f"{msg} with `on_span_start` and `on_span_end`")
        self._handlers, self.event_handlers, self.span_handlers = handlers, tuple(of_events), tuple(of_spans)

    def _event_handler(self, handler: Any) -> Handler | None:
        """Return the callable that takes events for a handler; None where it has none."""
        return handler if callable(handler) else None


dispatcher = Dispatcher()
"""The process-wide dispatcher."""


async def emit(record: RecordT, handlers: Iterable[Callable[[RecordT], Any]], io: IO) -> None:
    """Call each handler with a record."""
    for handler in handlers:
        try:
            result = handler(record)
            if inspect.isawaitable(result):
                await _finish(result, io)
        except Exception:  # a handler never changes a result
            _log.exception("handler %r failed on %s; the result is not affected", handler, type(record).__name__)


async def _finish(result: Awaitable[None], io: IO) -> None:
    async def coroutine() -> None:
        await result

    await io.call(lambda: _run_in_thread(coroutine), coroutine)


def _run_in_thread(coroutine: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine to its end for sync code, whose thread may have a running event loop."""
    done = queue.SimpleQueue[BaseException | None]()

    def run() -> None:
        import asyncio

        asyncio.run(coroutine())

    DAEMONS.submit(partial(report, done, contextvars.copy_context(), run))
    raise_(done.get())
