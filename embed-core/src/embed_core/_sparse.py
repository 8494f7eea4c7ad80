"""Sparse models, such as SPLADE: most of a vector is zero, and every index has a meaning of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embed_core._engine import lists, run, runner
from embed_core._io import IO, Asyncio, Blocking, drive
from embed_core._model import Model
from embed_core._rows import MisfitError, Rows
from embed_core._types import Kind, OnError
from embed_core.errors import InvalidInputError

_PAIR = 8  # bytes: an int32 and a float32
_LAST = np.iinfo(np.int32).max


class SparseVector(Mapping[int, float]):
    """The numbers of a vector that are not zero, by index; a read-only mapping, as LlamaIndex's dictionaries are.

    Attributes:
        indices: int32 array of shape (n,), ascending.
        weights: float32 array of shape (n,).
    """

    __slots__ = ("indices", "weights")

    def __init__(self, indices: ArrayLike, values: ArrayLike) -> None:
        """Take indices in any order; zeros are left out.

        Raises:
            InvalidInputError: the two do not fit, an index is no int32, negative or there twice, or a value is not
                finite.
        """
        with np.errstate(over="ignore"):  # an overflow of float32 is found to be infinite below
            places, weights = np.asarray(indices), np.asarray(values, dtype=np.float32)
        if places.ndim != 1 or places.shape != weights.shape or (places.size and places.dtype.kind not in "iu"):
            msg = f"indices {places.dtype}{places.shape} and values {weights.shape} make no sparse vector"
            raise InvalidInputError(msg)
        if not np.isfinite(weights).all():
            raise InvalidInputError("a sparse vector holds a value that is not finite")
        order = np.argsort(places, kind="stable")
        order = order[weights[order] != 0]
        places = places[order]
        if places.size and (places[0] < 0 or places[-1] > _LAST or (np.diff(places) == 0).any()):
            raise InvalidInputError(f"a sparse vector holds an index that is negative, above {_LAST} or there twice")
        self.indices: NDArray[np.int32] = places.astype(np.int32)
        self.weights: NDArray[np.float32] = weights[order]
        self.indices.flags.writeable = self.weights.flags.writeable = False

    @classmethod
    def of(cls, value: Any) -> Self:
        """Return a mapping of index to value, a pair (indices, values), or a sparse vector, as a sparse vector."""
        if isinstance(value, cls):
            return value
        if isinstance(value, tuple) and len(value) == 2:
            return cls(*value)
        if isinstance(value, Mapping):
            return cls(list(value.keys()), list(value.values()))
        kind = type(value).__name__
        msg = f"a `{kind}` is no sparse vector; expected a mapping of index to value, or a pair (indices, values)"
        raise InvalidInputError(msg)

    @classmethod
    def mean(cls, vectors: Iterable[Any]) -> Self:
        """Return the mean of sparse vectors, accumulated in float64; each is given as for `of`.

        Raises:
            InvalidInputError: there are none.
        """
        all_ = [cls.of(vector) for vector in vectors]
        if not all_:
            raise InvalidInputError("there are no embeddings to average; pass at least one")
        indices, entry = np.unique(np.concatenate([vector.indices for vector in all_]), return_inverse=True)
        sums = np.bincount(entry, np.concatenate([vector.weights for vector in all_]), len(indices))
        return cls(indices, sums / len(all_))

    def __getitem__(self, index: int) -> float:
        at = int(np.searchsorted(self.indices, index))
        if at == len(self.indices) or self.indices[at] != index:
            raise KeyError(index)
        return float(self.weights[at])

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices.tolist())

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"SparseVector({dict(self)!r})"

    def dot(self, other: SparseVector) -> float:
        """Return the dot product, accumulated in float64."""
        _, mine, its = np.intersect1d(self.indices, other.indices, assume_unique=True, return_indices=True)
        return float(self.weights[mine].astype(np.float64) @ other.weights[its].astype(np.float64))


class Sparse(Rows):
    """Rows of one cell each, which holds a `SparseVector`."""

    def array(self, answer: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
        vectors, odd = np.empty((len(answer), 1), dtype=object), dict[int, str]()
        for row, one in enumerate(answer):
            try:
                vectors[row, 0] = SparseVector.of(one.item() if isinstance(one, np.ndarray) else one)
            except (TypeError, ValueError, OverflowError) as error:
                odd[row] = str(error)
        if odd:
            raise MisfitError(f"something else than sparse vectors ({next(iter(odd.values()))})", list(odd))
        return vectors

    def pack(self, vectors: NDArray[Any]) -> list[bytes]:
        return [one.indices.astype("<i4").tobytes() + one.weights.astype("<f4").tobytes() for (one,) in vectors]

    def unpack(self, data: bytes, size: int) -> NDArray[Any]:
        count, row = size // _PAIR, np.empty(1, dtype=object)
        row[0] = SparseVector(np.frombuffer(data, "<i4", count), np.frombuffer(data, "<f4", count, size // 2))
        return row

    def fits(self, size: int, dimension: int | None) -> bool:
        return size % _PAIR == 0


class BaseSparseEmbedding(Model):
    """A model that turns texts into sparse vectors, on the same engine as every other.

    The hooks are those of `BaseEmbedding`; each vector they return is a mapping of index to value, or a pair of arrays
    (indices, values). Fields, cache, retries, limits and events are `BaseEmbedding`'s too.
    """

    _rows: ClassVar[Rows] = Sparse()

    long_text: Literal["truncate", "error"] = "truncate"  # a mean of sparse vectors is not sparse

    @property
    def dimension(self) -> None:
        """None: a sparse vector has no length."""
        return

    def get_query_embedding(self, query: str) -> SparseVector:
        """Embed a search query."""
        return _only(drive(run(self, Blocking(), "query", [query])))

    async def aget_query_embedding(self, query: str) -> SparseVector:
        """Embed a search query; see `get_query_embedding`."""
        return _only(await run(self, Asyncio(), "query", [query]))

    def get_text_embedding(self, text: str) -> SparseVector:
        """Embed a document or passage."""
        return _only(drive(run(self, Blocking(), "text", [text])))

    async def aget_text_embedding(self, text: str) -> SparseVector:
        """Embed a document or passage; see `get_text_embedding`."""
        return _only(await run(self, Asyncio(), "text", [text]))

    @overload
    def get_query_embedding_batch(
        self, queries: Iterable[str], *, show_progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[SparseVector]: ...
    @overload
    def get_query_embedding_batch(
        self, queries: Iterable[str], *, show_progress: bool = False, on_error: Literal["none"]
    ) -> list[SparseVector | None]: ...
    def get_query_embedding_batch(
        self, queries: Iterable[str], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> list[Any]:
        """Embed search queries, in input order; `on_error="none"` leaves None where one fails."""
        return drive(self._vectors(runner(self), "query", queries, show_progress=show_progress, on_error=on_error))

    @overload
    async def aget_query_embedding_batch(
        self, queries: Iterable[str], *, show_progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[SparseVector]: ...
    @overload
    async def aget_query_embedding_batch(
        self, queries: Iterable[str], *, show_progress: bool = False, on_error: Literal["none"]
    ) -> list[SparseVector | None]: ...
    async def aget_query_embedding_batch(
        self, queries: Iterable[str], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> list[Any]:
        """Embed search queries; see `get_query_embedding_batch`."""
        return await self._vectors(Asyncio(), "query", queries, show_progress=show_progress, on_error=on_error)

    @overload
    def get_text_embedding_batch(
        self, texts: Iterable[str], *, show_progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[SparseVector]: ...
    @overload
    def get_text_embedding_batch(
        self, texts: Iterable[str], *, show_progress: bool = False, on_error: Literal["none"]
    ) -> list[SparseVector | None]: ...
    def get_text_embedding_batch(
        self, texts: Iterable[str], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> list[Any]:
        """Embed documents or passages, in input order; `on_error="none"` leaves None where one fails."""
        return drive(self._vectors(runner(self), "text", texts, show_progress=show_progress, on_error=on_error))

    @overload
    async def aget_text_embedding_batch(
        self, texts: Iterable[str], *, show_progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[SparseVector]: ...
    @overload
    async def aget_text_embedding_batch(
        self, texts: Iterable[str], *, show_progress: bool = False, on_error: Literal["none"]
    ) -> list[SparseVector | None]: ...
    async def aget_text_embedding_batch(
        self, texts: Iterable[str], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> list[Any]:
        """Embed documents or passages; see `get_text_embedding_batch`."""
        return await self._vectors(Asyncio(), "text", texts, show_progress=show_progress, on_error=on_error)

    def get_agg_embedding_from_queries(
        self, queries: Iterable[str], agg_fn: Callable[[list[SparseVector]], Any] | None = None
    ) -> SparseVector:
        """Embed several queries and reduce them to one vector, by default their mean.

        Args:
            queries: the queries.
            agg_fn: reduces the vectors to one, in any form that `SparseVector.of` takes.

        Raises:
            InvalidInputError: there are no queries.
        """
        return SparseVector.of((agg_fn or SparseVector.mean)(self.get_query_embedding_batch(queries)))

    async def aget_agg_embedding_from_queries(
        self, queries: Iterable[str], agg_fn: Callable[[list[SparseVector]], Any] | None = None
    ) -> SparseVector:
        """Embed several queries and reduce them to one vector; see `get_agg_embedding_from_queries`."""
        return SparseVector.of((agg_fn or SparseVector.mean)(await self.aget_query_embedding_batch(queries)))

    @staticmethod
    def similarity(embedding1: SparseVector, embedding2: SparseVector) -> float:
        """Return the dot product, for which sparse models are trained."""
        return SparseVector.of(embedding1).dot(SparseVector.of(embedding2))

    async def _vectors(
        self, io: IO, kind: Kind, inputs: Iterable[str], *, show_progress: bool, on_error: OnError
    ) -> list[SparseVector]:
        rows: list[Any] = await lists(self, io, kind, inputs, show_progress=show_progress, on_error=on_error)
        return [row and row[0] for row in rows]


def _only(vectors: NDArray[Any]) -> SparseVector:
    vector: SparseVector = vectors[0, 0]
    return vector
