"""A text that its server calls too long, as the mean of its parts: each a request of its own, tried again alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from embed_core import Request, Vectors
from embed_core.errors import InputTooLongError

from embeddings_openai._capabilities import counts
from embeddings_openai._errors import refusal
from embeddings_openai._exchange import unit


@dataclass(frozen=True, slots=True)
class Parted:
    """Embeds a single text that was refused as the mean of its parts, weighted by their bytes.

    Attributes:
        normalizes: whether vectors have unit length; where all parts have, their mean gets it too.
    """

    normalizes: bool

    async def __call__(self, request: Request, onward: Callable[[Request], Awaitable[Vectors]], io: Any) -> Vectors:
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
        normal = self.normalizes or np.allclose(np.linalg.norm(wide, axis=1), 1, atol=1e-3)  # half precision's rounding
        return unit(mean) if normal else mean.astype(np.float32)


def _parts(text: str, error: InputTooLongError) -> list[str]:
    """Cut a refused text evenly, by what the server says of its length; nothing where that cannot be the trouble."""
    answer, data = refusal(error), text.encode()
    limit, requested = counts(answer.message) if answer is not None else (None, None)
    if limit is not None and len(data) <= limit:
        return []
    number = 2
    if limit and requested:
        number = max(2, min(-(-requested // limit), -(-len(data) // limit)))  # a token has at least one byte
    bounds = [_boundary(data, len(data) * part // number) for part in range(number + 1)]
    parts = [data[start:stop].decode() for start, stop in pairwise(bounds) if start < stop]
    return parts if len(parts) > 1 else []


def _boundary(data: bytes, position: int) -> int:
    """Return where the character begins that the position lies in."""
    while position < len(data) and data[position] & 0xC0 == 0x80:
        position -= 1
    return position
