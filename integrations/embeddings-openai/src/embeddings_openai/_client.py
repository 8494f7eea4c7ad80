"""The SDK's clients: one for threads, one for each event loop, made on first use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Clients:
    """Makes clients when they are needed and closes them; usable again after closing.

    Attributes:
        settings: what the clients are made with, to see when others are needed.
        pid: the process that made them; a forked child must not share its parent's connections.
        make: returns the sync client.
        amake: returns an async client; the running loop is the one it will belong to.
        owned: whether closing the sync client is ours to do; a transport that the user gave is the user's.
        aowned: the same for async clients.
    """

    settings: Any = field(repr=False)
    pid: int
    make: Callable[[], Any]
    amake: Callable[[], Any]
    owned: bool = True
    aowned: bool = True
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sync: Any = None
    _by_loop: dict[asyncio.AbstractEventLoop, tuple[Any, AsyncGenerator[None, None]]] = field(default_factory=dict)

    def sync(self) -> Any:
        """Return the client that threads share."""
        with self._lock:
            if self._sync is None:
                self._sync = self.make()
            return self._sync

    async def current(self) -> Any:
        """Return the client of the running event loop."""
        loop = asyncio.get_running_loop()
        known = self._by_loop.get(loop)
        if known is None:
            client = self.amake()
            known = client, _closing(client if self.aowned else None)
            with self._lock:
                over = [(one, self._by_loop.pop(one)[1]) for one in tuple(self._by_loop) if one.is_closed()]
                self._by_loop[loop] = known
            await anext(known[1])
            for one, closing in over:
                _finish(one, closing)
        return known[0]

    def close(self) -> None:
        """Close every client, those of other loops as soon as their loop gets round to it."""
        with self._lock:
            sync, self._sync = self._sync, None
            others = list(self._by_loop.items())
            self._by_loop.clear()
        if sync is not None and self.owned:
            sync.close()
        for loop, (_, closing) in others:
            _finish(loop, closing)

    async def aclose(self) -> None:
        """Close every client, and wait for that of the running loop."""
        with self._lock:
            mine = self._by_loop.pop(asyncio.get_running_loop(), None)
        self.close()
        if mine is not None:
            await mine[1].aclose()


async def _closing(client: Any) -> AsyncGenerator[None, None]:
    """Close the client when the loop shuts its generators down, as `asyncio.run` does: nobody has to call `aclose`."""
    try:
        yield
    finally:
        if client is not None:
            await client.close()


def _finish(loop: asyncio.AbstractEventLoop, closing: AsyncGenerator[None, None]) -> None:
    if loop.is_closed():  # too late: sockets go with their memory; but an open client would then try in any other loop
        with suppress(Exception):
            _aclose(closing).send(None)
        return
    if loop.is_running():
        asyncio.run_coroutine_threadsafe(_aclose(closing), loop)
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop.run_until_complete(closing.aclose())


async def _aclose(closing: AsyncGenerator[None, None]) -> None:
    await closing.aclose()
