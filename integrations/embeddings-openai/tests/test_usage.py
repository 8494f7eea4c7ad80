from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from embed_core import Estimate, Kind, Request, Vectors
from embed_core.errors import ConfigurationError, InvalidInputError, QuotaExceededError
from embed_core.kvstore import MemoryKVStore
from embed_core.provider._usage import Budgeted, InFlight, Meter
from embed_core.testing import faults
from embeddings_openai import KNOWN, PRICES_AS_OF, OpenAIEmbedding, Usage
from embeddings_openai.testing import FakeEmbeddingServer


def test_usage_adds_up_over_calls_and_colours(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    assert model.usage == Usage(requests=0, tokens=0, price=0.0)
    model.embed_batch_size = 1
    model.embed_texts(["four", "eight888"])
    asyncio.run(model.aembed_texts(["four"]))
    model.get_query_embedding("four")
    assert model.usage == Usage(requests=4, tokens=5, price=pytest.approx(5 * 0.02e-6))


def test_failures_and_cache_hits_are_not_used(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    model.embeddings_cache = MemoryKVStore()
    server.inject(faults.rate_limited("0"))
    model.embed_texts(["four"])
    model.embed_texts(["four"])
    assert model.usage.requests == 1


def test_an_unknown_model_has_no_price_unless_it_is_given() -> None:
    assert OpenAIEmbedding("other").usage.price is None
    assert OpenAIEmbedding("other", price_per_million_tokens=1.0).usage.price == 0.0


def test_the_price_table_says_of_when_it_is() -> None:
    assert len(PRICES_AS_OF) == len("2026-05")
    assert {name: known.price for name, known in KNOWN.items()}["text-embedding-3-large"] == 0.13


def test_an_estimate_sends_nothing_and_counts_the_cache(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    model.embeddings_cache = MemoryKVStore()
    model.embed_texts(["known"])
    del server.requests[:]
    found = model.estimate(iter(["known", "twelve bytes", "twelve bytes", "four"]))
    assert found == Estimate(inputs=4, cached=2, tokens=4, price=pytest.approx(4 * 0.02e-6))
    assert server.requests == []


def test_an_estimate_of_a_text_that_will_be_cut_is_of_what_remains(model: OpenAIEmbedding) -> None:
    assert asyncio.run(model.aestimate(["x" * 1_000_000])).tokens == 8192


def test_an_estimate_whose_cache_hangs_can_be_given_up(model: OpenAIEmbedding) -> None:
    class Hanging(MemoryKVStore):
        waits = True

        def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
            assert go_on.wait(60)
            return {}

    go_on = threading.Event()
    model.embeddings_cache = Hanging()
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(model.aestimate(["a"]), 0.05))
    go_on.set()


def test_an_estimate_goes_past_a_cache_that_fails(model: OpenAIEmbedding, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(MemoryKVStore):
        def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
            raise OSError("the disk is on fire")

    model.embeddings_cache = Failing()
    assert model.estimate(["four", "four"]) == Estimate(inputs=2, cached=1, tokens=1, price=pytest.approx(0.02e-6))
    assert "the embeddings cache failed and is bypassed" in caplog.text


def test_an_estimate_of_a_bare_text_is_refused(model: OpenAIEmbedding) -> None:
    with pytest.raises(InvalidInputError, match="wrap it in a list"):
        model.estimate("a text")


def test_an_estimate_without_cache_counts_doubles(model: OpenAIEmbedding) -> None:
    assert model.estimate(["four", "four"]).tokens == 2
    assert model.estimate([]) == Estimate(0, 0, 0, 0.0)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_max_cost_stops_before_it_is_exceeded(server: FakeEmbeddingServer, colour: str) -> None:
    model = OpenAIEmbedding(
        api_key=server.api_key,
        api_base=server.base_url,
        price_per_million_tokens=1_000_000.0,  # a dollar a token
        max_cost=5.0,
        embed_batch_size=1,
        num_workers=2,
        embeddings_cache=MemoryKVStore(),
    )
    texts = [f"{number:08}" for number in range(10)]  # two tokens each
    with (
        model,
        pytest.raises(
            QuotaExceededError, match=r"^4 US dollars are spent and 0 on their way, and some 2 more would exceed"
        ) as caught,
    ):
        model.embed_texts(texts) if colour == "sync" else asyncio.run(model.aembed_texts(texts))
    assert model.usage.price == 4.0
    assert len(server.requests) == len(caught.value.completed) == len(model.embeddings_cache or ()) == 2


@pytest.mark.parametrize("usage", [{}, {"usage": {"prompt_tokens": -1000}}])
def test_an_answer_that_does_not_tell_its_tokens_is_charged_by_the_estimate(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, usage: dict[str, object]
) -> None:
    answer = {"data": [{"index": 0, "embedding": [1.0] * 1536}], **usage}
    server.inject_when(lambda _: True, faults.payload(answer))
    model.price_per_million_tokens, model.max_cost, model.embed_batch_size = 1_000_000.0, 5.0, 1
    with pytest.raises(QuotaExceededError):
        model.embed_texts([f"{number:08}" for number in range(10)])  # two tokens each, by the estimate
    assert model.usage == Usage(requests=2, tokens=0, price=4.0)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_max_cost_holds_for_texts_of_many_more_tokens_than_estimated(colour: str) -> None:
    with (
        FakeEmbeddingServer(dimension=8, latency=0.01, tokens_of=len) as server,  # a token a byte
        OpenAIEmbedding(
            api_key="any",
            api_base=server.base_url,
            dimensions=8,
            price_per_million_tokens=1_000_000.0,
            max_cost=100.0,
            embed_batch_size=1,
            num_workers=20,
        ) as model,
    ):
        texts = [f"{number:08}" for number in range(100)]
        with pytest.raises(QuotaExceededError):
            model.embed_texts(texts) if colour == "sync" else asyncio.run(model.aembed_texts(texts))
        assert model.usage.price == 96.0  # what fits is finished


def test_max_cost_may_be_exactly_what_was_estimated(model: OpenAIEmbedding) -> None:
    texts = ["x" * 4 * 6938]
    model.max_cost = model.estimate(texts).price  # 6938 * 0.02 / 0.02 is less than 6938
    assert len(model.embed_texts(texts)) == 1
    assert model.usage.price == model.max_cost


class Moments:
    """A runner whose sleeping takes no time but that of its clock; `at` says what happens meanwhile."""

    blocking, abandoned = True, False

    def __init__(self, at: Callable[[], object] = lambda: None) -> None:
        self.now, self._at = 0.0, at

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._at()


async def answered(request: Request) -> Vectors:
    return np.ones((len(request.inputs), 1), dtype=np.float32)


def seconds_waited(meter: Meter, kind: Kind = "text", io: Moments | None = None, *, patience: float = 60.0) -> float:
    """Send a request of two tokens on a budget of five; return how long it was held back."""
    io = io or Moments()
    budgeted = Budgeted(meter, 5.0, 1_000_000.0, lambda inputs: 2, patience, io.clock)
    asyncio.run(budgeted(Request(kind, ["second"], [0], [0]), answered, io))
    return io.now


@pytest.fixture
def meter() -> Meter:
    """A request of two tokens is under way, of a call that goes on."""
    meter = Meter()
    assert meter.reserve(2, 5.0) == 2
    meter.in_flight.add(InFlight(Moments()))
    return meter


@pytest.mark.parametrize(("kind", "seconds"), [("query", 0.0), ("text", 1.0)])
def test_only_documents_wait_for_a_slow_first_answer_and_only_briefly(meter: Meter, kind: Kind, seconds: float) -> None:
    assert seconds_waited(meter, kind) == pytest.approx(seconds, abs=0.1)


def test_documents_wait_no_longer_than_until_the_first_answer(meter: Meter) -> None:
    io = Moments(lambda: (meter.add(2, 2), meter.release(2)))
    assert 0 < seconds_waited(meter, io=io) < 0.1


def test_no_call_waits_for_a_first_request_of_a_call_that_was_interrupted(meter: Meter) -> None:
    (first,) = meter.in_flight
    first._call.abandoned = True
    assert seconds_waited(meter) == 0


def test_what_does_not_fit_waits_no_longer_than_for_a_sign_of_life(meter: Meter) -> None:
    meter.reserve(2, 5.0)
    io = Moments()
    with pytest.raises(QuotaExceededError, match="0 US dollars are spent and 4 on their way, and some 2 more"):
        seconds_waited(meter, io=io, patience=2.0)
    assert io.now == pytest.approx(2.0, abs=0.1)


def test_what_does_not_fit_waits_for_what_may_take_less(meter: Meter) -> None:
    meter.reserve(2, 5.0)
    io = Moments(lambda: meter.release(2))
    assert 0 < seconds_waited(meter, "query", io) < 0.1


def test_what_does_not_fit_beside_what_stands_still_is_refused_at_once(meter: Meter) -> None:
    meter.reserve(2, 5.0)
    (first,) = meter.in_flight
    first._call.abandoned = True
    io = Moments()
    with pytest.raises(QuotaExceededError):
        seconds_waited(meter, io=io)
    assert io.now == 0


@contextmanager
def stopped(model: OpenAIEmbedding, server: Any, text: str) -> Iterator[None]:
    """Have a request under way in an event loop that does not run, and finish it afterwards."""
    server.held = {text}
    loop = asyncio.new_event_loop()
    task = loop.create_task(model.aget_text_embedding(text))
    loop.run_until_complete(asyncio.to_thread(server.wait_for, text))
    assert model._meter.reserved > 0
    yield
    server.release()
    loop.run_until_complete(task)
    loop.run_until_complete(model.aclose())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_max_cost_holds_by_the_estimate_though_nobody_waits_for_a_slow_first_answer(
    model: OpenAIEmbedding, server: FakeEmbeddingServer
) -> None:
    server.inject_when(lambda _: True, faults.slow(1.5))
    model.price_per_million_tokens, model.max_cost = 1_000_000.0, 11.0
    model.embed_batch_size, model.num_workers = 1, 20
    with pytest.raises(QuotaExceededError):
        model.embed_texts([f"{number:08}" for number in range(20)])  # two tokens each
    assert model.usage.price == 10.0


def test_no_call_waits_for_a_first_request_whose_event_loop_has_stopped(model: OpenAIEmbedding, server: Any) -> None:
    model.max_cost = 1.0
    with stopped(model, server, "first"):
        (first,) = model._meter.in_flight
        assert first.stands_still()
        model.get_text_embedding("second")
    assert (model._meter.reserved, model._meter.in_flight) == (0, set())


def test_beside_an_event_loop_that_has_stopped_what_does_not_fit_is_refused(
    model: OpenAIEmbedding, server: Any
) -> None:
    model.price_per_million_tokens, model.max_cost = 1_000_000.0, 5.0
    with (
        stopped(model, server, "sixteen bytes 16"),
        pytest.raises(QuotaExceededError, match="0 US dollars are spent and 4 on their way, and some 2 more"),
    ):
        model.get_text_embedding("eight888")
    assert model.usage.price == 4.0


@pytest.mark.skipif(os.name == "nt", reason="Windows interrupts no waiting thread")
def test_no_call_waits_for_the_requests_of_one_that_was_interrupted(model: OpenAIEmbedding, server: Any) -> None:
    def press() -> None:
        server.wait_for("first")
        os.kill(os.getpid(), signal.SIGINT)

    model.max_cost, server.held = 1.0, {"first"}
    thread = threading.Thread(target=press)
    with pytest.raises(KeyboardInterrupt):
        thread.start()
        model.embed_texts(["first", "second"])
    thread.join()
    assert all(one.stands_still() for one in model._meter.in_flight)
    assert len(model.embed_texts(["third"])) == 1
    server.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_nothing_under_way(model: OpenAIEmbedding) -> None:
    model._meter.reserve(3, 5.0)
    model._meter.in_flight.add(InFlight(SimpleNamespace(blocking=True)))
    child = os.fork()
    if child == 0:
        os._exit(0 if (model._meter.reserved, model._meter.in_flight) == (0, set()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_max_cost_without_a_price_is_an_error_before_anything_is_sent(server: FakeEmbeddingServer) -> None:
    model = OpenAIEmbedding("other", api_key=server.api_key, api_base=server.base_url, max_cost=1.0)
    with model, pytest.raises(ConfigurationError, match="`max_cost` needs `price_per_million_tokens`"):
        model.get_text_embedding("a")
    assert server.requests == []
