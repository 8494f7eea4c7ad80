"""Where the items that a run finds go to: the table of the index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np

from embed_core._types import Vectors
from embed_core.index._cached import Cached
from embed_core.index._changes import Changes
from embed_core.index._embedding import Advance, embed
from embed_core.index._item import Entry, Item
from embed_core.index._stamp import Stamp
from embed_core.index._store import Store
from embed_core.index._walk import Skipped

NewStamp: TypeAlias = Callable[[int], Stamp]
"""Returns the stamp of a new index, given the dimension."""


class Writer:
    """Embeds and stores items, one commit for each list, and counts what it does."""

    chunks_at_once: ClassVar[int] = 1024
    """How many to give to one `put`: some megabytes in memory, and commits so seldom that they are cheap."""

    def __init__(self, folder: Path, store: Store | None, cached: Cached, new_stamp: NewStamp) -> None:
        self.store = store
        self.changes = Changes()
        self._folder, self._cached, self._new_stamp = folder, cached, new_stamp
        self._made: Mapping[str, Vectors] = {}

    def put(self, entries: Sequence[Entry], advance: Advance) -> None:
        """Store new and changed items; list what the model refuses."""
        stored, refused = self._store(entries, advance)
        self.changes.skipped += refused
        for entry in stored:
            self._count(entry)

    def keep(self, item: Item) -> None:
        """Count an item that is unchanged."""
        if item.note is not None:
            self.changes.skipped.append(Skipped(item.source, item.name + item.note))
        else:
            self.changes.unchanged += 1

    def refresh(self, items: Sequence[Item]) -> None:
        """Note new data of items whose content is the same."""
        if self.store is not None and items:
            self.store.refresh(items)

    def remove(self, items: Sequence[Item]) -> None:
        """Forget items that are gone."""
        if self.store is not None and items:
            self.store.remove(items)
        self.changes.removed += len(items)

    def finish(self) -> None:
        """Tidy up at the end of a run."""
        if self.store is not None:
            self.store.tidy()

    def _store(self, entries: Sequence[Entry], advance: Advance) -> tuple[Sequence[Entry], Sequence[Skipped]]:
        entries, vectors, refused = embed(entries, self._cached, self._made, advance)
        if self.store is None:
            if not len(vectors):  # the dimension is not known yet
                return entries, refused
            self.store = Store.create(self._folder, self._new_stamp(vectors.shape[1]))
        self._write(self.store, entries, vectors)
        return entries, refused

    def _write(self, store: Store, entries: Sequence[Entry], vectors: Vectors) -> None:
        new, held = ([entry for entry in entries if entry.held is is_held] for is_held in (False, True))
        rows = np.repeat([entry.held for entry in entries], [len(entry.pieces) for entry in entries])
        if new:
            store.add(new, vectors[~rows])
        if held:
            store.replace(held, vectors[rows])

    def _count(self, entry: Entry) -> None:
        self.changes.chunks += len(entry.pieces)
        if entry.item.note is not None:
            self.changes.skipped.append(Skipped(entry.item.source, entry.item.name + entry.item.note))
        elif entry.held:
            self.changes.changed += 1
        else:
            self.changes.added += 1
