"""Every attempt pays the limiter before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from embed_core._io import IO
from embed_core._limits import RateLimiter
from embed_core._types import Next, Request, Vectors


@dataclass(frozen=True, slots=True)
class RateLimited:
    """Waits until the limiter has room for the request.

    Attributes:
        count_requests: returns how many requests the provider's quota counts for a batch.
    """

    limiter: RateLimiter
    count_tokens: Callable[[Sequence[Any]], int]
    count_requests: Callable[[Sequence[Any]], int] = lambda _: 1

    async def __call__(self, request: Request, next: Next, io: IO) -> Vectors:
        inputs = request.inputs
        reservation = self.limiter.reserve(self.count_tokens(inputs), self.count_requests(inputs))
        if reservation.seconds > 0:
            try:
                await io.sleep(reservation.seconds)
            except BaseException:  # cancelled while it waited: nothing was sent
                self.limiter.give_back(reservation)
                raise
        return await next(request)
