"""Items as rows of an Arrow table, and rows as search results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from embed_core._types import Vectors
from embed_core.index._document import Unit
from embed_core.index._extra import extra
from embed_core.index._item import Entry, Item, Piece

ITEM = ["source", "id"]
KEY = [*ITEM, "number"]
ITEM_COLUMNS = [column.name for column in fields(Item)]
_PLACE_COLUMNS = ["unit", "first", "last", "start", "end"]
HIT_COLUMNS = [*ITEM, *_PLACE_COLUMNS, "text", "metadata"]

_NOTHING = Piece("", 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Hit:
    """A part of a file or record that answers a question.

    Attributes:
        score: the cosine of the angle between question and text, -1 to 1; more is better.
        source: the file's absolute path, or what the record comes from.
        unit: what `first` and `last` count, "line" or "page".
        start: where the text begins among the characters of the file's or record's text.
        text: None where the index keeps no texts.
        id: the record's id; None for a file.
        metadata: what else is known of the record.
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


def schema(dimension: int, stamp: bytes) -> Any:
    """Return the table's columns, with the stamp in its metadata.

    An item's data are in every row of it. An item without text has one row, and no vector in it.
    """
    pa = extra("pyarrow")
    text, number = pa.string(), pa.int64()
    columns = {
        "source": text, "id": text, "number": pa.int32(),
        "prefix": text, "size": number, "mtime_ns": number, "digest": text, "note": text, "metadata": text,
        "unit": text, "first": pa.int32(), "last": pa.int32(), "start": number, "end": number, "text": text,
        "vector": pa.list_(pa.float32(), dimension),
    }  # fmt: skip
    return pa.schema(list(columns.items()), metadata={b"embed_core": stamp})


def chunk_rows(entries: Sequence[Entry], vectors: Vectors, of: Any, *, with_text: bool) -> Any:
    """Return the rows of some items, their pieces' vectors in the same order; `of` is the table's schema."""
    pa = extra("pyarrow")
    rows = [(entry, number, piece) for entry in entries for number, piece in enumerate(entry.pieces or (_NOTHING,))]
    values: Mapping[str, Sequence[Any]] = {
        "number": [number for _, number, _ in rows],
        "unit": [entry.unit for entry, _, _ in rows],
        "text": [piece.text if with_text else None for _, _, piece in rows],
        **{name: [getattr(entry.item, name) for entry, _, _ in rows] for name in ITEM_COLUMNS},
        **{name: [getattr(piece, name) for _, _, piece in rows] for name in _PLACE_COLUMNS[1:]},
    }
    there = np.array([piece is not _NOTHING for _, _, piece in rows])
    return pa.table({**values, "vector": _vector_column(pa, vectors, there, of)}, schema=of)


def with_items(rows: Any, items: Mapping[tuple[str, str], Item]) -> Any:
    """Return rows of a table with the new data of the items they belong to."""
    pa = extra("pyarrow")
    theirs = [items[key] for key in zip(*(rows[name].to_pylist() for name in ITEM), strict=True)]
    for name in ITEM_COLUMNS:
        at = rows.schema.get_field_index(name)
        values = pa.array([getattr(item, name) for item in theirs], rows.schema.field(at).type)
        rows = rows.set_column(at, rows.schema.field(at), values)
    return rows


def hit(row: Mapping[str, Any]) -> Hit:
    """Return a row of a search as a result."""
    return Hit(
        score=1.0 - row["_distance"],
        source=row["source"],
        text=row["text"],
        id=row["id"] or None,
        metadata=json.loads(row["metadata"] or "{}"),
        **{name: row[name] for name in _PLACE_COLUMNS},
    )


def _vector_column(pa: Any, vectors: Vectors, there: Any, of: Any) -> Any:
    dimension = of.field("vector").type.list_size
    rows = vectors if there.all() else np.zeros((len(there), dimension), dtype=np.float32)
    if rows is not vectors and len(vectors):
        rows[there] = vectors
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), dimension, mask=pa.array(~there))
