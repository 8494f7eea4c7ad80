"""Flow control of an account, on a clock of its own; no test waits."""

from __future__ import annotations

import gc
import math
import os

import pytest
from embed_core.errors import ProviderTimeoutError, ProviderUnavailableError, QuotaExceededError, RateLimitError
from embed_core.provider import FlowControl, _flow
from embed_core.provider._flow import Ticket


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flow(clock: Clock) -> FlowControl:
    return FlowControl(clock)


def go(flow: FlowControl, count: int = 1, *, first: bool = False, tokens: int = 1) -> list[Ticket]:
    return [flow.ask(first=first, tokens=tokens) for _ in range(count)]


def granted(tickets: list[Ticket]) -> list[bool]:
    return [ticket.granted_at is not None for ticket in tickets]


def test_nothing_waits_until_the_provider_objects(flow: FlowControl) -> None:
    assert all(granted(go(flow, 1000)))


@pytest.mark.parametrize("error", [RateLimitError(), ProviderTimeoutError()])
def test_an_objection_halves_what_is_in_flight(flow: FlowControl, error: Exception) -> None:
    tickets = go(flow, 8)
    flow.leave(tickets[0], error)
    assert flow.limit == 4
    assert granted(go(flow, 2)) == [False, False]


def test_one_burst_of_objections_halves_once(flow: FlowControl, clock: Clock) -> None:
    tickets = go(flow, 8)
    clock.now = 1.0
    for ticket in tickets:
        flow.leave(ticket, RateLimitError())
    assert flow.limit == 4
    again = go(flow)[0]
    flow.leave(again, RateLimitError())
    assert flow.limit == 1  # one was in flight


def test_at_least_one_may_always_go(flow: FlowControl, clock: Clock) -> None:
    for _ in range(5):
        (ticket,) = go(flow)
        clock.now += 1
        flow.leave(ticket, RateLimitError())
    assert flow.limit == 1
    assert granted(go(flow)) == [True]


def test_success_adds_one_a_round(flow: FlowControl, clock: Clock) -> None:
    tickets = go(flow, 4)
    flow.leave(tickets[0], RateLimitError())
    for ticket in tickets[1:]:
        flow.leave(ticket)
    assert flow.limit >= 2
    before = flow.limit
    for ticket in go(flow, int(before)):
        flow.leave(ticket)
    assert before < flow.limit <= before + 1


def test_success_below_the_limit_raises_nothing(flow: FlowControl) -> None:
    tickets = go(flow, 20)
    flow.leave(tickets[0], RateLimitError())
    for ticket in tickets[1:]:
        flow.leave(ticket)
    limit = flow.limit
    flow.leave(go(flow)[0])
    assert flow.limit == limit


@pytest.mark.parametrize("error", [QuotaExceededError(), ProviderUnavailableError(), ValueError()])
def test_other_errors_change_no_limit(flow: FlowControl, error: Exception) -> None:
    flow.leave(go(flow)[0], error)
    assert flow.limit == math.inf


def test_a_query_overtakes_documents(flow: FlowControl) -> None:
    tickets = go(flow, 2)
    flow.leave(tickets[0], RateLimitError())
    documents = go(flow, 2)
    queries = go(flow, 2, first=True)
    flow.limit = 1.0
    flow.leave(tickets[1], ValueError())
    assert granted(queries + documents) == [True, False, False, False]
    flow.leave(queries[0], ValueError())
    assert granted(queries + documents) == [True, True, False, False]
    flow.leave(queries[1], ValueError())
    assert granted(queries + documents) == [True, True, True, False]


def test_retry_after_holds_everybody_back(flow: FlowControl, clock: Clock) -> None:
    flow.leave(go(flow)[0], RateLimitError(retry_after=5.0))
    waiting = go(flow, 1, first=True)
    assert flow.advance() == 5.0
    clock.now = 4.9
    flow.advance()
    assert granted(waiting) == [False]
    clock.now = 5.0
    flow.advance()
    assert granted(waiting) == [True]


def test_a_place_given_up_goes_to_the_next(flow: FlowControl) -> None:
    (running, *_) = tickets = go(flow, 2)
    flow.leave(running, RateLimitError())
    impatient, patient = go(flow, 2)
    flow.leave(impatient)
    flow.leave(tickets[1])
    assert granted([impatient, patient]) == [False, True]


