"""The lists of handlers, the process-wide one among them, and how a record reaches them."""

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
"""Receives every event; may be a coroutine function. What it raises is logged and changes nothing."""

Listeners: TypeAlias = Callable[[], Sequence[Handler]]


class SpanHandler(Protocol):
    """Hears when a user's call begins and ends, in the caller's own context; the methods may be coroutine functions."""

    def on_span_start(self, span: Span) -> Awaitable[None] | None:
        """Hear that a call begins."""
        ...

    def on_span_end(self, span: Span) -> Awaitable[None] | None:
        """Hear that it has ended, with `duration` and, where it failed, `error`."""
        ...


_log = logging.getLogger("embed_core.events")


class Dispatcher:
    """Handlers and what they hear.

    An event handler is a callable that takes an event; a span handler has `on_span_start` and `on_span_end`. One object
    may be both. A handler that is removed while a call runs still hears the end of what it heard begin.
    """

    def __init__(self, handlers: Iterable[Any] = ()) -> None:
        self._lock = Lock()
        self.set_handlers(handlers)

    @property
    def handlers(self) -> tuple[Any, ...]:
        """The attached handlers, in the order in which they hear."""
        return self._attached

    @property
    def event_handlers(self) -> tuple[Handler, ...]:
        """Those that hear events; a snapshot, so removing one never disturbs an event under way."""
        return self._event_handlers

    @property
    def span_handlers(self) -> tuple[SpanHandler, ...]:
        """Those that hear spans; a snapshot."""
        return self._span_handlers

    def add_handler(self, handler: Any) -> None:
        """Attach a handler; it hears what begins from now on.

        Raises:
            ConfigurationError: it is no handler of any sort.
        """
        with self._lock:
            self._attach((*self._attached, handler))

    def remove_handler(self, handler: Any) -> None:
        """Detach a handler; detaching one that is not attached does nothing."""
        with self._lock:
            self._attach(tuple(one for one in self._attached if one != handler))

    def set_handlers(self, handlers: Iterable[Any]) -> None:
        """Attach these handlers and no others."""
        with self._lock:
            self._attach(tuple(handlers))

    def __reduce__(self) -> tuple[type[Dispatcher], tuple[tuple[Any, ...]]]:
        return type(self), (self._attached,)

    def _attach(self, handlers: tuple[Any, ...]) -> None:
        heard = [self._event_handler(one) for one in handlers]
        spans = tuple(one for one in handlers if hasattr(one, "on_span_start") and hasattr(one, "on_span_end"))
        for one, handler in zip(handlers, heard, strict=True):
            if handler is None and one not in spans:
                msg = (
                    f"`{type(one).__name__}` is no handler; it must be callable with an event, or have `on_span_start` "
                    "and `on_span_end`"
                )
                raise ConfigurationError(msg)
        self._attached, self._span_handlers = handlers, spans
        self._event_handlers = tuple(handler for handler in heard if handler is not None)

    def _event_handler(self, handler: Any) -> Handler | None:
        """Return how a handler hears events; None where it does not."""
        return handler if callable(handler) else None


dispatcher = Dispatcher()
"""The process-wide dispatcher."""


async def emit(record: RecordT, handlers: Iterable[Callable[[RecordT], Any]], io: IO) -> None:
    """Hand a record to each handler in turn."""
    for handler in handlers:
        try:
            waiting = handler(record)
            if inspect.isawaitable(waiting):
                await _finish(waiting, io)
        except Exception:  # a handler never changes a result
            _log.exception("handler %r failed on %s; the result is not affected", handler, type(record).__name__)


async def _finish(waiting: Awaitable[None], io: IO) -> None:
    async def coroutine() -> None:
        await waiting

    await io.call(lambda: _run_elsewhere(coroutine), coroutine)


def _run_elsewhere(coroutine: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine to its end from sync code, which may itself stand inside a running loop."""
    done = queue.SimpleQueue[BaseException | None]()

    def run() -> None:
        import asyncio

        asyncio.run(coroutine())

    DAEMONS.submit(partial(report, done, contextvars.copy_context(), run))
    raise_(done.get())
