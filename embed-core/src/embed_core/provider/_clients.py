"""Clients of an SDK or HTTP library: one for threads, one for each event loop, closed after their last request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from embed_core.forks import reset_in_children


@dataclass(slots=True, eq=False)
class Lease:
    """A client and the number of requests that use it, each in a `with` block.

    Attributes:
        closing: a generator that waits to close an async client, and whose loop closes it at its own end.
        retired: whether the last request that uses the client has to close it.
    """

    client: Any
    close: Callable[[], object]
    lock: threading.RLock
    closing: AsyncGenerator[None, None] | None = None
    users: int = 0
    retired: bool = False

    def __enter__(self) -> Any:
        return self.client

    def __exit__(self, *_: object) -> None:
        if self.leave():
            self.close()

    def leave(self) -> bool:
        """Count one request less; tell whether the client has to be closed now."""
        with self.lock:
            self.users -= 1
            return self.retired and not self.users

    def retire(self) -> bool:
        """Give the client to nobody else; tell whether it can be closed now, because no request uses it."""
        with self.lock:
            self.retired = True
            return not self.users


class PerLoop:
    """One async client for each event loop, as asyncio's clients need; closed with its loop, or by `close`.

    A client is made on first use, from any thread: `async with clients.lease() as client: …`. A forked child begins
    with no clients.
    """

    def __init__(self, make: Callable[[], Any], *, owned: bool = True) -> None:
        """Take a function that makes a client of the running loop; `owned` says whether closing it is ours to do."""
        self._make = make
        self._owned = owned
        self._retired = False
        self.reset()
        reset_in_children(self)

    def reset(self) -> None:
        """Forget every client, as a forked child must: the connections are the parent's."""
        self._lock = threading.RLock()  # to collect a lost task is to end its request
        self._by_loop: dict[asyncio.AbstractEventLoop, Lease] = {}

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Any]:
        """Give the client of the running event loop to one request."""
        lease = await self._of_the_loop()
        try:
            yield lease.client
        finally:
            if lease.leave() and lease.closing is not None:
                await lease.closing.aclose()  # here, because a task of its own may be cancelled at the loop's end

    async def _of_the_loop(self) -> Lease:
        loop = asyncio.get_running_loop()
        with self._lock:
            if (known := self._by_loop.get(loop)) is not None:
                known.users += 1
                return known
        client = self._make()
        closing = _closing(client if self._owned else None)
        lease = Lease(client, partial(_finish, loop, closing), self._lock, closing, users=1)
        with self._lock:
            over = [self._by_loop.pop(one) for one in tuple(self._by_loop) if one.is_closed()]
            lease.retired = self._retired
            if not self._retired:
                self._by_loop[loop] = lease
        await anext(closing)
        for one in over:
            one.close()
        return lease

    def close(self) -> None:
        """Close every client after its last request, in its own loop; the next use makes new ones."""
        with self._lock:
            leases = list(self._by_loop.items())
            self._by_loop.clear()
        for loop, lease in leases:
            if lease.retire() or not loop.is_running():  # where nothing runs no request will end
                lease.close()

    async def aclose(self) -> None:
        """Close every client, and wait for that of the running loop unless a request uses it."""
        with self._lock:
            mine = self._by_loop.pop(asyncio.get_running_loop(), None)
        self.close()
        if mine is not None and mine.retire() and mine.closing is not None:
            await mine.closing.aclose()

    def retire(self) -> None:
        """Close every client for good: others take their place, and a late request keeps none open."""
        self._retired = True
        self.close()


class ClientPool(PerLoop):
    """One client that threads share, beside one for each event loop."""

    def __init__(
        self, make: Callable[[], Any], amake: Callable[[], Any], *, owned: bool = True, aowned: bool = True
    ) -> None:
        """Take functions that make a sync and an async client, and whether closing them is ours to do."""
        self._make_shared = make
        self._owns_shared = owned
        super().__init__(amake, owned=aowned)

    def reset(self) -> None:
        """Forget every client, as a forked child must."""
        super().reset()
        self._shared: Lease | None = None

    def __del__(self) -> None:
        if self._shared is not None and self._shared.retire():
            self._shared.close()

    def shared(self) -> Lease:
        """Return the client that threads share, to use in a `with` block."""
        with self._lock:
            lease = self._shared
            if lease is None:
                client = self._make_shared()
                close = client.close if self._owns_shared else _leave_open
                lease = Lease(client, close, self._lock, retired=self._retired)
                self._shared = None if self._retired else lease
            lease.users += 1
            return lease

    def close(self) -> None:
        """Close every client after its last request; the next use makes new ones."""
        with self._lock:
            lease, self._shared = self._shared, None
        if lease is not None and lease.retire():
            lease.close()
        super().close()


def _leave_open() -> None:
    """Leave a client of the user's open."""


async def _closing(client: Any) -> AsyncGenerator[None, None]:
    """Close the client when the loop shuts its generators down, as `asyncio.run` does: nobody has to call `aclose`."""
    try:
        yield
    finally:
        if client is not None:
            await (client.aclose if hasattr(client, "aclose") else client.close)()


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
