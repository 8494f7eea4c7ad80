"""The vectors of the pieces of some items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from embed_core._engine import block_size
from embed_core._types import Vectors
from embed_core.errors import EmbedError, InvalidInputError
from embed_core.index._cached import Cached
from embed_core.index._item import Entry, Piece
from embed_core.index._walk import Skipped

Advance: TypeAlias = Callable[[int], object]
"""Told how many bytes of files are done."""

_SHOWN = 200  # characters of a reason


def embed(
    entries: Sequence[Entry], cached: Cached, made: Mapping[str, Vectors], advance: Advance
) -> tuple[list[Entry], Vectors, list[Skipped]]:
    """Return the entries without the pieces that the model refuses, the vectors of the others, and what is refused.

    Args:
        entries: what to embed.
        cached: what embeds it.
        made: vectors that are there already, by text.
        advance: see `Advance`.
    """
    pieces = [(one, piece) for one in entries for piece in one.pieces]
    size = block_size(cached.model)
    vectors: list[Vectors] = []
    told: list[Skipped] = []
    left_out: set[int] = set()
    for start in range(0, len(pieces), size):
        some = pieces[start : start + size]
        done, refused = _block([piece.text for _, piece in some], cached, made)
        vectors += [done[row] for row in sorted(done)]
        told += [_told(*some[row], reason) for row, reason in sorted(refused.items())]
        left_out |= {id(some[row][1]) for row in refused}
        advance(sum(one.share for one, _ in some))
    stacked = np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32)
    return [_without(one, left_out) for one in entries], stacked, told


def is_refusal(error: EmbedError) -> bool:
    """Tell whether some inputs are at fault, and nothing else."""
    return bool(error.failed) and all(isinstance(reason, InvalidInputError) for reason in error.failed.values())


def _block(
    texts: Sequence[str], cached: Cached, made: Mapping[str, Vectors]
) -> tuple[dict[int, Vectors], dict[int, str]]:
    """Return the vectors of what the model takes, and why it refuses the rest, both by row."""
    done = {row: made[text] for row, text in enumerate(texts) if text in made}
    refused: dict[int, str] = {}
    while rest := [row for row in range(len(texts)) if row not in done and row not in refused]:
        try:
            done.update(zip(rest, cached.embed_texts([texts[row] for row in rest]), strict=True))
        except EmbedError as error:
            if not is_refusal(error):
                raise
            done.update((rest[index], vector) for index, vector in error.completed.items())
            refused.update((rest[index], str(reason)) for index, reason in error.failed.items())
    return done, refused


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
