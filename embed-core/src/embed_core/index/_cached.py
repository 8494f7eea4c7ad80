"""A model with the cache that a run lends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from embed_core import BaseEmbedding
from embed_core._engine import Chain
from embed_core._io import drive
from embed_core._types import Vectors
from embed_core.errors import StoreError
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
        if self._chain is None:
            return self.model.embed_texts(texts)
        return drive(self.model._embed_all(self.model._io(), "text", texts, chain=self._chain))

    def known(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """Return the vectors that are in the cache, by text; a cache that fails holds none."""
        if (store := self._store) is None:
            return {}
        text_of = dict(zip(self._keys("text", texts), texts, strict=True))
        with suppress(StoreError):
            found = self.model._rows.decode(store.get_many(list(text_of)), self.model.dimension)
            return {text_of[key]: vector for key, vector in found.items()}
        return {}

    def keep(self, vectors: Mapping[str, Vectors]) -> None:
        """Put vectors, by text, into the lent cache; those of a model with its own are there already."""
        if self.lent is None:
            return
        for some in portions(vectors.items(), _KEPT_AT_ONCE):
            keys = self._keys("text", [text for text, _ in some])
            rows = self.model._rows.encode(np.stack([vector for _, vector in some]))
            with suppress(StoreError):
                self.lent.put_many(dict(zip(keys, rows, strict=True)))

    @property
    def _store(self) -> KVStore | None:
        return self.model.embeddings_cache if self.lent is None else self.lent

    @cached_property
    def _keys(self) -> Any:
        return self.model._keys(self._store)

    @cached_property
    def _chain(self) -> Chain | None:
        return None if self.lent is None else self.model._chain_with(self.lent)
