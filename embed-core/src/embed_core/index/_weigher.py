"""What a run would do and cost: a dry run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from embed_core import BaseEmbedding
from embed_core.errors import StoreError
from embed_core.index._changes import Estimate
from embed_core.index._embedding import Advance
from embed_core.index._item import Entry, Item
from embed_core.index._jobs import jobs_of
from embed_core.index._walk import Skipped
from embed_core.index._writer import Writer


@runtime_checkable
class Estimating(Protocol):
    """A model that knows what it charges."""

    def estimate(self, texts: Iterable[str]) -> Any:
        """Return what embedding the texts would take, in the attributes of an `Estimate`; send nothing."""
        ...


class Weigher(Writer):
    """Takes what a `Writer` takes; writes and sends nothing, and adds up what it would cost."""

    def __init__(self, *args: Any, batch_jobs: bool = False) -> None:
        super().__init__(*args)
        self._share = float(getattr(jobs_of(self._model), "batch_discount", 1.0)) if batch_jobs else 1.0
        self._seen: set[bytes] = set()
        self._estimate = self.changes.estimate = Estimate()

    def refresh(self, items: Sequence[Item]) -> None:
        """Leave it as it is."""

    def remove(self, items: Sequence[Item]) -> None:
        """Count what would be forgotten."""
        self.changes.removed += len(items)

    def finish(self) -> None:
        """Leave it as it is."""

    def _store(self, entries: Sequence[Entry], advance: Advance) -> tuple[Sequence[Entry], Sequence[Skipped]]:
        texts = [piece.text for entry in entries for piece in entry.pieces]
        new = self._not_seen(texts)
        again = len(texts) - len(new)
        self._estimate += estimate(self._model, new, self._share) + Estimate(inputs=again, cached=again)
        self.changes.estimate = self._estimate
        advance(sum(entry.share * len(entry.pieces) for entry in entries))
        return entries, ()

    def _not_seen(self, texts: Iterable[str]) -> list[str]:
        new = {hashlib.blake2b(text.encode(), digest_size=16).digest(): text for text in texts}
        for key in self._seen & new.keys():
            del new[key]
        self._seen.update(new)
        return list(new.values())


def estimate(model: BaseEmbedding, texts: Sequence[str], share: float) -> Estimate:
    """Return what embedding different texts would take, at a share of the price; send nothing."""
    if isinstance(model, Estimating):
        found = model.estimate(texts)
        return Estimate(found.inputs, found.cached, found.tokens, None if found.price is None else found.price * share)
    sent = texts
    if model.embeddings_cache is not None:
        with suppress(StoreError):
            keys = model._keys()("text", texts)
            known = model.embeddings_cache.get_many(keys)
            sent = [text for text, key in zip(texts, keys, strict=True) if key not in known]
    return Estimate(len(texts), len(texts) - len(sent), model._count_tokens(sent), None if sent else 0.0)
