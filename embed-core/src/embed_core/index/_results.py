"""The values that an index returns: hits, changes and counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from embed_core import Estimate
from embed_core.index._parsed import Unit


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk of a file or record that answers a question.

    Attributes:
        score: the cosine of the angle between question and chunk, -1 to 1; more is better.
        source: the file's absolute path, or the source of the record.
        unit: what `first` and `last` count, "line" or "page".
        start: the position of the chunk's first character in the text of the file or record.
        text: None where the index keeps no texts.
        id: the record's id; None for a file.
        metadata: the other columns of the record.
    """

    score: float
    source: str
    unit: Unit
    first: int
    last: int
    start: int
    end: int
    text: str | None
    id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, folder or row that is not in the index, and the reason.

    Attributes:
        partly: whether only a part of it is left out.
    """

    source: str
    reason: str
    partly: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A file, or a source of records, that an index holds.

    Attributes:
        records: how many; 0 for a file.
        chunks: how many; 0 for a file without text.
        gone: whether it was a file, and certainly is no more.
    """

    source: str
    records: int
    chunks: int
    gone: bool


@dataclass(slots=True)
class Changes:
    """The work of a run, in files or records; `chunks` counts those written.

    Attributes:
        truncated: texts sent to the model in this run of which it reads only the beginning; not known of texts from a
            cache and of batch jobs.
        skipped: files and rows that are not in the index, or only in part.
        estimate: the cost of embedding, in a dry run; else None.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    truncated: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    estimate: Estimate | None = None

    def __iadd__(self, other: Changes) -> Self:
        """Add the work of another run."""
        for name in ("added", "changed", "unchanged", "removed", "chunks", "truncated"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.skipped += other.skipped
        if other.estimate is not None:
            self.estimate = (self.estimate or Estimate()) + other.estimate
        return self


@dataclass(frozen=True, slots=True)
class Stats:
    """The content of an index, in numbers.

    Attributes:
        model: the model as a spec, without its options.
        bytes: the room on the disk, a cache in the folder included.
        created: the time in UTC, ISO 8601.
    """

    folder: str
    model: str
    fingerprint: str
    dimension: int
    files: int
    records: int
    chunks: int
    bytes: int
    created: str
