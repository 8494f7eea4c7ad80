"""Items on their way into the table: embedded, written in few commits, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, TypeAlias

from embed_core import Vectors
from embed_core.errors import EmbeddingIntegrityError, EmbedError, InvalidInputError
from embed_core.index._item import ChunkedItem, Item
from embed_core.index._results import Changes, Skipped
from embed_core.index._store import Store

Advance: TypeAlias = Callable[[int], object]
"""Moves a bar by some bytes or records."""

Embed: TypeAlias = Callable[[Sequence[str]], Vectors]
"""Returns an array with a row for each of some different texts."""

CHUNKS_PER_COMMIT = 1024
"""Some megabytes in memory, and so few commits that they are cheap."""

_REFRESHED_PER_COMMIT = 10_000  # items: each such commit looks through the whole table
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
        self._refreshed: list[Item] = []
        self._made: dict[str, Vectors] = {}
        self._refused: dict[str, str] = {}

    def write(self, found: Iterable[ChunkedItem], advance: Advance) -> None:
        """Embed and write new and changed items; list those without text, and the chunks that the model refuses."""
        for some in _portions(found, max(self._at_once, CHUNKS_PER_COMMIT)):
            self._make_vectors(some, advance)
            for part in _portions(some, CHUNKS_PER_COMMIT):
                self._commit(part)

    def refresh(self, item: Item) -> None:
        """Write new data of an item with the same content, together with others: a file's time, a record's metadata."""
        self.count(item, "changed" if item.id else "unchanged")
        self._refreshed.append(item)
        if len(self._refreshed) == _REFRESHED_PER_COMMIT:
            self._flush()

    def remove(self, items: Sequence[Item]) -> None:
        """Remove items from the table: files, or records of one source."""
        if self.store is not None and items:
            self.store.remove(items)
        self.changes.removed += len(items)

    def count(self, item: Item, outcome: Literal["added", "changed", "unchanged"]) -> None:
        """Count an item, or list it with the reason where it has no chunks."""
        if item.note is not None:
            self._skip(item, item.note)
        else:
            setattr(self.changes, outcome, getattr(self.changes, outcome) + 1)

    def finish(self) -> None:
        """Write the rest, and tidy up."""
        self._flush()
        if self.store is not None:
            self.store.tidy()

    def _flush(self) -> None:
        if self.store is not None and self._refreshed:
            self.store.refresh(self._refreshed)
        self._refreshed = []

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
            self.changes.chunks += len(one.pieces)
            self.count(one.item, "changed" if one.held else "added")
            self.changes.changed += one.held and not one.pieces  # its text is gone, which is not only skipped

    def _without_refused(self, one: ChunkedItem) -> ChunkedItem:
        refused = [piece for piece in one.pieces if piece.text in self._refused]
        if not refused:
            return one
        for piece in refused:
            reason = " ".join(self._refused[piece.text].split())[:_SHOWN]
            self._skip(one.item, f"is left out from {one.unit} {piece.first} to {piece.last}: {reason}", partly=True)
        pieces = tuple(piece for piece in one.pieces if piece.text not in self._refused)
        note = None if pieces else "holds nothing that the model takes"
        return replace(one, item=replace(one.item, note=note), pieces=pieces)

    def _skip(self, item: Item, reason: str, *, partly: bool = False) -> None:
        self.changes.skipped.append(Skipped(item.source, item.name + reason, partly))


@contextmanager
def bar(unit: str, total: int | None = None, *, show: bool) -> Iterator[Advance]:
    """Show a bar that counts the bytes of files, or records, or show nothing."""
    if not show:
        yield lambda _: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="Indexing", unit=unit, unit_scale=True) as shown:
        yield shown.update


def _portions(found: Iterable[ChunkedItem], chunks: int) -> Iterator[list[ChunkedItem]]:
    """Yield items in lists of some number of chunks."""
    some: list[ChunkedItem] = []
    room = chunks
    for one in found:
        some.append(one)
        room -= max(1, len(one.pieces))
        if room <= 0:
            yield some
            some, room = [], chunks
    if some:
        yield some


def _is_refusal(error: EmbedError) -> bool:
    """Tell whether some inputs are at fault, and nothing else; a vector without sense is, where others have some."""
    kinds = (InvalidInputError, EmbeddingIntegrityError) if error.completed else (InvalidInputError,)
    return bool(error.failed) and all(isinstance(reason, kinds) for reason in error.failed.values())
