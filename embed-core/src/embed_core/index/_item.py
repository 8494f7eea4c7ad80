"""Items, which are files or records, and the chunks of their texts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Self

from embed_core import TextSplitter
from embed_core.index._keys import holds_key
from embed_core.index._parsed import ParsedText, Unit


@dataclass(frozen=True, slots=True)
class Item:
    """A file or a record as it was when it was last read.

    Attributes:
        source: a file's canonical path, or the source of a record.
        id: tells the records of a source apart; empty for a file.
        digest: of a file's bytes or a record's text; empty until it is read.
        note: the reason why it has no chunks, or None.
        size: a file's bytes.
        mtime_ns: 0 where the file was so young that a later change might have shown the same time.
        prefix: the text before a record's own id.
        metadata: a record's other columns as JSON, or None.
    """

    source: str
    digest: str
    id: str = ""
    note: str | None = None
    size: int = 0
    mtime_ns: int = 0
    prefix: str = ""
    metadata: str | None = None

    @property
    def name(self) -> str:
        """The words after the source in a list of skipped items; empty for a file."""
        return f"record `{self.id}` " if self.id else ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of an item's text: characters `start` to `end`, from the line or page `first` to `last`."""

    text: str
    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ChunkedItem:
    """A new or changed item with its chunks, ready to be embedded.

    Attributes:
        held: whether the table holds an earlier state of it.
    """

    item: Item
    unit: Unit
    pieces: tuple[Piece, ...]
    held: bool

    @property
    def share(self) -> int:
        """The bytes of a file that are done with each chunk."""
        return self.item.size // max(1, len(self.pieces))

    @classmethod
    def cut(cls, item: Item, parsed: ParsedText, splitter: TextSplitter, *, held: bool) -> Self:
        """Return an item with the chunks of its text; a text with a private key has none."""
        if holds_key(parsed.text):
            return cls(replace(item, note="holds a private key or certificate"), parsed.unit, (), held)
        chunks = splitter.split(parsed.text, parsed.syntax, parsed.language)
        pieces = tuple(Piece(*chunk, *parsed.place(chunk.start, chunk.end)) for chunk in chunks)
        return cls(item if pieces else replace(item, note="holds no text"), parsed.unit, pieces, held)


def digest(data: bytes) -> str:
    """Return a hash of some content, 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
