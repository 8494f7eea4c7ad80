"""Requests, tokens and US dollars that a model has used, and a cap on them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ref

from embed_core._types import Next, Request, Vectors
from embed_core.errors import QuotaExceededError
from embed_core.forks import reset_in_children

_MILLION = 1_000_000
_ROUNDING = 1e-9
"""The share of a sum that the order of its parts may make."""
_POLL_SECONDS = 0.02
_FIRST_SECONDS = 1.0
"""How long to wait for the first answer: most take less, and one that hangs must not hold up everybody."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The use of a model since it was made.

    Attributes:
        requests: answers that held vectors.
        tokens: as the provider counted them.
        price: US dollars, by the estimate for answers that do not tell their tokens; None where no price is known for
            the model.
    """

    requests: int
    tokens: int
    price: float | None


class Meter:
    """Counts requests and tokens; safe from threads.

    Attributes:
        charged: tokens at the full price.
        reserved: tokens set aside for requests and jobs in flight.
        in_flight: requests for which tokens are set aside.
    """

    def __init__(self) -> None:
        self.requests = self.tokens = 0
        self.charged = 0.0
        self._told = self._estimated = 0
        self.reset()
        reset_in_children(self)

    def reset(self) -> None:
        """Have nothing in flight, as a forked child has."""
        self.lock = threading.RLock()
        self.in_flight, self.reserved = set[InFlight](), 0.0

    def add(self, told: int, estimated: int, *, share: float = 1.0) -> None:
        """Count one answer, charged at a share of the full price, and by the estimate where it tells no tokens."""
        with self.lock:
            self.requests += 1
            if told > 0:
                self.tokens += told
                self._told += told
                self._estimated += estimated
            self.charged += (told if told > 0 else estimated) * share

    def usage(self, per_million: float | None) -> Usage:
        """Return the use so far, at a price for a million tokens."""
        return Usage(self.requests, self.tokens, None if per_million is None else self.charged * per_million / _MILLION)

    def reserve(self, estimated: float, most: float) -> float | None:
        """Set tokens aside, more than estimated where the provider has counted more so far, and return how many.

        None where more than `most` would be charged then.
        """
        with self.lock:
            aside = self.expected(estimated)
            if self.charged + self.reserved + aside > most:
                return None
            self.reserved += aside
            return aside

    def expected(self, estimated: float) -> float:
        """Return the tokens that the provider may count for an estimate."""
        return estimated * max(1.0, self._told / self._estimated if self._estimated else 1.0)

    def release(self, aside: float) -> None:
        """Give back tokens that were set aside."""
        with self.lock:
            self.reserved = max(0.0, self.reserved - aside)

    def is_moving(self) -> bool:
        """Tell whether a request in flight can be expected to end."""
        with self.lock:
            known = self.in_flight.copy()  # to collect a lost task is to end it, at any moment
        return not all(one.stands_still() for one in known)


class InFlight:
    """A request in flight; keeps no event loop alive, and with it a task that nobody will run again."""

    __slots__ = ("_call", "_loop")

    def __init__(self, io: Any) -> None:
        self._call: Any = io if io.blocking else None  # another one holds its loop
        self._loop = None if io.blocking else ref(asyncio.get_running_loop())

    def stands_still(self) -> bool:
        """Tell whether its loop has stopped, or whether its call was interrupted and left it to a thread."""
        if self._loop is None:
            return bool(self._call.abandoned)
        return (loop := self._loop()) is None or not loop.is_running()


@dataclass(frozen=True, slots=True)
class Budgeted:
    """Sends no request that is expected to take the model's total above `max_cost` US dollars.

    Only answers tell how the provider counts. So until there is one, all but queries let the first request go alone for
    a second. Where that is slower, or later texts are denser, requests in flight when the first of them is answered may
    still exceed the budget.

    Attributes:
        per_million: US dollars for a million tokens.
        patience: for how many seconds a request that does not fit waits for others in flight, which may take less than
            is set aside for them.
    """

    meter: Meter
    max_cost: float
    per_million: float
    count_tokens: Callable[[Sequence[Any]], int]
    patience: float
    clock: Callable[[], float] = time.monotonic

    async def __call__(self, request: Request, onward: Next, io: Any) -> Vectors:
        mine = InFlight(io)
        aside = await self._set_aside(request, mine, io)
        try:
            return await onward(request)
        finally:
            with self.meter.lock:
                self.meter.in_flight.discard(mine)
                self.meter.release(aside)

    async def _set_aside(self, request: Request, mine: InFlight, io: Any) -> float:
        """Reserve the tokens of a request; one that does not fit waits, because its error would end the others."""
        meter, tokens, started = self.meter, self.count_tokens(request.inputs), self.clock()
        alone = 0.0 if request.kind == "query" else _FIRST_SECONDS
        while True:
            with meter.lock:
                waited = self.clock() - started
                if meter.requests or waited >= alone or not meter.is_moving():
                    aside = meter.reserve(tokens, self._most())
                    if aside is not None:
                        meter.in_flight.add(mine)
                        return aside
                    if waited >= self.patience or not meter.is_moving():
                        raise self._refusal(tokens)
            await io.sleep(_POLL_SECONDS)

    def reserve(self, tokens: float) -> float:
        """Set the price of some tokens aside; return how many tokens that are.

        Raises:
            QuotaExceededError: the total would exceed the budget.
        """
        aside = self.meter.reserve(tokens, self._most())
        if aside is None:
            raise self._refusal(tokens)
        return aside

    def _most(self) -> float:
        return self.max_cost / self.per_million * _MILLION * (1 + _ROUNDING)

    def _refusal(self, tokens: float) -> QuotaExceededError:
        counted = self.meter.charged, self.meter.reserved, self.meter.expected(tokens)
        spent, reserved, more = (f"{one * self.per_million / _MILLION:.8f}".rstrip("0").rstrip(".") for one in counted)
        return QuotaExceededError(
            f"{spent} US dollars are spent and {reserved} on their way, and some {more} more would exceed "
            f"`max_cost`, {self.max_cost}; what is finished is kept, so raise `max_cost` and go on"
        )
