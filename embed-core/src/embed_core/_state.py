"""The engine's knowledge of one model, and the places where an integration adds to its way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from embed_core._cache import Cache
from embed_core._rows import Rows
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
        changes: the version of the collections in its fields, now.
        version: the version that this was learned at.
        volatile: whether a field that decides vectors can change without a word, so that each call has to look.
        used: whether inputs have been embedded with it, which fixes the fields that decide vectors.
        limits: most tokens of one input, by kind.
        warned: not empty once the user has been warned that texts are cut.
        in_flight: the inputs that are being embedded right now, where there is a cache.
    """

    dimension: Dimension
    normalizes: bool
    changes: Changes
    version: object
    volatile: bool = False
    used: bool = False
    fingerprint: str = ""
    limits: dict[Kind, int | None] = field(default_factory=dict)
    warned: list[bool] = field(default_factory=list)
    in_flight: InFlight = field(default_factory=InFlight)
    _cache: Cache | None = None

    def cache(self, store: KVStore, rows: Rows) -> Cache:
        """Return the entries of this configuration in a store, for which the fingerprint must be known."""
        cache = self._cache
        if cache is None or cache.store is not store:
            cache = self._cache = Cache(store, self.fingerprint, rows, self.dimension)
        return cache

    def is_stale(self) -> bool:
        """Tell whether a collection in a field has been changed in place since."""
        return self.version is not self.changes.version

    def is_ready(self, *, cached: bool) -> bool:
        """Tell whether inputs can be embedded with this knowledge as it is."""
        ready = self.used and not (self.volatile and cached) and self.version is self.changes.version
        return ready and (not cached or self.fingerprint != "")
