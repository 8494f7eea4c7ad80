"""The cost of embedding, told beforehand by the way that embedding itself goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from embed_core._io import IO
from embed_core._result import Onward, Result
from embed_core._types import Request

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of embedding some inputs.

    Attributes:
        inputs: how many inputs there are.
        cached: how many of them need no request, because the cache holds them or they come twice.
        tokens: of the others, about: by the model's tokenizer, or a quarter of their UTF-8 bytes.
        price: of those tokens in US dollars; None where the model knows no price.
    """

    inputs: int = 0
    cached: int = 0
    tokens: int = 0
    price: float | None = 0.0

    def __add__(self, other: Estimate) -> Estimate:
        price = None if self.price is None or other.price is None else self.price + other.price
        return Estimate(self.inputs + other.inputs, self.cached + other.cached, self.tokens + other.tokens, price)

    def at(self, share: float) -> Estimate:
        """Return the same estimate at a share of the price, such as 0.5 for a batch job."""
        return Estimate(self.inputs, self.cached, self.tokens, None if self.price is None else self.price * share)


@dataclass(slots=True)
class Weighed:
    """Stands where requests for missing inputs begin, sends none, and counts them.

    Attributes:
        limit: most tokens that are charged for one input, because it is cut there; None for no limit.
        missing: the positions of inputs that would be sent.
    """

    count_tokens: Callable[[Sequence[Any]], int]
    limit: Callable[[], int | None]
    tokens: int = 0
    missing: set[int] = field(default_factory=set)

    async def __call__(self, request: Request, next: Onward, io: IO) -> Result:
        def count() -> int:
            counts = [self.count_tokens([one]) for one in request.inputs]
            limit = self.limit()
            return sum(counts if limit is None else (min(one, limit) for one in counts))

        self.tokens += await io.call(count)
        self.missing.update(request.indices)
        return Result(len(request.inputs))

    def estimate(self, inputs: int, per_million: float | None) -> Estimate:
        """Return the cost of a number of inputs at a price per million tokens."""
        price = 0.0 if not self.tokens else None if per_million is None else self.tokens * per_million / _MILLION
        return Estimate(inputs, inputs - len(self.missing), self.tokens, price)
