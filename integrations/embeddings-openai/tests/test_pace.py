"""The pace of an account, on a clock of its own; no test waits."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from embed_core.errors import ProviderTimeoutError, ProviderUnavailableError, QuotaExceededError, RateLimitError
from embed_core.testing import FakeEmbeddingServer, faults
from embeddings_openai import OpenAIEmbedding
from embeddings_openai._pace import PACES, Pace, Ticket


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(clock)


def go(pace: Pace, count: int = 1, *, first: bool = False, tokens: int = 1) -> list[Ticket]:
    return [pace.ask(first=first, tokens=tokens) for _ in range(count)]


def granted(tickets: list[Ticket]) -> list[bool]:
    return [ticket.granted_at is not None for ticket in tickets]


def test_nothing_waits_until_the_provider_objects(pace: Pace) -> None:
    assert all(granted(go(pace, 1000)))


@pytest.mark.parametrize("error", [RateLimitError(), ProviderTimeoutError()])
def test_an_objection_halves_what_is_in_flight(pace: Pace, error: Exception) -> None:
    tickets = go(pace, 8)
    pace.leave(tickets[0], error)
    assert pace.limit == 4
    assert granted(go(pace, 2)) == [False, False]


def test_one_burst_of_objections_halves_once(pace: Pace, clock: Clock) -> None:
    tickets = go(pace, 8)
    clock.now = 1.0
    for ticket in tickets:
        pace.leave(ticket, RateLimitError())
    assert pace.limit == 4
    again = go(pace)[0]
    pace.leave(again, RateLimitError())
    assert pace.limit == 1  # one was in flight


def test_at_least_one_may_always_go(pace: Pace, clock: Clock) -> None:
    for _ in range(5):
        (ticket,) = go(pace)
        clock.now += 1
        pace.leave(ticket, RateLimitError())
    assert pace.limit == 1
    assert granted(go(pace)) == [True]


def test_success_adds_one_a_round(pace: Pace, clock: Clock) -> None:
    tickets = go(pace, 4)
    pace.leave(tickets[0], RateLimitError())
    for ticket in tickets[1:]:
        pace.leave(ticket)
    assert pace.limit >= 2
    before = pace.limit
    for ticket in go(pace, int(before)):
        pace.leave(ticket)
    assert before < pace.limit <= before + 1


def test_success_below_the_limit_raises_nothing(pace: Pace) -> None:
    tickets = go(pace, 20)
    pace.leave(tickets[0], RateLimitError())
    for ticket in tickets[1:]:
        pace.leave(ticket)
    limit = pace.limit
    pace.leave(go(pace)[0])
    assert pace.limit == limit


@pytest.mark.parametrize("error", [QuotaExceededError(), ProviderUnavailableError(), ValueError()])
def test_other_errors_change_no_limit(pace: Pace, error: Exception) -> None:
    pace.leave(go(pace)[0], error)
    assert pace.limit == math.inf


def test_a_query_overtakes_documents(pace: Pace) -> None:
    tickets = go(pace, 2)
    pace.leave(tickets[0], RateLimitError())
    documents = go(pace, 2)
    queries = go(pace, 2, first=True)
    pace.limit = 1.0
    pace.leave(tickets[1], ValueError())
    assert granted(queries + documents) == [True, False, False, False]
    pace.leave(queries[0], ValueError())
    assert granted(queries + documents) == [True, True, False, False]
    pace.leave(queries[1], ValueError())
    assert granted(queries + documents) == [True, True, True, False]


def test_retry_after_holds_everybody_back(pace: Pace, clock: Clock) -> None:
    pace.leave(go(pace)[0], RateLimitError(retry_after=5.0))
    waiting = go(pace, 1, first=True)
    assert pace.advance() == 5.0
    clock.now = 4.9
    pace.advance()
    assert granted(waiting) == [False]
    clock.now = 5.0
    pace.advance()
    assert granted(waiting) == [True]


def test_a_place_given_up_goes_to_the_next(pace: Pace) -> None:
    (running, *_) = tickets = go(pace, 2)
    pace.leave(running, RateLimitError())
    impatient, patient = go(pace, 2)
    pace.leave(impatient)
    pace.leave(tickets[1])
    assert granted([impatient, patient]) == [False, True]


def test_the_token_budget_of_the_headers_is_kept(pace: Pace, clock: Clock) -> None:
    pace.observe(
        {
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining-tokens": "100",
            "x-ratelimit-reset-tokens": "9s",
        }
    )
    assert granted(go(pace, 1, tokens=100)) == [True]
    waiting = go(pace, 1, tokens=300)
    assert pace.advance() == pytest.approx(3.0)
    small = go(pace, 1, first=True, tokens=100)
    assert pace.advance() == pytest.approx(1.0)
    clock.now = 1.01
    pace.advance()
    assert granted(small + waiting) == [True, False]
    clock.now = 4.1
    pace.advance()
    assert granted(waiting) == [True]


def test_a_request_beyond_the_whole_budget_is_the_providers_to_refuse(pace: Pace, clock: Clock) -> None:
    pace.observe(
        {"x-ratelimit-limit-tokens": "10", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1s"}
    )
    waiting = go(pace, 1, tokens=1000)
    clock.now = 1.1
    pace.advance()
    assert granted(waiting) == [True]


def test_no_requests_left_waits_for_the_next(pace: Pace, clock: Clock) -> None:
    headers = {"limit": "60", "remaining": "0", "reset": "60s"}
    pace.observe({f"x-ratelimit-{name}-requests": value for name, value in headers.items()})
    assert granted(go(pace)) == [False]
    assert pace.advance() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "headers", [{}, {"x-ratelimit-remaining-tokens": "5"}, {"x-ratelimit-remaining-requests": "few"}]
)
def test_half_a_budget_is_none(pace: Pace, headers: dict[str, str]) -> None:
    pace.observe(headers)
    assert all(granted(go(pace, 100, tokens=1000)))


def test_equal_accounts_share_a_pace_and_others_do_not() -> None:
    pace = PACES.of("http://a", "key", "model")
    assert PACES.of("http://a", "key", "model") is pace
    others = [("http://b", "key", "model"), ("http://a", "other", "model"), ("http://a", "key", "other")]
    assert all(PACES.of(*other) is not pace for other in others)


def test_the_last_paces_outlive_their_models_and_no_others_do() -> None:
    PACES.of("http://a", "key", "model").limit = 1.0
    gc.collect()
    assert PACES.of("http://a", "key", "model").limit == 1.0
    for number in range(100):
        PACES.of(f"http://{number}", "key", "model")
    gc.collect()
    assert PACES.of("http://a", "key", "model").limit == math.inf
    assert len(PACES._known) < 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_starts_with_a_free_pace() -> None:
    pace = PACES.of("http://a", "key", "model")
    tickets = [pace.ask(first=False, tokens=1) for _ in range(2)]
    pace.leave(tickets[0], RateLimitError(retry_after=1000.0))
    pace._lock.acquire()
    child = os.fork()
    if child == 0:
        os._exit(0 if pace.ask(first=False, tokens=1).granted_at is not None else 1)
    pace._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# With a server


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
        while math.isinf(model._settled().pace.limit):  # until the objection to one of eight is heard
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
        pace = model._settled().pace
        pace.limit = 1.0
        held = pace.ask(first=False, tokens=1)
        waiting = asyncio.create_task(model.aget_text_embedding("a"))
        await until(lambda: pace._waiting)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        pace.leave(held)
        assert len(await model.aget_text_embedding("b")) == 1536

    asyncio.run(cancel_one_that_waits())
    assert [request.inputs for request in server.requests] == [["b"]]


def test_threads_and_event_loops_wait_in_one_queue(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    pace = model._settled().pace
    pace.limit = 1.0
    held = pace.ask(first=False, tokens=1)
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(model.get_text_embedding("a")))),
        threading.Thread(target=lambda: found.append(len(asyncio.run(model.aget_text_embedding("b"))))),
    ]
    for thread in threads:
        thread.start()
    while len(pace._waiting) < 2:
        threading.Event().wait(0.001)
    pace.leave(held)
    for thread in threads:
        thread.join()
    assert found == [1536, 1536]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("place", ["in the queue", "in flight"])
def test_a_request_whose_event_loop_is_closed_holds_up_nobody(model: OpenAIEmbedding, server: Any, place: str) -> None:
    server.held = {"a"}
    pace = model._settled().pace
    pace.limit = 1.0
    held = pace.ask(first=False, tokens=1) if place == "in the queue" else None
    loop = asyncio.new_event_loop()
    lost = loop.create_task(model.aget_text_embedding("a"))
    loop.run_until_complete(until(lambda: server.under_way or pace._waiting))
    loop.close()
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(len(model.get_text_embedding("b"))), daemon=True)
    thread.start()
    if held is not None:
        pace.leave(held)
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


def test_a_lost_request_may_leave_while_another_is_looked_at() -> None:
    lost: list[Ticket] = []

    def clock() -> float:
        while lost:  # as when memory is collected at this moment
            pace.leave(lost.pop(), GeneratorExit())
        return 0.0

    pace = Pace(clock)
    tickets = go(pace, 3)
    pace.limit = 1.0
    lost += tickets
    assert granted(go(pace, 2)) == [True, False]


def test_documents_go_as_far_apart_as_reading_an_answer_takes_and_queries_at_once() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    first, second = (pace.ask(first=False, tokens=1, inputs=100) for _ in range(2))
    query = pace.ask(first=True, tokens=1, inputs=1)
    assert (first.granted_at, second.granted_at, query.granted_at) == (0.0, None, 0.0)
    now[0] = 1.0
    assert pace.advance() == 0.0
    assert second.granted_at == 1.0
    pace.leave(first)
    pace.leave(second)
    pace.leave(query)
    assert pace.ask(first=False, tokens=1, inputs=100).granted_at == 1.0  # nothing is in flight, so nothing to read
