"""What an index holds of one file."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path

from embed_core._splitting import TextSplitter
from embed_core.index._document import Unit, UnreadableError
from embed_core.index._readers import most_bytes, read
from embed_core.index._walk import Found, Skipped

_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system in use (FAT) ticks every two seconds


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was when it was last read.

    Attributes:
        mtime_ns: 0 where the file was so young that a later change might have shown the same time.
        note: why it holds nothing to search, or None.
    """

    source: str
    size: int
    mtime_ns: int
    digest: str
    note: str | None = None

    def looks_like(self, found: Found) -> bool:
        """Tell whether the file on disk seems to be unchanged."""
        return (self.size, self.mtime_ns) == (found.size, found.mtime_ns)


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of a file's text: characters `start` to `end`, from the line or page `first` to `last`."""

    text: str
    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A file with its pieces, ready to be embedded."""

    file: File
    unit: Unit
    pieces: tuple[Piece, ...]

    @property
    def share(self) -> int:
        """How many bytes of the file count as done with each piece."""
        return self.file.size // max(1, len(self.pieces))


def entry(found: Found, known: File | None, splitter: TextSplitter) -> Entry | File | Skipped:
    """Read a file; return its known self, with its new time, where the content is the same."""
    try:
        with Path(found.source).open("rb") as stream:
            data = stream.read(most_bytes(found.source) + 1)
    except OSError as error:
        return Skipped(found.source, f"cannot be read ({error.strerror})")
    settled = found.mtime_ns < time.time_ns() - _SETTLED_NS
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    file = File(found.source, found.size, found.mtime_ns if settled else 0, digest)
    if known is not None and known.digest == digest:
        return replace(file, note=known.note)
    try:
        document = read(found.source, data)
    except UnreadableError as reason:
        return Entry(replace(file, note=str(reason)), "line", ())
    chunks = splitter.split(document.text, document.syntax, document.language)
    pieces = tuple(Piece(*chunk, *document.place(chunk.start, chunk.end)) for chunk in chunks)
    return Entry(file if pieces else replace(file, note="holds no text"), document.unit, pieces)
