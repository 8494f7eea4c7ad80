"""What an index holds: items, which are files or records, and the pieces of their texts."""

from __future__ import annotations

from dataclasses import dataclass

from embed_core.index._document import Unit


@dataclass(frozen=True, slots=True)
class Item:
    """A file or a record as it was when it was last read.

    Attributes:
        source: a file's canonical path, or what a record comes from.
        id: tells the records of a source apart; empty for a file.
        digest: of a file's bytes or a record's text.
        note: why it holds nothing to search, or None.
        size: a file's bytes.
        mtime_ns: 0 where the file was so young that a later change might have shown the same time.
        prefix: what was put before a record's own id.
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
        """What a list of skipped items says after the source; empty for a file."""
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
class Entry:
    """An item with its pieces, ready to be embedded.

    Attributes:
        held: whether the table holds an earlier state of it.
    """

    item: Item
    unit: Unit
    pieces: tuple[Piece, ...]
    held: bool

    @property
    def share(self) -> int:
        """How many bytes of a file count as done with each piece."""
        return self.item.size // max(1, len(self.pieces))
