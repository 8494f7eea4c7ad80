"""Many texts, and a server that goes away in the middle."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from embed_core import RetryPolicy
from embed_core.errors import ProviderUnavailableError
from embed_core.kvstore import MemoryKVStore
from embed_core.testing import faults
from embeddings_openai import OpenAICompatibleEmbedding
from embeddings_openai.testing import FakeEmbeddingServer

COUNT, BATCH, WORKERS = 20_000, 100, 4


def texts(server: FakeEmbeddingServer, *, restart_at: int | None) -> Iterator[str]:
    """Yield the texts; on the way, stop the server and start it again a moment later."""
    for number in range(COUNT):
        if number == restart_at:
            server.latency = 0.02  # so that requests are in flight
            threading.Thread(target=restart, args=[server]).start()
        yield f"text {number}"


def restart(server: FakeEmbeddingServer) -> None:
    server.stop()
    server.latency = 0.0
    server.start()


@pytest.fixture
def server() -> Iterator[FakeEmbeddingServer]:
    with FakeEmbeddingServer(dimension=8) as running:
        yield running


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_restart_of_the_server_costs_no_vector_and_no_order(server: FakeEmbeddingServer, colour: str) -> None:
    model = OpenAICompatibleEmbedding(
        "m",
        api_base=server.base_url,
        embed_batch_size=BATCH,
        num_workers=WORKERS,
        retry=RetryPolicy(max_retries=20, initial_seconds=0.02, max_seconds=0.1),
    )
    given = texts(server, restart_at=COUNT // 2)

    async def stream() -> list[np.ndarray]:
        return [block async for block in model.astream_texts(given)]

    with model:
        blocks = list(model.stream_texts(given)) if colour == "sync" else asyncio.run(stream())
    assert max(len(block) for block in blocks) <= 4 * WORKERS * BATCH
    found = np.concatenate(blocks)
    assert np.array_equal(found, server.vectors([f"text {number}" for number in range(COUNT)]))
    assert COUNT <= sum(len(request.inputs) for request in server.requests) <= COUNT + WORKERS * BATCH


def test_what_was_finished_before_the_server_went_for_good_is_kept(server: FakeEmbeddingServer) -> None:
    store = MemoryKVStore()
    model = OpenAICompatibleEmbedding(
        "m", api_base=server.base_url, embed_batch_size=10, num_workers=1, max_retries=0, embeddings_cache=store
    )
    wanted = [f"text {number}" for number in range(50)]
    server.inject_when(lambda request: not set(wanted[30:]).isdisjoint(request.inputs), faults.reset())
    with model, pytest.raises(ProviderUnavailableError) as caught:
        model.embed_texts(wanted)
    assert set(caught.value.completed) == set(range(30))
    assert len(store) == 30
