"""Models for unit tests: no weights, no network, the same vectors on every machine."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from embed_core._base import BaseEmbedding
from embed_core._model import Model
from embed_core._multimodal import MultiModalEmbedding
from embed_core._sparse import BaseSparseEmbedding
from embed_core._types import Kind, Vectors
from embed_core.forks import Lock

_REMEMBERED_CALLS = 1000
_IMAGE = b"\0image\0"


@dataclass(frozen=True, slots=True)
class MockCall:
    """One provider call that a mock has answered."""

    kind: Kind
    inputs: tuple[Any, ...]


class _Mock(Model):
    """Answers by a function of the content alone, and counts provider calls and their inputs."""

    model_name: str = "mock"

    _calls: deque[MockCall] = PrivateAttr(default_factory=lambda: deque(maxlen=_REMEMBERED_CALLS))
    _counts: list[int] = PrivateAttr(default_factory=lambda: [0, 0])
    _counting: Any = PrivateAttr(default_factory=Lock)

    @property
    def calls(self) -> list[MockCall]:
        """The last thousand provider calls, oldest first."""
        return list(self._calls)

    @property
    def call_count(self) -> int:
        """How many provider calls there were."""
        return self._counts[0]

    @property
    def input_count(self) -> int:
        """How many inputs those calls had together; cached ones are never sent and not counted."""
        return self._counts[1]

    def reset(self) -> None:
        """Count from zero again."""
        with self._counting:
            self._calls.clear()
            self._counts[:] = [0, 0]

    @abstractmethod
    def _vectors_of(self, contents: Sequence[bytes]) -> Any:
        """Return a vector for each content, which depends on nothing else."""

    def _answer(self, kind: Kind, inputs: Sequence[Any], contents: Sequence[bytes]) -> Any:
        with self._counting:
            self._calls.append(MockCall(kind, tuple(inputs)))
            self._counts[0] += 1
            self._counts[1] += len(inputs)
        return self._vectors_of(contents)

    def _get_query_embedding(self, query: str) -> Any:
        return self._answer("query", [query], [query.encode()])[0]

    def _get_text_embedding(self, text: str) -> Any:
        return self._answer("text", [text], [text.encode()])[0]

    def _get_query_embeddings(self, queries: list[str]) -> Any:
        return self._answer("query", queries, [query.encode() for query in queries])

    def _get_text_embeddings(self, texts: list[str]) -> Any:
        return self._answer("text", texts, [text.encode() for text in texts])

    async def _aget_query_embeddings(self, queries: list[str]) -> Any:
        return self._get_query_embeddings(queries)

    async def _aget_text_embeddings(self, texts: list[str]) -> Any:
        return self._get_text_embeddings(texts)


class MockEmbedding(_Mock, BaseEmbedding):
    """Gives every text a unit vector made from its hash, and counts provider calls.

    The same text gets the same vector as query and as document; different texts get different ones (from two
    dimensions on: one dimension has only two unit vectors).
    """

    provider: ClassVar[str | None] = "mock"
    normalizes: ClassVar[bool] = True

    embed_dim: int = Field(default=8, ge=1)

    def _vectors_of(self, contents: Sequence[bytes]) -> Vectors:
        return np.array([hashed_unit_vector(content, self.embed_dim) for content in contents])

    def _declared_dimension(self) -> int:
        return self.embed_dim


class MockMultiModalEmbedding(MockEmbedding, MultiModalEmbedding):
    """A `MockEmbedding` that takes images too; equal bytes give equal vectors."""

    provider: ClassVar[str | None] = "mock-multimodal"

    def _get_image_embedding(self, image: BytesIO) -> Any:
        return self._answer("image", [image], [_IMAGE + image.getvalue()])[0]

    def _get_image_embeddings(self, images: list[BytesIO]) -> Any:
        return self._answer("image", images, [_IMAGE + image.getvalue() for image in images])

    async def _aget_image_embeddings(self, images: list[BytesIO]) -> Any:
        return self._get_image_embeddings(images)


class MockSparseEmbedding(BaseSparseEmbedding, _Mock):
    """Counts the words of a text under indices made from their hashes, and counts provider calls.

    So texts that share words are alike, as with a real sparse model. `resolve_embed_model` gives dense models only:
    construct this class.

    Attributes:
        embed_dim: how many indices there are.
    """

    provider: ClassVar[str | None] = "mock-sparse"  # no plugin: there is no spec for it

    model_name: str = "mock"  # or pydantic takes it from the first base
    embed_dim: int = Field(default=30_000, ge=1, le=2**31)

    def _vectors_of(self, contents: Sequence[bytes]) -> list[Counter[int]]:
        return [Counter(self._index(word) for word in content.split()) for content in contents]

    def _index(self, word: bytes) -> int:
        return int.from_bytes(hashlib.shake_256(word).digest(8), "little") % self.embed_dim


def hashed_unit_vector(content: bytes, dimension: int) -> Vectors:
    """Return a float32 unit vector of shape (dimension,) that depends on the content's SHAKE-256 hash alone.

    The sum of squares is an integer, and square root and division are exactly rounded in IEEE 754, so every machine
    gives the same bits.
    """
    numbers = np.frombuffer(hashlib.shake_256(content).digest(2 * dimension), dtype="<i2").astype(np.int64)
    squares = int(numbers @ numbers)
    if not squares:
        numbers, squares = np.eye(1, dimension, dtype=np.int64)[0], 1
    unit: Vectors = (numbers / np.sqrt(np.float64(squares))).astype(np.float32)
    return unit
