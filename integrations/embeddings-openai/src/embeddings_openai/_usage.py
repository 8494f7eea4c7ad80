"""What was used and paid, and what would be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from embed_core import Request, Vectors
from embed_core.errors import QuotaExceededError
from embed_core.forks import Lock

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """What a model has used since it was made.

    Attributes:
        requests: answers that held vectors.
        tokens: as the provider counted them.
        price: US dollars; None where no price is known for the model.
    """

    requests: int
    tokens: int
    price: float | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What embedding some texts would take.

    Attributes:
        inputs: how many texts there are.
        cached: how many of them need no request, because the cache holds them or they come twice.
        tokens: of the others, about: a quarter of their UTF-8 bytes.
        price: of those tokens in US dollars; None where no price is known for the model.
    """

    inputs: int
    cached: int
    tokens: int
    price: float | None


class Meter:
    """Counts what was used; safe from threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.requests = self.tokens = self.reserved = 0
        self.charged = 0.0

    def add(self, tokens: int, *, share: float = 1.0) -> None:
        """Count one answer, charged at a share of the full price."""
        with self._lock:
            self.requests += 1
            self.tokens += tokens
            self.charged += tokens * share

    def reserve(self, tokens: int, most: float) -> bool:
        """Set tokens aside for a request if at most `most` are charged then; tell whether they are."""
        with self._lock:
            if self.charged + self.reserved + tokens > most:
                return False
            self.reserved += tokens
            return True

    def release(self, tokens: int) -> None:
        """Give back what was set aside."""
        with self._lock:
            self.reserved -= tokens


def price_of(tokens: float, per_million: float | None) -> float | None:
    """Return US dollars."""
    return None if per_million is None else tokens * per_million / _MILLION


@dataclass(frozen=True, slots=True)
class Budgeted:
    """Sends no request that would take the model's total above `max_cost` US dollars."""

    meter: Meter
    max_cost: float
    per_million: float
    count_tokens: Callable[[Sequence[Any]], int]

    async def __call__(self, request: Request, onward: Callable[[Request], Awaitable[Vectors]], io: Any) -> Vectors:
        tokens = self.count_tokens(request.inputs)
        self.reserve(tokens)
        try:
            return await onward(request)
        finally:
            self.meter.release(tokens)

    def reserve(self, tokens: int) -> None:
        """Set the price of some tokens aside.

        Raises:
            QuotaExceededError: the total would exceed the budget.
        """
        if not self.meter.reserve(tokens, self.max_cost / self.per_million * _MILLION):
            spent = price_of(self.meter.charged, self.per_million)
            raise QuotaExceededError(
                f"{spent:.4f} US dollars are spent, and about {tokens} tokens more would exceed `max_cost`, "
                f"{self.max_cost}; what is finished is kept, so raise `max_cost` and go on"
            )
