"""A budget of requests and tokens per minute, shared by every model and thread that holds it."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set the budget; None means no limit.

        A full budget may be sent at once; it refills evenly.

        Raises:
            ConfigurationError: a limit is not positive.
        """
        for name, value in (("requests_per_minute", requests_per_minute), ("tokens_per_minute", tokens_per_minute)):
            if value is not None and value <= 0:
                msg = f"`{name}` is {value}; it must be at least 1, or None for no limit"
                raise ConfigurationError(msg)
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self._clock = clock
        self._lock = Lock()
        self._requests = None if requests_per_minute is None else _Bucket(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else _Bucket(tokens_per_minute)
        self._ahead: deque[float] = deque()

    def reserve(self, tokens: int, requests: int = 1) -> Reservation:
        """Take one request of `tokens` tokens out of the budget; `seconds` of the reservation is the wait before it.

        Args:
            tokens: an estimate of them.
            requests: how many requests the provider counts for it, where a quota counts inputs.

        Raises:
            ConfigurationError: the request is larger than a whole minute's budget and could never be sent.
        """
        for amount, most, unit in (
            (requests, self.requests_per_minute, "requests"),
            (tokens, self.tokens_per_minute, "tokens"),
        ):
            if most is not None and amount > most:
                msg = (
                    f"one request of about {amount} {unit} exceeds the whole budget of {most} {unit} per minute; "
                    f"lower `embed_batch_size` or raise `{unit}_per_minute`"
                )
                raise ConfigurationError(msg)
        with self._lock:
            now = self._clock()
            while self._ahead and self._ahead[0] <= now:
                self._ahead.popleft()
            at = self._ahead[-1] if self._ahead else now
            for bucket, amount in self._shares(tokens, requests):
                at = max(at, bucket.earliest(amount, at))
            for bucket, amount in self._shares(tokens, requests):
                bucket.take(amount, at, now)
            if at > now:
                self._ahead.append(at)
        return Reservation(at - now, at, tokens, requests)

    def give_back(self, reservation: Reservation) -> None:
        """Return the share of a request that will not be sent, so that later requests wait less."""
        with self._lock:
            with suppress(ValueError):  # its time has passed
                self._ahead.remove(reservation.at)
            for bucket, amount in self._shares(reservation.tokens, reservation.requests):
                bucket.give_back(amount, reservation.at)

    def _shares(self, tokens: int, requests: int) -> list[tuple[_Bucket, int]]:
        shares = ((self._requests, requests), (self._tokens, tokens))
        return [(bucket, amount) for bucket, amount in shares if bucket is not None]


@dataclass(frozen=True, slots=True)
class Reservation:
    """A place in the queue.

    Attributes:
        seconds: the wait from the time of the reservation.
        at: the time of sending, on the limiter's clock.
        tokens: the reserved tokens.
        requests: the reserved requests.
    """

    seconds: float
    at: float
    tokens: int
    requests: int = 1


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
