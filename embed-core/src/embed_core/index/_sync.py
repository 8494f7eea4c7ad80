"""One run that brings an index up to date with what lies on the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from embed_core import BaseEmbedding
from embed_core._splitting import TextSplitter
from embed_core.errors import InvalidInputError
from embed_core.index._embedding import Advance, embed
from embed_core.index._entry import Entry, File, entry
from embed_core.index._stamp import Stamp
from embed_core.index._store import Store
from embed_core.index._walk import Found, Skipped, is_gone, is_under, walk

_CHUNKS_AT_ONCE = 1024  # one commit: some megabytes in memory, and seldom enough to be cheap
_FILES_AT_ONCE = 500


@dataclass(slots=True)
class Changes:
    """What a run did, in files; `chunks` counts those written.

    Attributes:
        skipped: what is not in the index, or only in part, and why.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    skipped: list[Skipped] = field(default_factory=list)


class Sync:
    """A run; everything that it has embedded is stored, or in the model's cache, when it is stopped on the way."""

    def __init__(self, folder: Path, store: Store | None, model: BaseEmbedding, splitter: TextSplitter) -> None:
        self.store = store
        self.changes = Changes()
        self._folder, self._model, self._splitter = folder, model, splitter
        self._known: Mapping[str, File] = store.files() if store is not None else {}

    def run(self, roots: Sequence[str], *, show_progress: bool) -> None:
        """Index what is new or changed under some canonical paths, and forget what is gone there.

        Raises:
            InvalidInputError: a path does not exist, and the index holds nothing of it either.
        """
        self._check(roots)
        stale = self._look(roots)
        with _bar(sum(found.size for found in stale), show=show_progress) as advance:
            for window in _windows(self._read(stale, advance)):
                self._write(window, advance)
        if self.store is not None:
            self.store.tidy()

    def _check(self, roots: Sequence[str]) -> None:
        for root in roots:
            if is_under(root, str(self._folder)):
                msg = f"`{root}` is the folder of the index; name what is to be indexed"
                raise InvalidInputError(msg)
            if not Path(root).exists() and not any(is_under(source, root) for source in self._known):
                msg = f"there is no file or folder `{root}`"
                raise InvalidInputError(msg)

    def _look(self, roots: Sequence[str]) -> list[Found]:
        """Return the files that may have changed; forget those that are gone."""
        stale, seen = [], set()
        for one in walk((root for root in roots if Path(root).exists()), leave_out=str(self._folder)):
            seen.add(one.source)
            if isinstance(one, Skipped):
                self.changes.skipped.append(one)
            elif (known := self._known.get(one.source)) is None or not known.looks_like(one):
                stale.append(one)
            else:
                self._count_unchanged(known)
        under = (source for source in self._known.keys() - seen if any(is_under(source, root) for root in roots))
        self._forget([source for source in under if is_gone(source)])
        return stale

    def _forget(self, gone: Sequence[str]) -> None:
        if self.store is not None and gone:
            self.store.remove(gone)
            self.changes.removed += len(gone)

    def _read(self, stale: Iterable[Found], advance: Advance) -> Iterator[Entry | File]:
        for found in stale:
            one = entry(found, self._known.get(found.source), self._splitter)
            if isinstance(one, Skipped):
                self.changes.skipped.append(one)
                advance(found.size)
            else:
                yield one

    def _write(self, window: Sequence[Entry | File], advance: Advance) -> None:
        entries = [one for one in window if isinstance(one, Entry)]
        same = [one for one in window if isinstance(one, File)]
        for file in same:
            self._count_unchanged(file)
            advance(file.size)
        if entries:
            self._replace(entries, advance)
        if self.store is not None and same:
            self.store.refresh(same)

    def _replace(self, entries: Sequence[Entry], advance: Advance) -> None:
        advance(sum(one.file.size - one.share * len(one.pieces) for one in entries))
        entries, vectors, refused = embed(entries, self._model, advance)
        self.changes.skipped += refused
        for one in entries:
            self._count(one)
        if self.store is None:
            if not len(vectors):  # the dimension is not known yet
                return
            stamp = Stamp.of(self._model, vectors.shape[1], self._splitter)
            self.store = Store.create(self._folder, stamp)
        held = [one.file.source in self._known for one in entries]
        rows = np.repeat(held, [len(one.pieces) for one in entries])
        if not all(held):
            self.store.add([one for one, is_held in zip(entries, held, strict=True) if not is_held], vectors[~rows])
        if any(held):
            self.store.replace([one for one, is_held in zip(entries, held, strict=True) if is_held], vectors[rows])

    def _count(self, one: Entry) -> None:
        self.changes.chunks += len(one.pieces)
        if one.file.note is not None:
            self.changes.skipped.append(Skipped(one.file.source, one.file.note))
        elif one.file.source in self._known:
            self.changes.changed += 1
        else:
            self.changes.added += 1

    def _count_unchanged(self, file: File) -> None:
        if file.note is not None:
            self.changes.skipped.append(Skipped(file.source, file.note))
        else:
            self.changes.unchanged += 1


def _windows(entries: Iterable[Entry | File]) -> Iterator[list[Entry | File]]:
    """Yield the entries in lists of some hundred files or a thousand chunks."""
    window: list[Entry | File] = []
    chunks = 0
    for one in entries:
        window.append(one)
        chunks += len(one.pieces) if isinstance(one, Entry) else 0
        if chunks >= _CHUNKS_AT_ONCE or len(window) >= _FILES_AT_ONCE:
            yield window
            window, chunks = [], 0
    if window:
        yield window


@contextmanager
def _bar(total: int, *, show: bool) -> Iterator[Advance]:
    """Show a bar that counts the bytes of the files that are done, or nothing."""
    if not show:
        yield lambda _: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="Indexing", unit="B", unit_scale=True) as bar:
        yield bar.update
