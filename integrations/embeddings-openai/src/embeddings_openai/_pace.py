"""How fast one account may be asked: requests in flight, pauses the provider asks for, and who goes first."""

from __future__ import annotations

import heapq
import math
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from embed_core import Request, Vectors
from embed_core.errors import ProviderError, ProviderTimeoutError, RateLimitError
from embed_core.forks import Lock, reset_in_children

from embeddings_openai._headers import seconds

_POLL_SECONDS = 0.2  # how often a waiting thread looks whether its call was ended

_READ_SECONDS = 25e-6
"""About what reading the answer for one input takes: requests go out so far apart.

Answers that arrive at once are read in turns, so that all are done only when the last one is, and their workers ask
again at once. Apart, the first is done while the others are on their way, and no worker waits for another.
"""


class Pace:
    """Lets requests go: queries before documents, else first come, first served; safe from threads and event loops.

    The number in flight is unlimited until the provider objects, then follows additive increase and multiplicative
    decrease, as in TCP: https://www.rfc-editor.org/rfc/rfc5681#section-3.1. Nothing here sleeps.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.reset()
        reset_in_children(self)

    def reset(self) -> None:
        """Start again with nothing in flight, as a forked child must."""
        self._lock = threading.Lock()
        self._waiting: list[Ticket] = []
        self._in_flight = 0
        self._number = 0
        self._cut_at = self._paused_until = self._apart_at = -math.inf
        self._budgets = {"requests": _Budget(), "tokens": _Budget()}
        self.limit = math.inf

    def ask(self, *, first: bool, tokens: int, inputs: int = 0) -> Ticket:
        """Return a ticket, which is granted at once or when its turn comes."""
        with self._lock:
            self._number += 1
            ticket = Ticket(not first, self._number, tokens, inputs)
            heapq.heappush(self._waiting, ticket)
            self._grant()
        return ticket

    def advance(self) -> float:
        """Grant what can be granted by now; return the seconds until time alone lets the first one go, else 0."""
        with self._lock:
            return self._grant()

    def leave(self, ticket: Ticket, error: BaseException | None = None) -> None:
        """Take a ticket back after its request, or unused, and learn from how the request ended."""
        with self._lock:
            if ticket.granted_at is None:
                self._waiting.remove(ticket)
                heapq.heapify(self._waiting)
            else:
                self._adapt(ticket.granted_at, error)
                self._in_flight -= 1
            self._grant()

    def observe(self, headers: Mapping[str, str]) -> None:
        """Keep to the budget that the `x-ratelimit-*` headers tell."""
        if "x-ratelimit-remaining-requests" not in headers and "x-ratelimit-remaining-tokens" not in headers:
            return
        with self._lock:
            for name, budget in self._budgets.items():
                limit, remaining, reset = (
                    seconds(headers.get(f"x-ratelimit-{what}-{name}", "")) for what in ("limit", "remaining", "reset")
                )
                if limit is not None and remaining is not None and reset is not None:
                    budget.observe(limit, remaining, reset, self._clock())

    def _adapt(self, sent_at: float, error: BaseException | None) -> None:
        now = self._clock()
        if isinstance(error, RateLimitError | ProviderTimeoutError):
            if sent_at >= self._cut_at:  # one cut for all that was in flight together
                self.limit, self._cut_at = max(1.0, min(self.limit, self._in_flight) / 2), now
        elif error is None and self._in_flight + 1 > self.limit:
            self.limit += 1 / self.limit
        if isinstance(error, ProviderError) and error.retryable and error.retry_after is not None:
            self._paused_until = max(self._paused_until, now + error.retry_after)

    def _grant(self) -> float:
        now = self._clock()
        while self._waiting and self._in_flight + 1 <= self.limit:
            ticket = self._waiting[0]
            shares = ((self._budgets["requests"], 1), (self._budgets["tokens"], ticket.tokens))
            apart = self._apart_at - now if self._in_flight and ticket.last else 0.0
            wait = max(self._paused_until - now, apart, *(budget.wait(amount, now) for budget, amount in shares))
            if wait > 0:
                return wait
            for budget, amount in shares:
                budget.level -= amount
            heapq.heappop(self._waiting)
            self._in_flight += 1
            self._apart_at = now + ticket.inputs * _READ_SECONDS
            ticket.grant(now)
        return 0.0


@dataclass(slots=True, order=True)
class Ticket:
    """A place in the queue; `granted_at` is set when its request may go."""

    last: bool
    number: int
    tokens: int = field(compare=False)
    inputs: int = field(default=0, compare=False)
    granted_at: float | None = field(default=None, compare=False)
    _turn: threading.Event = field(default_factory=threading.Event, compare=False)
    _wake: Callable[[], Any] | None = field(default=None, compare=False)

    def grant(self, now: float) -> None:
        """Let the request go."""
        self.granted_at = now
        self._turn.set()
        if (wake := self._wake) is not None:
            wake()

    def wait(self, most: float) -> None:
        """Block until the turn comes, at most so many seconds."""
        self._turn.wait(most)

    async def await_(self, most: float) -> None:
        """Wait for the turn in an event loop, at most so many seconds."""
        import asyncio

        loop, turn = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(turn.set)
        if self._turn.is_set():  # granted before anybody could be woken
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(turn.wait(), most)


@dataclass(slots=True)
class _Budget:
    """What the provider says is left, refilling evenly; unlimited until it says so."""

    level: float = math.inf
    size: float = math.inf
    rate: float = math.inf
    at: float = 0.0

    def observe(self, limit: float, remaining: float, reset: float, now: float) -> None:
        self.level, self.size, self.at = remaining, limit, now
        self.rate = (limit - remaining) / reset if reset > 0 and limit > remaining else math.inf

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until `amount` is there; a request larger than the budget is the provider's to refuse."""
        if math.isinf(self.rate):
            self.level = self.size
            return 0.0
        self.level, self.at = min(self.size, self.level + (now - self.at) * self.rate), now
        return max(0.0, (min(amount, self.size) - self.level) / self.rate)


