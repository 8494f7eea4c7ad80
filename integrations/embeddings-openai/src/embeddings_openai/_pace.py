"""How fast one account may be asked: requests in flight, pauses the provider asks for, and who goes first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
import time
import weakref
from collections import deque
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

_KEPT = 32

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
        self._numbers = itertools.count()
        self.reset()
        reset_in_children(self)

    def reset(self) -> None:
        """Start again with nothing in flight, as a forked child must."""
        self._lock = threading.RLock()  # to collect a lost task is to end it, so a thread that is in here may leave
        self._waiting: list[tuple[bool, int, Ticket]] = []
        self._in_flight: dict[Ticket, float] = {}
        self._cut_at = self._paused_until = self._apart_at = -math.inf
        self._budgets = {"requests": _Budget(), "tokens": _Budget()}
        self.limit = math.inf

    def ask(
        self, *, first: bool, tokens: int, inputs: int = 0, loop: asyncio.AbstractEventLoop | None = None
    ) -> Ticket:
        """Return a ticket, which is granted at once or when its turn comes; it is void once its loop is closed."""
        ticket = Ticket(first, tokens, inputs, loop)
        with self._lock:
            heapq.heappush(self._waiting, (not first, next(self._numbers), ticket))
            self._grant()
        return ticket

    def advance(self) -> float:
        """Grant what can be granted by now; return the seconds until time alone lets the first one go, else 0."""
        with self._lock:
            return self._grant()

    def leave(self, ticket: Ticket, error: BaseException | None = None) -> None:
        """Take a ticket back after its request, or unused, and learn from how the request ended."""
        with self._lock:
            ticket.left = True
            if (sent_at := self._in_flight.get(ticket)) is not None:
                self._adapt(sent_at, error)
                self._in_flight.pop(ticket, None)
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
                self.limit, self._cut_at = max(1.0, min(self.limit, len(self._in_flight)) / 2), now
        elif error is None and len(self._in_flight) + 1 > self.limit:
            self.limit += 1 / self.limit
        if isinstance(error, ProviderError) and error.retryable and error.retry_after is not None:
            self._paused_until = max(self._paused_until, now + error.retry_after)

    def _grant(self) -> float:
        now = self._clock()
        while self._waiting and self._has_room():
            place = heapq.heappop(self._waiting)
            ticket = place[-1]
            if ticket.is_void():
                continue
            shares = ((self._budgets["requests"], 1), (self._budgets["tokens"], ticket.tokens))
            apart = self._apart_at - now if self._in_flight and not ticket.first else 0.0
            wait = max(self._paused_until - now, apart, *(budget.wait(amount, now) for budget, amount in shares))
            if wait > 0:
                heapq.heappush(self._waiting, place)
                return wait
            for budget, amount in shares:
                budget.level -= amount
            self._in_flight[ticket] = now
            self._apart_at = now + ticket.inputs * _READ_SECONDS
            ticket.grant(now)
        return 0.0

    def _has_room(self) -> bool:
        if len(self._in_flight) + 1 > self.limit:
            for ticket in [one for one in tuple(self._in_flight) if one.stands_still()]:
                self._in_flight.pop(ticket, None)
        return len(self._in_flight) + 1 <= self.limit


@dataclass(slots=True, eq=False)
class Ticket:
    """A place in the queue; `granted_at` is set when its request may go."""

    first: bool
    tokens: int
    inputs: int
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
    """The one pace that everybody keeps who asks one server for one model with one key.

    The last few are kept when their models are gone: a provider that asks for a pause means the next model too.
    """

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[tuple[str, str, str], Pace] = weakref.WeakValueDictionary()
        self._last: deque[Pace] = deque(maxlen=_KEPT)
        self._lock = Lock()

    def of(self, base_url: str, key: str, model: str) -> Pace:
        """Return it."""
        with self._lock:
            pace = self._known.setdefault((base_url, key, model), Pace())
            with suppress(ValueError):
                self._last.remove(pace)
            self._last.append(pace)
            return pace


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
        pace, inputs = self.pace(), request.inputs
        first, loop = request.kind == "query", None if io.blocking else asyncio.get_running_loop()
        ticket = pace.ask(first=first, tokens=self.count_tokens(inputs), inputs=len(inputs), loop=loop)
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
        while True:
            left = pace.advance()
            if ticket.granted_at is not None:
                return
            if left > self.patience:
                msg = f"the provider asked for a pause that lasts {left:.0f} s more; try again then"
                raise RateLimitError(msg, retry_after=left)
            most = min(left or _POLL_SECONDS, _POLL_SECONDS)
            await io.call(partial(ticket.wait, most), partial(ticket.await_, most))
            await io.sleep(0)
