"""Items on their way into the table: embedded, written in few commits, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

from embed_core import Vectors
from embed_core.errors import EmbedError, InvalidInputError
from embed_core.index._item import ChunkedItem, Item, Piece
from embed_core.index._results import Changes, Skipped
from embed_core.index._store import Store

Advance: TypeAlias = Callable[[int], object]
"""Moves a bar by some bytes or records."""

Embed: TypeAlias = Callable[[Sequence[str]], Vectors]
"""Returns an array with a row for each of some different texts."""

CHUNKS_PER_COMMIT = 1024
"""Some megabytes in memory, and so few commits that they are cheap."""

_ITEMS_PER_COMMIT = 10_000  # whose data alone are new: each commit looks through the whole table
_SHOWN = 200  # characters of a reason


class Writer:
    """Gives chunks their vectors, writes items to the table, and counts them.

    Attributes:
        store: the table; None until there is a vector to write, and all through a dry run.
        changes: the work so far.
    """

    def __init__(self, embed: Embed, store: Store | None, create: Callable[[int], Store], *, at_once: int) -> None:
        """Choose how chunks get their vectors.

        Args:
            embed: gives texts their vectors; in a dry run, vectors without numbers.
            store: the table, where there is one and it may be written.
            create: makes the table for vectors of a dimension.
            at_once: most chunks of one call of `embed`.
        """
        self.store = store
        self.changes = Changes()
        self._embed, self._create, self._at_once = embed, create, at_once
        self._made: dict[str, Vectors] = {}
        self._refused: dict[str, str] = {}

    def write(self, found: Iterable[ChunkedItem | Item], advance: Advance) -> None:
        """Write items as they are found; of an `Item` without chunks the content is known, and only its data are new.

        The model's refusals are listed, and so are items without text.
        """
        for chunked, items in _portions(found, max(self._at_once, CHUNKS_PER_COMMIT)):
            self._make_vectors(chunked, advance)
            for some, _ in _portions(chunked, CHUNKS_PER_COMMIT):
                self._commit(some)
            self._refresh(items)

    def keep(self, item: Item) -> None:
        """Count an item that is unchanged."""
        if item.note is not None:
            self._skip(item, item.note)
        else:
            self.changes.unchanged += 1

    def remove(self, items: Sequence[Item]) -> None:
        """Remove items from the table: files, or records of one source."""
        if self.store is not None and items:
            self.store.remove(items)
        self.changes.removed += len(items)

    def finish(self) -> None:
        """Tidy up at the end of a run."""
        if self.store is not None:
            self.store.tidy()

    def _make_vectors(self, chunked: Sequence[ChunkedItem], advance: Advance) -> None:
        self._made, self._refused = {}, {}
        pieces = [(one, piece) for one in chunked for piece in one.pieces]
        for start in range(0, len(pieces), self._at_once):
            some = pieces[start : start + self._at_once]
            self._make(dict.fromkeys(piece.text for _, piece in some))
            advance(sum(one.share for one, _ in some))

    def _make(self, texts: Iterable[str]) -> None:
        """Embed texts; after a refusal, ask for the texts that were not sent because of it."""
        while missing := [text for text in texts if text not in self._made and text not in self._refused]:
            try:
                self._made.update(zip(missing, self._embed(missing), strict=True))
            except EmbedError as error:
                if not _is_refusal(error):
                    raise
                self._made.update((missing[index], vector) for index, vector in error.completed.items())
                self._refused.update((missing[index], str(reason)) for index, reason in error.failed.items())

    def _commit(self, chunked: Sequence[ChunkedItem]) -> None:
        kept = [self._without_refused(one) for one in chunked]
        dimension = max(map(len, self._made.values()), default=0)
        if self.store is None and dimension:
            self.store = self._create(dimension)
        if self.store is not None:
            self.store.write(kept, self._made)
        for one in kept:
            self._count(one)

    def _without_refused(self, one: ChunkedItem) -> ChunkedItem:
        refused = [piece for piece in one.pieces if piece.text in self._refused]
        if not refused:
            return one
        for piece in refused:
            self._skip(one.item, _told(one, piece, self._refused[piece.text]))
        pieces = tuple(piece for piece in one.pieces if piece not in refused)
        note = None if pieces else "holds nothing that the model takes"
        return replace(one, item=replace(one.item, note=note), pieces=pieces)

    def _count(self, one: ChunkedItem) -> None:
        self.changes.chunks += len(one.pieces)
        if one.item.note is not None:
            self._skip(one.item, one.item.note)
        elif one.held:
            self.changes.changed += 1
        else:
            self.changes.added += 1

    def _refresh(self, items: Sequence[Item]) -> None:
        for item in items:
            if item.id and item.note is None:
                self.changes.changed += 1  # a record has new metadata, a file only another time
            else:
                self.keep(item)
        if self.store is not None and items:
            self.store.refresh(items)

    def _skip(self, item: Item, reason: str) -> None:
        self.changes.skipped.append(Skipped(item.source, item.name + reason))


@contextmanager
def bar(unit: str, total: int | None = None, *, show: bool) -> Iterator[Advance]:
    """Show a bar that counts the bytes of files, or records, or show nothing."""
    if not show:
        yield lambda _: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="Indexing", unit=unit, unit_scale=True) as shown:
        yield shown.update


def _portions(found: Iterable[ChunkedItem | Item], chunks: int) -> Iterator[tuple[list[ChunkedItem], list[Item]]]:
    """Yield items in lists of some number of chunks: those with chunks to embed, and those without."""
    chunked: list[ChunkedItem] = []
    items: list[Item] = []
    room = chunks
    for one in found:
        if isinstance(one, ChunkedItem):
            chunked.append(one)
            room -= max(1, len(one.pieces))
        else:
            items.append(one)
        if room <= 0 or len(items) == _ITEMS_PER_COMMIT:
            yield chunked, items
            chunked, items, room = [], [], chunks
    if chunked or items:
        yield chunked, items


def _is_refusal(error: EmbedError) -> bool:
    """Tell whether some inputs are at fault, and nothing else."""
    return bool(error.failed) and all(isinstance(reason, InvalidInputError) for reason in error.failed.values())


def _told(one: ChunkedItem, piece: Piece, reason: str) -> str:
    short = " ".join(reason.split())[:_SHOWN]
    return f"is left out from {one.unit} {piece.first} to {piece.last}: {short}"
