"""A budget of requests and tokens per minute, shared by every model and thread that holds it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from embed_core.errors import ConfigurationError, InvalidInputError

_MINUTE = 60.0


class RateLimiter:
    """A token bucket for requests and one for tokens; first come, first served.

    A reservation takes its share at once and tells how long to wait for it, so nothing here sleeps, and a later,
    smaller request never overtakes an earlier one.
    """

    def __init__(
        self,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set the budget; None means without limit.

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
        self._lock = threading.Lock()
        self._requests = _Bucket(requests_per_minute)
        self._tokens = _Bucket(tokens_per_minute)

    def reserve(self, tokens: int) -> float:
        """Take one request of `tokens` tokens out of the budget and return the seconds to wait before sending it.

        Raises:
            InvalidInputError: the request is larger than a whole minute's budget and could never be sent.
        """
        if self.tokens_per_minute is not None and tokens > self.tokens_per_minute:
            msg = (
                f"one request of about {tokens} tokens exceeds the whole budget of {self.tokens_per_minute} tokens "
                "per minute; lower `embed_batch_size` or raise `tokens_per_minute`"
            )
            raise InvalidInputError(msg)
        with self._lock:
            now = self._clock()
            return max(self._requests.take(1, now), self._tokens.take(tokens, now))


class _Bucket:
    def __init__(self, per_minute: int | None) -> None:
        self._size = per_minute
        self._level = float(per_minute or 0)
        self._updated: float | None = None

    def take(self, amount: int, now: float) -> float:
        if self._size is None:
            return 0.0
        rate = self._size / _MINUTE
        elapsed = 0.0 if self._updated is None else now - self._updated
        self._updated = now
        self._level = min(self._size, self._level + elapsed * rate) - amount
        return max(0.0, -self._level / rate)