class _Paces:
    """The one pace that everybody keeps who asks one server for one model with one key."""

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[tuple[str, str, str], Pace] = weakref.WeakValueDictionary()
        self._lock = Lock()

    def of(self, base_url: str, key: str, model: str) -> Pace:
        """Return it."""
        with self._lock:
            return self._known.setdefault((base_url, key, model), Pace())


PACES = _Paces()


@dataclass(frozen=True, slots=True)
class Paced:
    """Waits for its turn before every attempt.

    Attributes:
        pace: returns the pace to keep.
        patience: a pause longer than this many seconds is an error at once.
    """

    pace: Callable[[], Pace]
    count_tokens: Callable[[Sequence[Any]], int]
    patience: float

    async def __call__(self, request: Request, onward: Callable[[Request], Awaitable[Vectors]], io: Any) -> Vectors:
        pace = self.pace()
        inputs = request.inputs
        ticket = pace.ask(first=request.kind == "query", tokens=self.count_tokens(inputs), inputs=len(inputs))
        try:
            if ticket.granted_at is None:
                await self._turn(pace, ticket, io)
            vectors = await onward(request)
        except BaseException as error:
            pace.leave(ticket, error)
            raise
        pace.leave(ticket)
        return vectors

    async def _turn(self, pace: Pace, ticket: Ticket, io: Any) -> None:
        while (left := pace.advance()) >= 0 and ticket.granted_at is None:
            if left > self.patience:
                msg = f"the provider asked for a pause that lasts {left:.0f} s more; try again then"
                raise RateLimitError(msg, retry_after=left)
            most = min(left or _POLL_SECONDS, _POLL_SECONDS)
            await io.call(partial(ticket.wait, most), partial(ticket.await_, most))
            await io.sleep(0)
