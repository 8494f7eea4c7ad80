"""The vectors of the pieces of some items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from embed_core import BaseEmbedding
from embed_core._types import Vectors
from embed_core.errors import InvalidInputError
from embed_core.index._item import Entry, Piece
from embed_core.index._walk import Skipped

Advance: TypeAlias = Callable[[int], object]
"""Told how many bytes of files are done."""

_BATCHES_AT_ONCE = 4  # per worker, so that workers seldom wait for each other
_SHOWN = 200  # characters of a reason


def embed(
    entries: Sequence[Entry], model: BaseEmbedding, advance: Advance
) -> tuple[list[Entry], Vectors, list[Skipped]]:
    """Return the entries without the pieces that the model refuses, the vectors of the others, and what is refused."""
    pieces = [(one, piece) for one in entries for piece in one.pieces]
    size = model.embed_batch_size * model.num_workers * _BATCHES_AT_ONCE
    blocks, refused = [], dict[int, str]()
    for start in range(0, len(pieces), size):
        rows = range(start, min(start + size, len(pieces)))
        block = _block([piece.text for _, piece in pieces[rows.start : rows.stop]], start, model, refused)
        blocks += [block] if len(block) else []  # one without rows may not know its dimension
        advance(sum(pieces[row][0].share for row in rows))
    vectors = np.concatenate(blocks) if blocks else np.empty((0, 0), dtype=np.float32)
    told = [_told(*pieces[row], reason) for row, reason in refused.items()]
    left_out = {id(pieces[row][1]) for row in refused}
    return [_without(one, left_out) for one in entries], vectors, told


def _block(texts: Sequence[str], start: int, model: BaseEmbedding, refused: dict[int, str]) -> Vectors:
    """Embed what the model does not refuse; note the rest by its row, counted from `start`."""
    rows = list(range(len(texts)))
    while True:
        try:
            return model.embed_texts([texts[row] for row in rows])
        except InvalidInputError as error:  # the others are in the cache by now
            if not error.indices:
                raise
            refused |= {start + rows[index]: str(error.failed.get(index, error)) for index in error.indices}
            rows = [row for row in rows if start + row not in refused]


def _told(one: Entry, piece: Piece, reason: str) -> Skipped:
    short = " ".join(reason.split())[:_SHOWN]
    place = f"{one.unit} {piece.first} to {piece.last}"
    return Skipped(one.item.source, f"{one.item.name}is left out from {place}: {short}")


def _without(one: Entry, left_out: set[int]) -> Entry:
    pieces = tuple(piece for piece in one.pieces if id(piece) not in left_out)
    if len(pieces) == len(one.pieces):
        return one
    note = None if pieces else "holds nothing that the model takes"
    return replace(one, item=replace(one.item, note=note), pieces=pieces)
