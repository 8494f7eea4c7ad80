"""A budget of requests and tokens per minute, shared by every model and thread that holds it."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol

from embed_core.errors import ConfigurationError
from embed_core.forks import Lock

_MINUTE = 60.0


class RateLimiter:
    """A limit on requests and tokens per minute; first come, first served.

    A reservation takes its share at once and says how long to wait for it. So the limiter never sleeps, and a later,
    smaller request never overtakes an earlier one.
    """

    def __init__(
        self,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        algorithm: Literal["token_bucket", "sliding_window"] = "token_bucket",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set the budget; None means no limit.

        A token bucket admits a whole minute's budget at once and refills evenly. A sliding window never admits more
        than the budget in any sixty seconds.

        Raises:
            ConfigurationError: a limit is not positive, or the algorithm is unknown.
        """
        for name, value in (("requests_per_minute", requests_per_minute), ("tokens_per_minute", tokens_per_minute)):
            if value is not None and value <= 0:
                msg = f"`{name}` is {value}; it must be at least 1, or None for no limit"
                raise ConfigurationError(msg)
        if algorithm not in _ALGORITHMS:
            msg = f"`algorithm` is {algorithm!r}; it must be one of {sorted(_ALGORITHMS)}"
            raise ConfigurationError(msg)
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self._clock = clock
        self._lock = Lock()
        meter = _ALGORITHMS[algorithm]
        self._requests = meter(requests_per_minute) if requests_per_minute is not None else None
        self._tokens = meter(tokens_per_minute) if tokens_per_minute is not None else None
        self._ahead: deque[float] = deque()

    def reserve(self, tokens: int) -> Reservation:
        """Take one request of `tokens` tokens out of the budget; `seconds` of the reservation is the wait before it.

        Raises:
            ConfigurationError: the request is larger than a whole minute's budget and could never be sent.
        """
        if self.tokens_per_minute is not None and tokens > self.tokens_per_minute:
            msg = (
                f"one request of about {tokens} tokens exceeds the whole budget of {self.tokens_per_minute} tokens "
                "per minute; lower `embed_batch_size` or raise `tokens_per_minute`"
            )
            raise ConfigurationError(msg)
        with self._lock:
            now = self._clock()
            while self._ahead and self._ahead[0] <= now:
                self._ahead.popleft()
            at = self._ahead[-1] if self._ahead else now
            for meter, amount in self._shares(tokens):
                at = max(at, meter.earliest(amount, at))
            for meter, amount in self._shares(tokens):
                meter.take(amount, at, now)
            if at > now:
                self._ahead.append(at)
        return Reservation(at - now, at, tokens)

    def give_back(self, reservation: Reservation) -> None:
        """Return the share of a request that will not be sent, so that later requests wait less."""
        with self._lock:
            with suppress(ValueError):  # its time has passed
                self._ahead.remove(reservation.at)
            for meter, amount in self._shares(reservation.tokens):
                meter.give_back(amount, reservation.at)

    def _shares(self, tokens: int) -> list[tuple[_Meter, int]]:
        shares = ((self._requests, 1), (self._tokens, tokens))
        return [(meter, amount) for meter, amount in shares if meter is not None]


@dataclass(frozen=True, slots=True)
class Reservation:
    """A place in the queue.

    Attributes:
        seconds: the wait from the time of the reservation.
        at: the time of sending, on the limiter's clock.
        tokens: the reserved tokens.
    """

    seconds: float
    at: float
    tokens: int


class _Meter(Protocol):
    def earliest(self, amount: int, at: float) -> float: ...
    def take(self, amount: int, at: float, now: float) -> None: ...
    def give_back(self, amount: int, at: float) -> None: ...


class _Bucket:
    """A token bucket, https://en.wikipedia.org/wiki/Token_bucket, that starts full.

    The current level is kept apart from future reservations, so that a returned reservation leaves no trace.
    """

    def __init__(self, per_minute: int) -> None:
        self._size = per_minute
        self._rate = per_minute / _MINUTE
        self._past = (float(per_minute), -math.inf)  # level and time
        self._ahead: deque[tuple[float, int]] = deque()
        self._last: tuple[float, float] | None = self._past  # after all future reservations; None: unknown

    def earliest(self, amount: int, at: float) -> float:
        return at + max(0.0, (amount - self._filled(self._end(), at)) / self._rate)

    def take(self, amount: int, at: float, now: float) -> None:
        self._last = self._filled(self._end(), at) - amount, at
        self._ahead.append((at, amount))
        while self._ahead and self._ahead[0][0] <= now:
            at, amount = self._ahead.popleft()
            self._past = self._filled(self._past, at) - amount, at

    def give_back(self, amount: int, at: float) -> None:
        try:
            self._ahead.remove((at, amount))
        except ValueError:  # its time has passed
            self._past = min(self._size, self._past[0] + amount), self._past[1]
        self._last = None

    def _end(self) -> tuple[float, float]:
        if self._last is None:
            self._last = self._past
            for at, amount in self._ahead:
                self._last = self._filled(self._last, at) - amount, at
        return self._last

    def _filled(self, since: tuple[float, float], at: float) -> float:
        level, moment = since
        return min(self._size, level + max(0.0, at - moment) * self._rate)


class _Window:
    """A log of the last sixty seconds and of all future reservations."""

    def __init__(self, per_minute: int) -> None:
        self._size = per_minute
        self._log: deque[tuple[float, int]] = deque()
        self._end: deque[tuple[float, int]] | None = deque()  # the minute before the last reservation; None: unknown
        self._used = 0

    def earliest(self, amount: int, at: float) -> float:
        end = self._last_minute()
        used = self._used
        for taken_at, taken in end:
            if taken_at + _MINUTE > at and used + amount <= self._size:
                break
            at, used = max(at, taken_at + _MINUTE), used - taken
        return at

    def take(self, amount: int, at: float, now: float) -> None:
        end = self._last_minute()
        while end and end[0][0] + _MINUTE <= at:
            self._used -= end.popleft()[1]
        while self._log and self._log[0][0] + _MINUTE <= now:
            self._log.popleft()
        end.append((at, amount))
        self._log.append((at, amount))
        self._used += amount

    def give_back(self, amount: int, at: float) -> None:
        with suppress(ValueError):  # it has left the window already
            self._log.remove((at, amount))
            self._end = None

    def _last_minute(self) -> deque[tuple[float, int]]:
        if self._end is None:
            self._end = self._log.copy()
            self._used = sum(amount for _, amount in self._end)
        return self._end


_ALGORITHMS: dict[str, Callable[[int], _Meter]] = {"token_bucket": _Bucket, "sliding_window": _Window}
