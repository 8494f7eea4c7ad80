"""A file on the disk as an item of an index."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path

from embed_core._splitting import TextSplitter
from embed_core.index._document import Document, UnreadableError
from embed_core.index._item import Entry, Item, Piece
from embed_core.index._readers import most_bytes, read
from embed_core.index._walk import Found, Skipped

_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system in use (FAT) ticks every two seconds


def looks_like(item: Item, found: Found) -> bool:
    """Tell whether the file on disk seems to be unchanged."""
    return (item.size, item.mtime_ns) == (found.size, found.mtime_ns)


def entry(found: Found, known: Item | None, splitter: TextSplitter) -> Entry | Item | Skipped:
    """Read a file; return its known self, with its new time, where the content is the same."""
    try:
        with Path(found.source).open("rb") as stream:
            data = stream.read(most_bytes(found.source) + 1)
    except OSError as error:
        return Skipped(found.source, f"cannot be read ({error.strerror})")
    settled = found.mtime_ns < time.time_ns() - _SETTLED_NS
    item = Item(found.source, digest(data), size=found.size, mtime_ns=found.mtime_ns if settled else 0)
    if known is not None and known.digest == item.digest:
        return replace(item, note=known.note)
    try:
        document = read(found.source, data)
    except UnreadableError as reason:
        return Entry(replace(item, note=str(reason)), "line", (), held=known is not None)
    return cut(item, document, splitter, held=known is not None)


def cut(item: Item, document: Document, splitter: TextSplitter, *, held: bool) -> Entry:
    """Return an item with the pieces of its text."""
    chunks = splitter.split(document.text, document.syntax, document.language)
    pieces = tuple(Piece(*chunk, *document.place(chunk.start, chunk.end)) for chunk in chunks)
    return Entry(item if pieces else replace(item, note="holds no text"), document.unit, pieces, held)


def digest(data: bytes) -> str:
    """Return a hash of some content, 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
