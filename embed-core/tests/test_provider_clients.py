"""One client for each event loop, for integrations and for authors who port their own."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from typing import Any

import pytest
from embed_core.provider import ClientPool, PerLoop


class Client:
    """A client that belongs to the loop in which it was made."""

    def __init__(self) -> None:
        self.loop: Any = None
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class AsyncClient(Client):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()

    async def close(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        self.closed += 1


async def use(clients: PerLoop) -> AsyncClient:
    async with clients.lease() as client:
        assert client.loop is asyncio.get_running_loop()
        assert not client.closed
        return client


def test_every_loop_has_a_client_of_its_own_which_ends_with_it() -> None:
    clients = PerLoop(AsyncClient)

    async def twice() -> AsyncClient:
        first = await use(clients)
        assert await use(clients) is first
        return first

    one, other = asyncio.run(twice()), asyncio.run(twice())
    assert one is not other
    assert (one.closed, other.closed) == (1, 1)


def test_loops_of_several_threads_do_not_share_a_client() -> None:
    clients, made = PerLoop(AsyncClient), list[AsyncClient]()
    threads = [threading.Thread(target=lambda: made.append(asyncio.run(use(clients)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4


def test_closing_waits_for_a_request_and_the_next_use_makes_a_new_client() -> None:
    clients = PerLoop(AsyncClient)

    async def close_meanwhile() -> None:
        async with clients.lease() as client:
            clients.close()
            assert not client.closed
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert client.closed == 1
        assert await use(clients) is not client
        await clients.aclose()

    asyncio.run(close_meanwhile())


def test_a_client_of_the_users_is_left_open() -> None:
    mine: list[AsyncClient] = []

    def make() -> AsyncClient:
        mine.append(AsyncClient())
        return mine[0]

    clients = PerLoop(make, owned=False)
    asyncio.run(use(clients))
    assert mine[0].closed == 0


def test_a_pool_that_is_dropped_closes_its_client() -> None:
    pool = ClientPool(Client, AsyncClient)
    with pool.shared() as client:
        pass
    del pool
    gc.collect()
    assert client.closed == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_shares_no_client() -> None:
    pool = ClientPool(Client, AsyncClient)
    with pool.shared() as client:
        child = os.fork()
        if child == 0:
            with pool.shared() as other:
                os._exit(0 if other is not client and not client.closed else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    pool.close()
    assert client.closed == 1
