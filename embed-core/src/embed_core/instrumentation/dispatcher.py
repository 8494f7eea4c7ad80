"""The process-wide list of event handlers, and how an event reaches them."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from embed_core._io import DAEMONS, IO
from embed_core.instrumentation.events import EmbeddingEvent

Handler: TypeAlias = Callable[[EmbeddingEvent], Awaitable[None] | None]
"""Receives every event; may be a coroutine function. What it raises is logged and changes nothing."""

Listeners: TypeAlias = Callable[[], Sequence[Handler]]

_log = logging.getLogger("embed_core.events")


class Dispatcher:
    """Handlers that hear the events of every model in the process."""

    def __init__(self) -> None:
        self._handlers: tuple[Handler, ...] = ()
        self._lock = threading.Lock()

    @property
    def handlers(self) -> tuple[Handler, ...]:
        """The attached handlers; a snapshot, so removing one never disturbs an event under way."""
        return self._handlers

    def add_handler(self, handler: Handler) -> None:
        """Attach a handler; it hears events from now on."""
        with self._lock:
            self._handlers = (*self._handlers, handler)

    def remove_handler(self, handler: Handler) -> None:
        """Detach a handler; detaching one that is not attached does nothing."""
        with self._lock:
            self._handlers = tuple(one for one in self._handlers if one is not handler)


dispatcher = Dispatcher()
"""The process-wide dispatcher."""


async def emit(event: EmbeddingEvent, handlers: Sequence[Handler], io: IO) -> None:
    """Hand an event to each handler in turn."""
    for handler in handlers:
        try:
            waiting = handler(event)
            if inspect.isawaitable(waiting):
                await _finish(waiting, io)
        except Exception:  # noqa: BLE001  # a handler never changes a result
            _log.warning("event handler %r failed on %s", handler, type(event).__name__, exc_info=True)


async def _finish(waiting: Awaitable[None], io: IO) -> None:
    async def coroutine() -> None:
        await waiting

    await io.call(lambda: _run_elsewhere(coroutine), coroutine)


def _run_elsewhere(coroutine: Callable[[], Any]) -> None:
    """Run a coroutine to its end from sync code, which may itself stand inside a running loop."""
    done = threading.Event()
    errors: list[Exception] = []

    def run() -> None:
        try:
            asyncio.run(coroutine())
        except Exception as error:  # noqa: BLE001  # raised in the caller's thread
            errors.append(error)
        finally:
            done.set()

    DAEMONS.submit(run)
    done.wait()
    if errors:
        raise errors[0]
