"""A model with the cache that a run lends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embed_core import BaseEmbedding, Cache, Vectors, cache_of, embed
from embed_core.index._portions import portions
from embed_core.kvstore import KVStore

_KEPT_AT_ONCE = 1000


@dataclass(frozen=True)
class Cached:
    """A model, and where its vectors are kept; the model itself stays as it is, for others may use it meanwhile.

    Attributes:
        lent: a cache for the model; None where it has its own, or is to have none.
    """

    model: BaseEmbedding
    lent: KVStore | None = None

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts; return a float32 array of shape (n, dimension)."""
        return embed(self.model, "text", texts, cache=self.lent)

    def known(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """Return the vectors that are in the cache, by text."""
        if (cache := self._cache()) is None:
            return {}
        text_of = dict(zip(cache.keys("text", texts), texts, strict=True))
        return {text_of[key]: vector for key, vector in cache.known(text_of).items()}

    def keep(self, vectors: Mapping[str, Vectors]) -> None:
        """Put vectors, by text, into the lent cache; those of a model with its own are there already."""
        if self.lent is None or (cache := self._cache()) is None:
            return
        for some in portions(vectors.items(), _KEPT_AT_ONCE):
            cache.keep(cache.keys("text", [text for text, _ in some]), np.stack([vector for _, vector in some]))

    def _cache(self) -> Cache | None:
        store = self.model.embeddings_cache if self.lent is None else self.lent
        return None if store is None else cache_of(self.model, store)
