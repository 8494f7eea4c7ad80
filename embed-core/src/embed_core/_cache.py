"""Vectors of one configuration in a store, by content: nothing it does fails, and nothing damaged comes back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from embed_core import _space
from embed_core._rows import Rows
from embed_core._space import Dimension
from embed_core._types import Kind, Request, Vectors
from embed_core.kvstore import KVStore, attempt


@dataclass(frozen=True, slots=True)
class Cache:
    """The entries of one model in a store; three middleware, an index and a pipeline share it."""

    store: KVStore
    fingerprint: str
    rows: Rows
    dimension: Dimension

    def keys(self, kind: Kind, inputs: Sequence[Any]) -> list[bytes]:
        """Return the key of each input."""
        return _space.keys(self.fingerprint, kind, inputs)

    def keys_of(self, request: Request) -> Sequence[bytes]:
        """Return the keys of a request's inputs, made once for all who ask."""
        return request.keys or self.keys(request.kind, request.inputs)

    def known(self, keys: Iterable[bytes]) -> dict[bytes, Vectors]:
        """Return the vectors that are there; a store that fails holds none."""
        wanted = list(dict.fromkeys(keys))
        return attempt(self.store, lambda: self.rows.decode(self.store.get_many(wanted), self.dimension.known), {})

    def keep(self, keys: Iterable[bytes], vectors: Vectors) -> None:
        """Store vectors, where the store does not fail."""
        attempt(self.store, lambda: self.store.put_many(self.rows.encode(keys, vectors)), None)

    def forget(self, keys: Iterable[bytes]) -> None:
        """Remove the entries of these keys, where there are any."""
        attempt(self.store, lambda: self.store.delete_many(list(keys)), None)