def test_the_token_budget_of_the_headers_is_kept(flow: FlowControl, clock: Clock) -> None:
    flow.observe(
        {
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining-tokens": "100",
            "x-ratelimit-reset-tokens": "9s",
        }
    )
    assert granted(go(flow, 1, tokens=100)) == [True]
    waiting = go(flow, 1, tokens=300)
    assert flow.advance() == pytest.approx(3.0)
    small = go(flow, 1, first=True, tokens=100)
    assert flow.advance() == pytest.approx(1.0)
    clock.now = 1.01
    flow.advance()
    assert granted(small + waiting) == [True, False]
    clock.now = 4.1
    flow.advance()
    assert granted(waiting) == [True]


def test_a_request_beyond_the_whole_budget_is_the_providers_to_refuse(flow: FlowControl, clock: Clock) -> None:
    flow.observe(
        {"x-ratelimit-limit-tokens": "10", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1s"}
    )
    waiting = go(flow, 1, tokens=1000)
    clock.now = 1.1
    flow.advance()
    assert granted(waiting) == [True]


def test_no_requests_left_waits_for_the_next(flow: FlowControl, clock: Clock) -> None:
    headers = {"limit": "60", "remaining": "0", "reset": "60s"}
    flow.observe({f"x-ratelimit-{name}-requests": value for name, value in headers.items()})
    assert granted(go(flow)) == [False]
    assert flow.advance() == pytest.approx(1.0)


def test_a_reset_that_is_a_date_is_no_budget(flow: FlowControl) -> None:
    told = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "0"}
    flow.observe(told | {"x-ratelimit-reset-requests": "1795824621"})
    assert granted(go(flow, 1)) == [True]


@pytest.mark.parametrize(
    "headers", [{}, {"x-ratelimit-remaining-tokens": "5"}, {"x-ratelimit-remaining-requests": "few"}]
)
def test_half_a_budget_is_none(flow: FlowControl, headers: dict[str, str]) -> None:
    flow.observe(headers)
    assert all(granted(go(flow, 100, tokens=1000)))


def test_equal_accounts_share_a_pace_and_others_do_not() -> None:
    flow = FlowControl.of("http://a", "key", "model")
    assert FlowControl.of("http://a", "key", "model") is flow
    others = [("http://b", "key", "model"), ("http://a", "other", "model"), ("http://a", "key", "other")]
    assert all(FlowControl.of(*other) is not flow for other in others)


def test_the_last_paces_outlive_their_models_and_no_others_do() -> None:
    FlowControl.of("http://a", "key", "model").limit = 1.0
    gc.collect()
    assert FlowControl.of("http://a", "key", "model").limit == 1.0
    for number in range(100):
        FlowControl.of(f"http://{number}", "key", "model")
    gc.collect()
    assert FlowControl.of("http://a", "key", "model").limit == math.inf
    assert len(_flow._accounts) < 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_starts_with_a_free_pace() -> None:
    flow = FlowControl.of("http://a", "key", "model")
    tickets = [flow.ask(first=False, tokens=1) for _ in range(2)]
    flow.leave(tickets[0], RateLimitError(retry_after=1000.0))
    flow._lock.acquire()
    child = os.fork()
    if child == 0:
        os._exit(0 if flow.ask(first=False, tokens=1).granted_at is not None else 1)
    flow._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_lost_request_may_leave_while_another_is_looked_at() -> None:
    lost: list[Ticket] = []

    def clock() -> float:
        while lost:  # as when memory is collected at this moment
            flow.leave(lost.pop(), GeneratorExit())
        return 0.0

    flow = FlowControl(clock)
    tickets = go(flow, 3)
    flow.limit = 1.0
    lost += tickets
    assert granted(go(flow, 2)) == [True, False]


def test_documents_go_as_far_apart_as_reading_an_answer_takes_and_queries_at_once() -> None:
    now = [0.0]
    flow = FlowControl(lambda: now[0])
    first, second = (flow.ask(first=False, tokens=1, inputs=100) for _ in range(2))
    query = flow.ask(first=True, tokens=1, inputs=1)
    assert (first.granted_at, second.granted_at, query.granted_at) == (0.0, None, 0.0)
    now[0] = 1.0
    assert flow.advance() == 0.0
    assert second.granted_at == 1.0
    flow.leave(first)
    flow.leave(second)
    flow.leave(query)
    assert flow.ask(first=False, tokens=1, inputs=100).granted_at == 1.0  # nothing is in flight, so nothing to read


@pytest.mark.parametrize("reset", ["1790000000", "2d"])
def test_a_reset_after_more_than_a_day_is_no_pause(flow: FlowControl, reset: str) -> None:
    told = {"limit": "60", "remaining": "0", "reset": reset}
    for name in ("requests", "tokens"):
        flow.observe({f"x-ratelimit-{part}-{name}": value for part, value in told.items()})
    assert granted(go(flow)) == [True]
