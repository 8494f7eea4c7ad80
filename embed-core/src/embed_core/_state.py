"""The engine's knowledge of one model, and the places where an integration adds to its way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from embed_core._space import Dimension
from embed_core._tracked import Changes
from embed_core._types import Kind, Middleware
from embed_core.kvstore import KVStore
from embed_core.middleware.joined import InFlight


@dataclass(frozen=True, slots=True)
class Places:
    """Middleware of an integration, or of one call, by its place on the way.

    Attributes:
        missing: gets the inputs that the cache does not hold, before they are cut into batches; of the call.
        batch: around the events and retries of one batch.
        attempt: around one attempt, innermost.
        limits: whether `attempt` holds the rate limiter.
    """

    missing: tuple[Any, ...] = ()
    batch: tuple[Middleware, ...] = ()
    attempt: tuple[Middleware, ...] = ()
    limits: bool = False


@dataclass(slots=True)
class State:
    """The engine's knowledge of one configuration.

    Attributes:
        changes: counts the changes of collections in its fields.
        seen: that count when this was learned.
        limits: most tokens of one input, by kind.
        warned: not empty once the user has been warned that texts are cut.
        used: whether inputs have been embedded with it, which fixes the fields that decide vectors.
    """

    dimension: Dimension
    normalizes: bool
    changes: Changes
    seen: int
    used: bool = False
    fingerprint: str = ""
    limits: dict[Kind, int | None] = field(default_factory=dict)
    warned: list[bool] = field(default_factory=list)
    _in_flight: WeakKeyDictionary[KVStore, InFlight] = field(default_factory=WeakKeyDictionary)

    def is_stale(self) -> bool:
        """Tell whether a collection in a field has been changed in place since."""
        return self.seen != self.changes.count

    def is_ready(self, store: KVStore | None) -> bool:
        """Tell whether inputs can be embedded with this knowledge."""
        return self.used and self.seen == self.changes.count and (store is None or self.fingerprint != "")

    def in_flight(self, store: KVStore) -> InFlight:
        """Return the inputs that are being embedded right now for one cache."""
        there = self._in_flight.get(store)
        return self._in_flight.setdefault(store, InFlight()) if there is None else there
