"""Items as rows of an Arrow table, and rows as hits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from embed_core import Vectors
from embed_core.index._extra import extra
from embed_core.index._item import ChunkedItem, Item, Piece
from embed_core.index._results import Hit

ITEM = ["source", "id"]
KEY = [*ITEM, "number"]
ITEM_COLUMNS = [column.name for column in fields(Item)]
_PLACE_COLUMNS = ["unit", "first", "last", "start", "end"]
HIT_COLUMNS = [*ITEM, *_PLACE_COLUMNS, "text", "metadata"]

_NOTHING = Piece("", 0, 0, 0, 0)


def schema(dimension: int, header: bytes) -> Any:
    """Return the table's columns, with the header in its metadata.

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
    return pa.schema(list(columns.items()), metadata={b"embed_core": header})


def chunk_rows(items: Sequence[ChunkedItem], vectors: Mapping[str, Vectors], of: Any, *, with_text: bool) -> Any:
    """Return the rows of some items; `vectors` has one for the text of each chunk, and `of` is the table's schema."""
    pa = extra("pyarrow")
    rows = [(one, number, piece) for one in items for number, piece in enumerate(one.pieces or (_NOTHING,))]
    empty = [piece is _NOTHING for _, _, piece in rows]
    dimension = of.field("vector").type.list_size
    zeros = np.zeros(dimension, dtype=np.float32)
    numbers = np.concatenate([zeros if piece is _NOTHING else vectors[piece.text] for _, _, piece in rows])
    values: Mapping[str, Sequence[Any]] = {
        "number": [number for _, number, _ in rows],
        "unit": [one.unit for one, _, _ in rows],
        "text": [piece.text if with_text else None for _, _, piece in rows],
        **{name: [getattr(one.item, name) for one, _, _ in rows] for name in ITEM_COLUMNS},
        **{name: [getattr(piece, name) for _, _, piece in rows] for name in _PLACE_COLUMNS[1:]},
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(numbers), dimension, mask=pa.array(empty)),
    }
    return pa.table(values, schema=of)


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
    """Return a row of a search as a hit."""
    return Hit(
        score=1.0 - row["_distance"],
        source=row["source"],
        text=row["text"],
        id=row["id"] or None,
        metadata=json.loads(row["metadata"] or "{}"),
        **{name: row[name] for name in _PLACE_COLUMNS},
    )
