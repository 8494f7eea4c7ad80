"""Entries as rows of an Arrow table, and rows as search results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embed_core._types import Vectors
from embed_core.index._document import Unit
from embed_core.index._entry import Entry, File, Piece
from embed_core.index._extra import extra

KEY = ["source", "number"]
FILE_COLUMNS = ["source", "size", "mtime_ns", "digest", "note"]
HIT_COLUMNS = ["source", "unit", "first", "last", "start", "end", "text"]

_NOTHING = Piece("", 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Hit:
    """A part of a file that answers a question.

    Attributes:
        score: the cosine of the angle between question and text, -1 to 1; more is better.
        source: the file's absolute path.
        unit: what `first` and `last` count, "line" or "page".
        start: where the text begins among the characters of the file's text.
    """

    score: float
    source: str
    unit: Unit
    first: int
    last: int
    start: int
    end: int
    text: str


def schema(dimension: int, stamp: bytes) -> Any:
    """Return the table's columns, with the stamp in its metadata.

    A file's data are in every row of it and read from row 0. A file without text has that row, and no vector in it.
    """
    pa = extra("pyarrow")
    text, number = pa.string(), pa.int64()
    columns = {
        "source": text, "number": pa.int32(),
        "size": number, "mtime_ns": number, "digest": text, "note": text,
        "unit": text, "first": pa.int32(), "last": pa.int32(), "start": number, "end": number, "text": text,
        "vector": pa.list_(pa.float32(), dimension),
    }  # fmt: skip
    return pa.schema(list(columns.items()), metadata={b"embed_core": stamp})


def chunk_rows(entries: Sequence[Entry], vectors: Vectors, of: Any) -> Any:
    """Return the rows of some files, their pieces' vectors in the same order; `of` is the table's schema."""
    pa = extra("pyarrow")
    rows = [(entry, number, piece) for entry in entries for number, piece in enumerate(entry.pieces or (_NOTHING,))]
    values: Mapping[str, Sequence[Any]] = {
        "number": [number for _, number, _ in rows],
        "unit": [entry.unit for entry, _, _ in rows],
        **{name: [getattr(entry.file, name) for entry, _, _ in rows] for name in FILE_COLUMNS},
        **{name: [getattr(piece, name) for _, _, piece in rows] for name in ("first", "last", "start", "end", "text")},
    }
    there = np.array([piece is not _NOTHING for _, _, piece in rows])
    return pa.table({**values, "vector": _vector_column(pa, vectors, there, of)}, schema=of)


def file_rows(files: Sequence[File], of: Any) -> Any:
    """Return the new data of files whose content is the same."""
    pa = extra("pyarrow")
    values = {name: [getattr(file, name) for file in files] for name in FILE_COLUMNS}
    names = [*FILE_COLUMNS, "number"]
    return pa.table({**values, "number": [0] * len(files)}, schema=pa.schema([of.field(name) for name in names]))


def hit(row: Mapping[str, Any]) -> Hit:
    """Return a row of a search as a result."""
    return Hit(score=1.0 - row["_distance"], **{name: row[name] for name in HIT_COLUMNS})


def _vector_column(pa: Any, vectors: Vectors, there: Any, of: Any) -> Any:
    dimension = of.field("vector").type.list_size
    rows = np.zeros((len(there), dimension), dtype=np.float32)
    if len(vectors):
        rows[there] = vectors
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), dimension, mask=pa.array(~there))
