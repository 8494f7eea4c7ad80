"""How a family of vectors lies in an array and in a store."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed_core._types import Vectors

_CRC = 4
_WHOLE = 0x2144DF1C  # the CRC-32 of any bytes that end with their own CRC-32
_FLOAT = 4
_FLOAT32 = np.dtype("<f4")
_COMPLEX = (np.dtype("complex64"), np.dtype("complex128"))


class MisfitError(ValueError):
    """An answer that is no array of vectors; `rows` are the culprits where they can be told."""

    def __init__(self, what: str, rows: Sequence[int] = ()) -> None:
        super().__init__(what)
        self.rows = rows


class Rows(ABC):
    """The operations on vectors that differ between dense and sparse ones.

    A batch is an array of shape (n, width) with one vector in each row for both, so batching, caching
    and joining need not know.
    """

    @abstractmethod
    def array(self, answer: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
        """Return the vectors of a hook's answer as rows.

        Raises:
            MisfitError: the answer is something else, or holds a value that is not finite.
        """

    @abstractmethod
    def pack(self, vectors: NDArray[Any]) -> list[bytes]:
        """Return each row as bytes."""

    @abstractmethod
    def unpack(self, data: bytes, size: int) -> Any:
        """Return the row that the first `size` of these bytes are."""

    @abstractmethod
    def fits(self, size: int, dimension: int | None) -> bool:
        """Tell whether that many bytes can be a row, of that dimension where it is known."""

    def encode(self, keys: Iterable[bytes], vectors: NDArray[Any]) -> dict[bytes, bytes]:
        """Return each row as it lies in a store: its bytes, and the CRC-32 of its key and these bytes."""
        rows = zip(keys, self.pack(vectors), strict=True)
        return {key: row + zlib.crc32(row, zlib.crc32(key)).to_bytes(_CRC, "little") for key, row in rows}

    def decode(self, blobs: Mapping[bytes, bytes], dimension: int | None = None) -> dict[bytes, Any]:
        """Return the row, read-only, of each blob that is whole and its key's own; any other is left out."""
        fits = {size: self.fits(size - _CRC, dimension) for size in set(map(len, blobs.values()))}
        return {
            key: self.unpack(blob, len(blob) - _CRC)
            for key, blob in blobs.items()
            if fits[len(blob)] and zlib.crc32(blob, zlib.crc32(key)) == _WHOLE
        }


def sequence(answer: Any, count: int) -> Sequence[Any] | NDArray[Any]:
    """Return a hook's answer as a sequence of that many; None is an empty one.

    Raises:
        MisfitError: it is no sequence, or of another length.
    """
    if not (isinstance(answer, np.ndarray) and answer.ndim):
        one = f"one `{type(answer).__name__}` where a sequence of vectors belongs"
        if isinstance(answer, AbstractSet | Mapping):  # sets have no order, and mappings iterate over their keys
            raise MisfitError(one)
        try:
            answer = [] if answer is None else list(answer)
        except TypeError as error:
            raise MisfitError(one) from error
    if len(answer) != count:
        raise MisfitError(f"{len(answer)} vectors for {count} inputs")
    found: Sequence[Any] | NDArray[Any] = answer
    return found


def _length(vector: Any) -> int:
    try:
        return len(vector)
    except TypeError:  # a number, or an array without dimensions
        return 0


class Dense(Rows):
    """Rows of float32, little-endian in a store."""

    def array(self, answer: Sequence[Any] | NDArray[Any]) -> Vectors:
        if not isinstance(answer, np.ndarray):
            lengths = [_length(vector) for vector in answer]
            usual = max(set(lengths), key=lengths.count, default=0)
            if odd := [row for row, length in enumerate(lengths) if length != usual]:
                few = odd if 2 * len(odd) < len(lengths) else ()  # else nothing tells which of them are right
                raise MisfitError(f"vectors of different dimensions {sorted(set(lengths))}", few)
        for one in (answer, *answer[:1]):
            if getattr(one, "dtype", None) in _COMPLEX:
                raise MisfitError("complex numbers, of which a part would be lost")
        try:
            with np.errstate(over="ignore"):  # a number beyond float32 is found to be infinite below
                vectors = np.array(answer, np.float32, order="C")  # a copy: a hook may use its array again
        except Exception as error:
            raise MisfitError(f"something that is no array of numbers ({error})") from error
        if vectors.ndim != 2 or not vectors.shape[1]:
            raise MisfitError(f"an array of shape {vectors.shape}, not (n, dimension)")
        finite = np.isfinite(vectors)
        if not finite.all():
            raise MisfitError("a value that is not finite", np.flatnonzero(~finite.all(axis=1)).tolist())
        if not (some := vectors.any(axis=1)).all():
            raise MisfitError("a vector of zeros, which has no direction", np.flatnonzero(~some).tolist())
        return vectors

    def pack(self, vectors: NDArray[Any]) -> list[bytes]:
        return [row.tobytes() for row in np.ascontiguousarray(vectors, dtype=_FLOAT32)]

    def unpack(self, data: bytes, size: int) -> Vectors:
        return np.frombuffer(data, _FLOAT32, size // _FLOAT)

    def fits(self, size: int, dimension: int | None) -> bool:
        return size > 0 and (size % _FLOAT == 0 if dimension is None else size == dimension * _FLOAT)
