"""What a run would do and cost: a dry run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from embed_core import Estimate, estimate
from embed_core.index._embedding import Advance
from embed_core.index._item import Entry, Item
from embed_core.index._jobs import jobs_of
from embed_core.index._walk import Skipped
from embed_core.index._writer import Writer


class Weigher(Writer):
    """Takes what a `Writer` takes; writes and sends nothing, and adds up what it would cost."""

    def __init__(self, *args: Any, batch_jobs: bool = False) -> None:
        super().__init__(*args)
        self._share = float(getattr(jobs_of(self._cached.model), "batch_discount", 1.0)) if batch_jobs else 1.0
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
        cost = estimate(self._cached.model, "text", new, cache=self._cached.lent)
        self._estimate += cost.at(self._share) + Estimate(inputs=again, cached=again)
        self.changes.estimate = self._estimate
        advance(sum(entry.share * len(entry.pieces) for entry in entries))
        return entries, ()

    def _not_seen(self, texts: Iterable[str]) -> list[str]:
        new = {hashlib.blake2b(text.encode(), digest_size=16).digest(): text for text in texts}
        for key in self._seen & new.keys():
            del new[key]
        self._seen.update(new)
        return list(new.values())
