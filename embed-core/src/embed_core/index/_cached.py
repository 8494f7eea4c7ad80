"""A model with the cache that a run lends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from embed_core import BaseEmbedding, _space
from embed_core._engine import _Chain, _event_handlers
from embed_core._io import drive
from embed_core._types import Middleware, Request, Vectors
from embed_core.errors import StoreError
from embed_core.index._portions import portions
from embed_core.kvstore import KVStore
from embed_core.middleware.batched import Batched
from embed_core.middleware.isolated import Isolated
from embed_core.middleware.recalled import Recalled
from embed_core.middleware.remembered import Remembered

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
        request = Request("text", texts, range(len(texts)), ids=range(len(texts)))
        return drive(self._chain.run(request, self.model._io(), self.model._provide))

    def known(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """Return the vectors that are in the cache, by text; a cache that fails holds none."""
        store = self.model.embeddings_cache if self.lent is None else self.lent
        if store is None:
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

    @cached_property
    def _keys(self) -> Any:
        return partial(_space.keys, self.model.fingerprint)

    @cached_property
    def _chain(self) -> _Chain | None:
        """The model's own middleware, and around its batches what it would have if the cache were its own.

        But for `Joined`: only one run writes at a time.
        """
        if (store := self.lent) is None:
            return None
        model, chain = self.model, self.model._ready()
        listeners = partial(_event_handlers, model.callback_manager)
        around: list[Middleware] = []
        for one in chain.middleware:
            if isinstance(one, Batched):
                around.append(Recalled(store, self._keys, model._rows, chain.dimension, model.model_name, listeners))
            around.append(one)
            if isinstance(one, Isolated):
                around.append(Remembered(store, self._keys, model._rows))
        return replace(chain, middleware=tuple(around))
