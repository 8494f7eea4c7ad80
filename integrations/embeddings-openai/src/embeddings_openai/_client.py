"""The SDK's clients: one for threads, one for each event loop, made on first use, closed after the last."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any


@dataclass(slots=True, eq=False)
class Lent:
    """A client and how many requests use it, each in a `with` block.

    Attributes:
        closing: a generator that waits to close an async client, and whose loop closes it at its own end.
        given_up: whether the last request that uses it has to close it.
    """

    client: Any
    close: Callable[[], object]
    lock: threading.RLock
    closing: AsyncGenerator[None, None] | None = None
    users: int = 0
    given_up: bool = False

    def __enter__(self) -> Any:
        return self.client

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1
            over = self.given_up and not self.users
        if over:
            self.close()

    def give_up(self) -> bool:
        """Lend it no more; tell whether it can be closed now, because no request uses it."""
        with self.lock:
            self.given_up = True
            return not self.users


@dataclass(slots=True)
class Clients:
    """Makes clients when they are needed and closes them when they are not; usable again after closing.

    Attributes:
        pid: the process that made them; a forked child must not share its parent's connections.
        make: returns the sync client.
        amake: returns an async client; the running loop is the one it will belong to.
        owned: whether closing the sync client is ours to do; a transport that the user gave is the user's.
        aowned: the same for async clients.
        former: whether others have taken their place, so that a late request keeps no client open.
    """

    pid: int
    make: Callable[[], Any]
    amake: Callable[[], Any]
    owned: bool = True
    aowned: bool = True
    former: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)  # to collect a lost task is to end its request
    _sync: Lent | None = None
    _by_loop: dict[asyncio.AbstractEventLoop, Lent] = field(default_factory=dict)

    def sync(self) -> Lent:
        """Lend the client that threads share."""
        with self._lock:
            lent = self._sync
            if lent is None:
                client = self.make()
                lent = Lent(client, client.close if self.owned else _nothing, self._lock, given_up=self.former)
                self._sync = None if self.former else lent
            lent.users += 1
            return lent

    async def current(self) -> Lent:
        """Lend the client of the running event loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if (known := self._by_loop.get(loop)) is not None:
                known.users += 1
                return known
        client = self.amake()
        closing = _closing(client if self.aowned else None)
        lent = Lent(client, partial(_finish, loop, closing), self._lock, closing, users=1)
        with self._lock:
            over = [self._by_loop.pop(one) for one in tuple(self._by_loop) if one.is_closed()]
            lent.given_up = self.former
            if not self.former:
                self._by_loop[loop] = lent
        await anext(closing)
        for one in over:
            one.close()
        return lent

    def close(self) -> None:
        """Close every client after its last request, those of other loops as soon as their loop gets round to it."""
        with self._lock:
            sync, self._sync = self._sync, None
            others = list(self._by_loop.items())
            self._by_loop.clear()
        if sync is not None and sync.give_up():
            sync.close()
        for loop, lent in others:
            if lent.give_up() or not loop.is_running():  # where nothing runs no request will end
                lent.close()

    async def aclose(self) -> None:
        """Close every client, and wait for that of the running loop unless a request uses it."""
        with self._lock:
            mine = self._by_loop.pop(asyncio.get_running_loop(), None)
        self.close()
        if mine is not None and mine.give_up() and mine.closing is not None:
            await mine.closing.aclose()

    def retire(self) -> None:
        """Close every client for good, because others take their place."""
        with self._lock:
            self.former = True
        self.close()


def _nothing() -> None:
    """Leave a client of the user's open."""


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
