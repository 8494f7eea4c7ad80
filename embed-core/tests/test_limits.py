"""The rate limiter, on a clock that the tests hold."""

import sys

import pytest
from embed_core import RateLimiter
from embed_core.errors import ConfigurationError
from hypothesis import given
from hypothesis import strategies as st


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@given(
    steps=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), max_size=60),
    requests=st.integers(1, 20),
    tokens=st.integers(50, 200),
)
def test_no_minute_holds_more_than_the_budget_and_nobody_overtakes(steps, requests, tokens):
    clock = Clock()
    limiter = RateLimiter(requests_per_minute=requests, tokens_per_minute=tokens, clock=clock)
    sent = []
    for pause, amount in steps:
        clock.now += pause
        reservation = limiter.reserve(amount)
        assert reservation.seconds >= 0
        sent.append((reservation.at, amount))
    times = [at for at, _ in sent]
    assert times == sorted(times)
    burst = 2  # a full budget, and the refill of a minute
    for start, _ in sent:
        window = [amount for at, amount in sent if start <= at < start + 60 - 1e-6]
        assert len(window) <= requests * burst
        assert sum(window) <= tokens * burst + 1e-6


def test_a_bucket_lets_a_full_minute_go_at_once_and_refills_evenly():
    clock = Clock()
    limiter = RateLimiter(requests_per_minute=2, clock=clock)
    assert [limiter.reserve(0).seconds for _ in range(4)] == [0, 0, 30, 60]
    clock.now = 45
    assert limiter.reserve(0).seconds == 45


def test_a_place_given_back_is_the_next_ones():
    limiter = RateLimiter(requests_per_minute=1, clock=Clock())
    limiter.reserve(0)
    waiting = limiter.reserve(0)
    assert waiting.seconds == 60
    limiter.give_back(waiting)
    assert limiter.reserve(0).seconds == 60


@given(
    before=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), max_size=12),
    cancelled=st.lists(st.integers(0, 50), min_size=1, max_size=12),
    later=st.floats(0, 90),
    after=st.integers(0, 50),
    data=st.data(),
)
def test_places_given_back_leave_no_trace(before, cancelled, later, after, data):
    clock, twin_clock = Clock(), Clock()
    limiter = RateLimiter(requests_per_minute=4, tokens_per_minute=60, clock=clock)
    twin = RateLimiter(requests_per_minute=4, tokens_per_minute=60, clock=twin_clock)
    for pause, amount in before:
        clock.now = twin_clock.now = clock.now + pause
        limiter.reserve(amount)
        twin.reserve(amount)
    waiting = [one for amount in cancelled if (one := limiter.reserve(amount)).seconds > 0]
    if len(waiting) == len(cancelled):
        for one in data.draw(st.permutations(waiting)):
            limiter.give_back(one)
        clock.now = twin_clock.now = clock.now + later
        assert limiter.reserve(after).at == pytest.approx(twin.reserve(after).at)


@given(
    steps=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50), st.booleans()), max_size=60),
    requests=st.integers(1, 20),
    tokens=st.integers(50, 200),
)
def test_giving_back_lets_nobody_exceed_the_budget(steps, requests, tokens):
    clock = Clock()
    limiter = RateLimiter(requests_per_minute=requests, tokens_per_minute=tokens, clock=clock)
    sent, waiting = [], []
    for pause, amount, give_back in steps:
        clock.now += pause
        sent += [one for one in waiting if one.at <= clock.now]
        waiting = [one for one in waiting if one.at > clock.now]
        if give_back and waiting:
            limiter.give_back(waiting.pop(amount % len(waiting)))
        else:
            waiting.append(limiter.reserve(amount))
    sent += waiting
    burst = 2
    for start in sent:
        minute = [one.tokens for one in sent if start.at <= one.at < start.at + 60 - 1e-6]
        assert len(minute) <= requests * burst
        assert sum(minute) <= tokens * burst + 1e-6


def test_a_place_whose_moment_is_over_can_be_given_back_too():
    clock = Clock()
    limiter = RateLimiter(requests_per_minute=1, clock=clock)
    limiter.reserve(0)
    late = limiter.reserve(0)
    clock.now = 61
    waiting = limiter.reserve(0)
    assert waiting.seconds == 59
    limiter.give_back(late)  # it was cancelled as its time came
    limiter.give_back(waiting)
    assert [limiter.reserve(0).seconds for _ in range(2)] == [0, 60]


def test_a_place_in_a_long_queue_costs_as_little_as_in_a_short_one():
    def lines_run(count):
        limiter = RateLimiter(requests_per_minute=500, tokens_per_minute=10**6, clock=Clock())
        lines = 0

        def trace(frame, event, argument):
            nonlocal lines
            lines += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            waiting = [limiter.reserve(10) for _ in range(count)]
            for one in waiting[500:]:
                limiter.give_back(one)
        finally:
            sys.settrace(before)
        assert waiting[-1].seconds > 60
        assert limiter.reserve(10).seconds <= 60
        return lines

    assert lines_run(10_000) < 6 * lines_run(2_000)


def test_no_limit_never_waits():
    limiter = RateLimiter(clock=Clock())
    assert all(limiter.reserve(10**9).seconds == 0 for _ in range(100))


def test_nonsense_is_refused_in_words():
    with pytest.raises(ConfigurationError, match="`requests_per_minute` is 0"):
        RateLimiter(requests_per_minute=0)
    with pytest.raises(ConfigurationError, match="exceeds the whole budget"):
        RateLimiter(tokens_per_minute=5).reserve(6)
