"""Flow control of one account: requests in flight, pauses that the provider asks for, and queries first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from embed_core._headers import seconds
from embed_core._types import Next, Request, Vectors
from embed_core.errors import ProviderError, ProviderTimeoutError, RateLimitError
from embed_core.forks import Lock, reset_in_children

_POLL_SECONDS = 0.2  # how often a waiting thread looks whether its call was ended
_KEPT = 32
_LONGEST_RESET = 86_400.0  # seconds
_READ_SECONDS = 25e-6
"""The time to read the answer for one input, about: requests go out so far apart.

Answers that arrive at once are read in turns, so that all are done only when the last one is, and their workers ask
again at once. Apart, the first is done while the others are on their way, and no worker waits for another.
"""


class FlowControl:
    """Lets requests go: queries before documents, else first come, first served; safe from threads and event loops.

    The number in flight is unlimited until the provider objects, then follows additive increase and multiplicative
    decrease, as in TCP: https://www.rfc-editor.org/rfc/rfc5681#section-3.1. Nothing here sleeps.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._numbers = itertools.count()
        self.reset()
        reset_in_children(self)

    @classmethod
    def of(cls, base_url: str, key: str, model: str) -> FlowControl:
        """Return the flow control that is shared by everything that asks one server for one model with one key.

        The last few are kept when their models are gone: a provider that asks for a pause means the next model too.
        """
        with _lock:
            flow = _accounts.setdefault((base_url, key, model), cls())
            with suppress(ValueError):
                _last.remove(flow)
            _last.append(flow)
            return flow

    def reset(self) -> None:
        """Start again with nothing in flight, as a forked child must."""
        self._lock = threading.RLock()  # to collect a lost task is to end it, so a thread that is in here may leave
        self._waiting: list[tuple[bool, int, Ticket]] = []
        self._in_flight: dict[Ticket, float] = {}
        self._cut_at = self._paused_until = self._apart_at = -math.inf
        self._requests, self._tokens, self._told = _Budget(), _Budget(), False
        self.limit = math.inf

    def ask(
        self,
        *,
        first: bool,
        tokens: int,
        inputs: int = 0,
        requests: int = 1,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Ticket:
        """Return a ticket, which is granted at once or when its turn comes; it is void once its loop is closed.

        Args:
            first: whether it goes before those that are not.
            tokens: an estimate of the request's tokens.
            inputs: the number of inputs in the request.
            requests: the number of requests that the provider's quota counts for it.
            loop: the event loop that waits for it.
        """
        ticket = Ticket(first, tokens, inputs, requests, loop)
        with self._lock:
            heapq.heappush(self._waiting, (not first, next(self._numbers), ticket))
            self._grant()
        return ticket

    def advance(self) -> float:
        """Grant every ticket that can be granted; return the seconds until time alone lets the next one go, else 0."""
        with self._lock:
            return self._grant()

    def leave(self, ticket: Ticket, error: BaseException | None = None) -> None:
        """Take a ticket back after its request, or unused, and learn from how the request ended."""
        with self._lock:
            ticket.left = True
            if (sent_at := self._in_flight.get(ticket)) is not None:
                if error is not None:
                    self._slow_down(sent_at, error)
                elif len(self._in_flight) + 1 > self.limit:
                    self.limit += 1 / self.limit
                self._in_flight.pop(ticket, None)
            if self._waiting:
                self._grant()

    def observe(self, headers: Mapping[str, str]) -> None:
        """Keep to the budget that the `x-ratelimit-*` headers tell."""
        for name, budget in (("requests", self._requests), ("tokens", self._tokens)):
            if f"x-ratelimit-remaining-{name}" in headers:
                told = (headers.get(f"x-ratelimit-{part}-{name}", "") for part in ("limit", "remaining", "reset"))
                limit, remaining, reset = map(seconds, told)
                if limit is None or remaining is None or reset is None:
                    continue
                if reset <= _LONGEST_RESET:  # else it is a date, or nonsense
                    with self._lock:
                        budget.observe(limit, remaining, reset, self._clock())
                        self._told = True

    def _slow_down(self, sent_at: float, error: BaseException) -> None:
        now = self._clock()
        if isinstance(error, RateLimitError | ProviderTimeoutError) and sent_at >= self._cut_at:
            # one cut for all that was in flight together
            self.limit, self._cut_at = max(1.0, min(self.limit, len(self._in_flight)) / 2), now
        if isinstance(error, ProviderError) and error.retryable and error.retry_after is not None:
            self._paused_until = max(self._paused_until, now + error.retry_after)

    def _grant(self) -> float:
        now = self._clock()
        while self._waiting and (len(self._in_flight) + 1 <= self.limit or self._has_room()):
            place = heapq.heappop(self._waiting)
            ticket = place[-1]
            if ticket.is_void():
                continue
            apart = self._apart_at - now if self._in_flight and not ticket.first else 0.0
            wait = max(self._paused_until - now, apart)
            if self._told:
                wait = max(wait, self._requests.wait(ticket.requests, now), self._tokens.wait(ticket.tokens, now))
            if wait > 0:
                heapq.heappush(self._waiting, place)
                return wait
            self._requests.level -= ticket.requests
            self._tokens.level -= ticket.tokens
            self._in_flight[ticket] = now
            self._apart_at = now + ticket.inputs * _READ_SECONDS
            ticket.grant(now)
        return 0.0

    def _has_room(self) -> bool:
        """Tell whether one more may go once requests that nothing happens to are not counted."""
        for ticket in [one for one in tuple(self._in_flight) if one.stands_still()]:
            self._in_flight.pop(ticket, None)
        return len(self._in_flight) + 1 <= self.limit


_accounts: weakref.WeakValueDictionary[tuple[str, str, str], FlowControl] = weakref.WeakValueDictionary()
_last: deque[FlowControl] = deque(maxlen=_KEPT)
_lock = Lock()


@dataclass(slots=True, eq=False)
class Ticket:
    """A place in the queue; `granted_at` is set when its request may go."""

    first: bool
    tokens: int
    inputs: int
    requests: int
    loop: asyncio.AbstractEventLoop | None
    granted_at: float | None = None
    left: bool = False
    _turn: threading.Event = field(default_factory=threading.Event)
    _wake: Callable[[], Any] | None = None

    def is_void(self) -> bool:
        """Tell whether nobody is there any more: a task ends with its loop, though it never hears of it."""
        return self.left or (self.loop is not None and self.loop.is_closed())

    def stands_still(self) -> bool:
        """Tell whether nothing happens to its request: nobody can know whether a stopped loop will ever run again."""
        return self.left or (self.loop is not None and not self.loop.is_running())

    def grant(self, now: float) -> None:
        """Let the request go."""
        self.granted_at = now
        self._turn.set()
        wake, self._wake = self._wake, None
        if wake is not None:
            with suppress(RuntimeError):  # the loop was closed at this moment
                wake()

    def wait(self, most: float) -> None:
        """Block until the turn comes, at most so many seconds."""
        self._turn.wait(most)

    async def await_(self, most: float) -> None:
        """Wait for the turn in an event loop, at most so many seconds."""
        loop, turn = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(turn.set)
        if self._turn.is_set():  # granted before anybody could be woken
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(turn.wait(), most)


@dataclass(slots=True)
class _Budget:
    """The provider's own account of the remaining quota, refilling evenly; unlimited until it is told."""

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


@dataclass(frozen=True, slots=True)
class Throttled:
    """Waits for its turn before every attempt.

    Attributes:
        server: returns the settled server, whose account has a flow control.
        counts_inputs: whether the provider's quota counts every input as a request.
        patience: a pause longer than this many seconds is an error at once.
    """

    server: Callable[[], Any]
    count_tokens: Callable[[Sequence[Any]], int]
    counts_inputs: bool
    patience: float

    async def __call__(self, request: Request, onward: Next, io: Any) -> Vectors:
        flow, inputs = self.server().flow, request.inputs
        ticket = flow.ask(
            first=request.kind == "query",
            tokens=self.count_tokens(inputs),
            inputs=len(inputs),
            requests=len(inputs) if self.counts_inputs else 1,
            loop=None if io.blocking else asyncio.get_running_loop(),
        )
        try:
            if ticket.granted_at is None:
                await self._turn(flow, ticket, io)
            vectors = await onward(request)
        except BaseException as error:
            flow.leave(ticket, error)
            raise
        flow.leave(ticket)
        return vectors

    async def _turn(self, flow: FlowControl, ticket: Ticket, io: Any) -> None:
        while True:
            left = flow.advance()
            if ticket.granted_at is not None:
                return
            if left > self.patience:
                msg = f"the provider asked for a pause that lasts {left:.0f} s more; try again then"
                raise RateLimitError(msg, retry_after=left)
            most = min(left or _POLL_SECONDS, _POLL_SECONDS)
            await io.call(partial(ticket.wait, most), partial(ticket.await_, most))
            await io.sleep(0)
