from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from embed_core import Estimate
from embed_core.errors import ConfigurationError, InvalidInputError, QuotaExceededError
from embed_core.kvstore import MemoryKVStore
from embed_core.provider._usage import InFlight
from embed_core.testing import faults
from embed_core.testing.faults import Fault
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
            go_on.wait(10)
            return {}

    go_on = threading.Event()
    model.embeddings_cache = Hanging()
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(model.aestimate(["a"]), 0.05))
    assert time.monotonic() - started < 5
    go_on.set()


def test_an_estimate_goes_past_a_cache_that_fails(model: OpenAIEmbedding, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(MemoryKVStore):
        def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
            raise OSError("the disk is on fire")

    model.embeddings_cache = Failing()
    assert model.estimate(["four", "four"]) == Estimate(inputs=2, cached=1, tokens=1, price=pytest.approx(0.02e-6))
    assert "could not be read and is bypassed" in caplog.text


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
        FakeEmbeddingServer(dimension=8, latency=0.05, tokens_of=len) as server,  # a token a byte
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


def seconds_of(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


@contextmanager
def under_way(model: OpenAIEmbedding, server: FakeEmbeddingServer, text: str, answer: Fault) -> Iterator[None]:
    """Have a request under way in another thread."""
    server.inject(answer)
    before = len(server.requests)
    thread = threading.Thread(target=model.get_text_embedding, args=[text])
    thread.start()
    while len(server.requests) == before:
        time.sleep(0.01)
    yield
    thread.join()


@contextmanager
def stopped(model: OpenAIEmbedding, server: FakeEmbeddingServer, text: str) -> Iterator[None]:
    """Have a request under way in an event loop that does not run, and finish it afterwards."""
    server.inject(faults.slow(1.5))
    loop = asyncio.new_event_loop()
    task = loop.create_task(model.aget_text_embedding(text))
    loop.call_later(0.3, loop.stop)
    loop.run_forever()
    assert model._meter.reserved > 0
    yield
    loop.run_until_complete(task)
    loop.run_until_complete(model.aclose())
    loop.close()


@pytest.mark.parametrize(("kind", "least", "most"), [("query", 0.0, 0.8), ("text", 0.8, 2.0)])
def test_only_documents_wait_for_a_slow_first_answer_and_only_briefly(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, kind: str, least: float, most: float
) -> None:
    model.max_cost = 1.0
    ask = model.get_query_embedding if kind == "query" else model.get_text_embedding
    with under_way(model, server, "first", faults.slow(2.5)):
        assert least < seconds_of(lambda: ask("second")) < most


def test_max_cost_holds_by_the_estimate_though_nobody_waits_for_a_slow_first_answer(
    model: OpenAIEmbedding, server: FakeEmbeddingServer
) -> None:
    server.inject_when(lambda _: True, faults.slow(1.5))
    model.price_per_million_tokens, model.max_cost = 1_000_000.0, 11.0
    model.embed_batch_size, model.num_workers = 1, 20
    with pytest.raises(QuotaExceededError):
        model.embed_texts([f"{number:08}" for number in range(20)])  # two tokens each
    assert model.usage.price == 10.0


def test_no_call_waits_for_a_first_request_whose_event_loop_has_stopped(
    model: OpenAIEmbedding, server: FakeEmbeddingServer
) -> None:
    model.max_cost = 1.0
    with stopped(model, server, "first"):
        assert seconds_of(lambda: model.get_text_embedding("second")) < 0.8
    assert (model._meter.reserved, model._meter.in_flight) == (0, set())


def test_beside_an_event_loop_that_has_stopped_what_does_not_fit_is_refused_at_once(
    model: OpenAIEmbedding, server: FakeEmbeddingServer
) -> None:
    model.price_per_million_tokens, model.max_cost = 1_000_000.0, 5.0
    with stopped(model, server, "sixteen bytes 16"):
        started = time.monotonic()
        with pytest.raises(QuotaExceededError, match="0 US dollars are spent and 4 on their way, and some 2 more"):
            model.get_text_embedding("eight888")
        assert time.monotonic() - started < 0.8
    assert model.usage.price == 4.0


def test_what_does_not_fit_waits_no_longer_than_for_a_sign_of_life(
    model: OpenAIEmbedding, server: FakeEmbeddingServer
) -> None:
    model.price_per_million_tokens, model.max_cost = 1_000_000.0, 5.0
    with model.model_copy(update={"timeout": 0.3}) as other:
        other._meter = model._meter
        with under_way(model, server, "sixteen bytes 16", faults.slow(2)):
            started = time.monotonic()
            with pytest.raises(QuotaExceededError):
                other.get_text_embedding("eight888")
            assert time.monotonic() - started < 1.8


def test_what_does_not_fit_waits_for_what_may_take_less(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    model.price_per_million_tokens, model.max_cost = 1_000_000.0, 5.0
    told = {"data": [{"index": 0, "embedding": [1.0] * 1536}], "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    with under_way(model, server, "sixteen bytes 16", replace(faults.payload(told), delay=0.3)):
        model.get_text_embedding("eight888")
    assert model.usage.price == 3.0


@pytest.mark.skipif(os.name == "nt", reason="Windows interrupts no waiting thread")
def test_no_call_waits_for_the_requests_of_one_that_was_interrupted(
    model: OpenAIEmbedding, server: FakeEmbeddingServer
) -> None:
    model.max_cost = 1.0
    server.inject(faults.slow(3))
    timer = threading.Timer(0.4, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.embed_texts(["first", "second"])
    timer.join()
    assert seconds_of(lambda: model.embed_texts(["third"])) < 0.8


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
