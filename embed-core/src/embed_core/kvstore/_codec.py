"""How a vector lies in a store: float32, little-endian, with a checksum behind it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from embed_core._types import Vectors

_CRC = 4
_FLOAT = 4


def encode(vectors: Vectors) -> list[bytes]:
    """Return each row as little-endian float32 bytes and the CRC-32 of those bytes."""
    rows = (row.tobytes() for row in np.ascontiguousarray(vectors, dtype="<f4"))
    return [row + zlib.crc32(row).to_bytes(_CRC, "little") for row in rows]


def decode(blobs: Mapping[bytes, bytes], dimension: int | None = None) -> dict[bytes, Vectors]:
    """Return the vector, of shape (dimension,) and read-only, of each blob that is whole.

    A damaged blob is left out, and one of another dimension where the dimension is known.
    """
    return {
        key: np.frombuffer(blob, dtype="<f4", count=len(blob) // _FLOAT - 1)
        for key, blob in blobs.items()
        if _is_whole(blob) and (dimension is None or len(blob) == dimension * _FLOAT + _CRC)
    }


def _is_whole(blob: bytes) -> bool:
    return (
        len(blob) > _CRC
        and len(blob) % _FLOAT == 0
        and zlib.crc32(memoryview(blob)[:-_CRC]) == int.from_bytes(blob[-_CRC:], "little")
    )
