"""Flow control of an account with a server."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from embed_core.errors import RateLimitError
from embed_core.testing import faults
from embeddings_openai import OpenAIEmbedding
from embeddings_openai.testing import FakeEmbeddingServer


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until something has happened."""
    while not condition():
        await asyncio.sleep(0)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_up_to_num_workers_requests_are_in_flight(model: OpenAIEmbedding, server: Any, colour: str) -> None:
    server.crowd = 4
    model.embed_batch_size, model.num_workers = 1, 4
    texts = [str(number) for number in range(12)]
    if colour == "sync":
        model.embed_texts(texts)
    else:
        asyncio.run(model.aembed_texts(texts))
    assert server.most == 4


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_after_a_429_fewer_requests_are_in_flight(model: OpenAIEmbedding, server: Any, colour: str) -> None:
    first, texts = [f"first {number}" for number in range(8)], [str(number) for number in range(16)]

    def answer_the_others() -> None:
        while math.isinf(model._settled().flow.limit):  # until the objection to one of eight is heard
            threading.Event().wait(0.001)
        server.release()

    async def both() -> None:
        await model.aembed_texts(first)
        server.crowd, server.most = 4, 0
        await model.aembed_texts(texts)

    model.embed_batch_size, model.num_workers = 1, 8
    server.crowd, server.held = 8, set(first[1:])
    server.inject(faults.rate_limited("0"))
    others = threading.Thread(target=answer_the_others)
    others.start()
    if colour == "sync":
        model.embed_texts(first)
        server.crowd, server.most = 4, 0
        model.embed_texts(texts)
    else:
        asyncio.run(both())
    others.join()
    assert 4 <= server.most < 8
    assert {text for request in server.requests for text in request.inputs} == {*first, *texts}


def test_a_pause_beyond_all_patience_is_an_error_at_once(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    server.inject(faults.rate_limited("1000"))
    for _ in range(2):  # the second finds the pause, not the server
        with pytest.raises(RateLimitError) as caught:
            model.get_text_embedding("a")
        assert caught.value.retry_after == pytest.approx(1000, rel=0.01)
    assert len(server.requests) == 1


def test_a_pause_holds_for_the_next_model_too(server: FakeEmbeddingServer) -> None:
    server.inject(faults.rate_limited("1000"))
    for _ in range(2):
        model = OpenAIEmbedding(api_key=server.api_key, api_base=server.base_url)
        with model, pytest.raises(RateLimitError):
            model.get_text_embedding("a")
        del model
        gc.collect()
    assert len(server.requests) == 1


def test_a_cancelled_call_leaves_the_queue(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    async def cancel_one_that_waits() -> None:
        flow = model._settled().flow
        flow.limit = 1.0
        held = flow.ask(first=False, tokens=1)
        waiting = asyncio.create_task(model.aget_text_embedding("a"))
        await until(lambda: flow._waiting)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        flow.leave(held)
        assert len(await model.aget_text_embedding("b")) == 1536

    asyncio.run(cancel_one_that_waits())
    assert [request.inputs for request in server.requests] == [["b"]]


def test_threads_and_event_loops_wait_in_one_queue(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    flow = model._settled().flow
    flow.limit = 1.0
    held = flow.ask(first=False, tokens=1)
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(model.get_text_embedding("a")))),
        threading.Thread(target=lambda: found.append(len(asyncio.run(model.aget_text_embedding("b"))))),
    ]
    for thread in threads:
        thread.start()
    while len(flow._waiting) < 2:
        threading.Event().wait(0.001)
    flow.leave(held)
    for thread in threads:
        thread.join()
    assert found == [1536, 1536]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("place", ["in the queue", "in flight"])
def test_a_request_whose_event_loop_is_closed_holds_up_nobody(model: OpenAIEmbedding, server: Any, place: str) -> None:
    server.held = {"a"}
    flow = model._settled().flow
    flow.limit = 1.0
    held = flow.ask(first=False, tokens=1) if place == "in the queue" else None
    loop = asyncio.new_event_loop()
    lost = loop.create_task(model.aget_text_embedding("a"))
    loop.run_until_complete(until(lambda: server.under_way or flow._waiting))
    loop.close()
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(len(model.get_text_embedding("b"))), daemon=True)
    thread.start()
    if held is not None:
        flow.leave(held)
    thread.join(60)
    assert found == [1536]
    server.release()
    del loop, lost
    gc.collect()  # now, not in another test: asyncio has something to say
    assert len(model.get_text_embedding("c")) == 1536


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_requests_of_an_event_loop_that_is_not_run_again_hold_up_nobody(model: OpenAIEmbedding, server: Any) -> None:
    texts = [str(number) for number in range(8)]
    server.held, model.embed_batch_size = set(texts), 1
    loop = asyncio.new_event_loop()  # as Ctrl-C leaves it
    lost = loop.create_task(model.aembed_texts(texts))
    loop.run_until_complete(until(lambda: server.under_way == len(texts)))
    server.inject(faults.rate_limited("0"))
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(len(model.get_text_embedding("b"))), daemon=True)
    thread.start()
    thread.join(60)
    assert found == [1536]
    server.release()
    assert len(loop.run_until_complete(lost)) == 8  # it may go on nevertheless
    loop.run_until_complete(model.aclose())
    loop.close()
