"""What a run did to an index, or would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from embed_core.index._walk import Skipped


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the texts of a run would take to embed.

    Attributes:
        inputs: how many chunks there are.
        cached: how many of them need not be sent, because the cache holds them or they come twice.
        tokens: of the others, about.
        price: of those tokens in US dollars; None where the model knows no price.
    """

    inputs: int = 0
    cached: int = 0
    tokens: int = 0
    price: float | None = 0.0

    def __add__(self, other: Estimate) -> Estimate:
        price = None if self.price is None or other.price is None else self.price + other.price
        return Estimate(self.inputs + other.inputs, self.cached + other.cached, self.tokens + other.tokens, price)


@dataclass(slots=True)
class Changes:
    """What a run did, in files or records; `chunks` counts those written.

    Attributes:
        skipped: what is not in the index, or only in part, and why.
        estimate: what embedding would take, in a dry run; else None.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    estimate: Estimate | None = None

    def __iadd__(self, other: Changes) -> Self:
        """Add what another run did."""
        for name in ("added", "changed", "unchanged", "removed", "chunks"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.skipped += other.skipped
        if other.estimate is not None:
            self.estimate = (self.estimate or Estimate()) + other.estimate
        return self
