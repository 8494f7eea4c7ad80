"""A text that its server calls too long, as the mean of its parts: each a request of its own, tried again alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from embed_core._types import Next, Request, Vectors
from embed_core.errors import InputTooLongError
from embed_core.provider._limits import counts

_SHRINK = 0.7
_SAFETY = 0.98
_HALF_PRECISION = 1e-3


@dataclass(frozen=True, slots=True)
class Parted:
    """Embeds a single text that was refused as the mean of its parts, weighted by their bytes.

    Attributes:
        normalizes: whether vectors have unit length; where all parts have, their mean gets it too.
    """

    normalizes: bool

    async def __call__(self, request: Request, onward: Next, io: Any) -> Vectors:
        if len(request.inputs) > 1:
            return await onward(request)
        waiting, sizes, rows = [request.inputs[0]], list[int](), list[Vectors]()
        while waiting:
            text = waiting.pop()
            try:
                rows.append(await onward(replace(request.pick([0]), inputs=[text])))
            except InputTooLongError as error:
                if not (parts := _parts(text, error)):
                    raise
                waiting += parts[::-1]
            else:
                sizes.append(len(text.encode()))
        return rows[0] if len(rows) == 1 else self._mean(np.concatenate(rows), sizes)

    def _mean(self, vectors: Vectors, sizes: list[int]) -> Vectors:
        wide = vectors.astype(np.float64)
        mean = np.average(wide, axis=0, weights=sizes)[np.newaxis]
        normal = self.normalizes or np.allclose(np.linalg.norm(wide, axis=1), 1, atol=_HALF_PRECISION)
        return unit(mean) if normal else mean.astype(np.float32)


def unit(vectors: Any) -> Vectors:
    """Return the rows with unit length, as float32; a row of zeros stays."""
    wide = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # infinite numbers are found out later
        rows: Vectors = (wide / np.where(norms == 0, 1, norms)).astype(np.float32)
    return rows


def start(text: str, size: int) -> str:
    """Return as many whole characters as `size` bytes of UTF-8 hold."""
    return text.encode()[:size].decode(errors="ignore")


def shorter(text: str, error: InputTooLongError) -> str | None:
    """Cut a refused text by the length that the server names; None where that cannot be the trouble."""
    (limit, requested), size = counts(error), len(text.encode())
    if limit is not None and size <= limit:
        return None
    share = _SHRINK if limit is None or requested is None or requested <= limit else limit / requested * _SAFETY
    return start(text, int(size * share)) or None


def _parts(text: str, error: InputTooLongError) -> list[str]:
    """Cut a refused text evenly by the length that the server names; nothing where that cannot be the trouble."""
    (limit, requested), data = counts(error), text.encode()
    if limit is not None and len(data) <= limit:
        return []
    number = 2
    if limit and requested:
        number = max(2, min(-(-requested // limit), -(-len(data) // limit)))  # a token has at least one byte
    bounds = [_boundary(data, len(data) * part // number) for part in range(number + 1)]
    parts = [data[begin:stop].decode() for begin, stop in pairwise(bounds) if begin < stop]
    return parts if len(parts) > 1 else []


def _boundary(data: bytes, position: int) -> int:
    """Return where the character begins that the position lies in."""
    while position < len(data) and data[position] & 0xC0 == 0x80:
        position -= 1
    return position
