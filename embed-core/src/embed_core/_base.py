"""The base class of every embedding model: public methods over one path, and the list of what happens on it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Self, TypeVar

import numpy as np
from pydantic import Field, PrivateAttr

from embed_core import _space
from embed_core._hooks import Hooks
from embed_core._io import IO, Asyncio, Blocking, Threaded, drive
from embed_core._limits import RateLimiter
from embed_core._progress import progress
from embed_core._similarity import SimilarityMode, mean_agg, similarity
from embed_core._stream import awindows, windows
from embed_core._types import OPERATIONAL, Embedding, Kind, LongText, Middleware, Next, Request, Vectors
from embed_core.instrumentation import CallbackManager, dispatcher
from embed_core.instrumentation.dispatcher import Handler
from embed_core.kvstore import KVStore
from embed_core.middleware.batched import Batched
from embed_core.middleware.checked import Checked, Dimension
from embed_core.middleware.fitted import Fitted
from embed_core.middleware.instrumented import Instrumented
from embed_core.middleware.rate_limited import RateLimited
from embed_core.middleware.recalled import Recalled
from embed_core.middleware.remembered import Remembered
from embed_core.middleware.retried import Retried, RetryPolicy
from embed_core.middleware.validated import Validated, collect
from embed_core.schema import MetadataMode, SupportsEmbedding

NodeT = TypeVar("NodeT", bound=SupportsEmbedding)

_WINDOW = 4  # batches per worker in one block of a stream: enough that workers seldom wait for each other


class BaseEmbedding(Hooks):
    """A model that turns texts into vectors.

    Subclasses write `_get_query_embedding` and `_get_text_embedding`, and optionally batch and async versions; all the
    rest (batching, order, cache, retries, limits, events, checks) is here, once, for all of them.

    Attributes:
        model_name: the model, as its provider names it.
        embed_batch_size: most inputs of one provider call, 1 to 2048.
        num_workers: most provider calls in flight at once.
        embeddings_cache: a store of vectors already paid for; shared freely between models, they never mix.
        callback_manager: handlers of this model's events.
        rate_limiter: a budget of requests and tokens per minute, which several models may share.
        retry: how failures that can pass are tried again.
        long_text: what happens to a text longer than `max_input_tokens` or than the model: "truncate" keeps its start,
            "error" refuses it, "mean" averages the vectors of its windows, weighted by their tokens.
        max_input_tokens: most tokens of one input; None leaves it to the model.
        middlewares: your own, run just outside the hook, the first one outermost.
    """

    model_name: str = "unknown"
    embed_batch_size: Annotated[int, OPERATIONAL] = Field(default=32, ge=1, le=2048)
    num_workers: Annotated[int, OPERATIONAL] = Field(default=1, ge=1)
    embeddings_cache: Annotated[KVStore | None, OPERATIONAL] = Field(default=None, exclude=True, repr=False)
    callback_manager: Annotated[CallbackManager | None, OPERATIONAL] = Field(default=None, exclude=True, repr=False)
    rate_limiter: Annotated[RateLimiter | None, OPERATIONAL] = Field(default=None, exclude=True, repr=False)
    retry: Annotated[RetryPolicy, OPERATIONAL] = RetryPolicy()
    long_text: LongText = "truncate"
    max_input_tokens: int | None = Field(default=None, ge=1)
    middlewares: Annotated[tuple[Any, ...], OPERATIONAL] = Field(default=(), exclude=True, repr=False)

    _engine: _Engine | None = PrivateAttr(default=None)
    _making: Any = PrivateAttr(default_factory=threading.Lock)

    @property
    def fingerprint(self) -> str:
        """A stable hash of the space: vectors of models with equal fingerprints may be compared, others may not."""
        return _space.fingerprint(self._space())

    @property
    def dimension(self) -> int | None:
        """The length of the vectors; None until it is declared or the first one was made."""
        return self._ready().dimension.known

    # One input

    def get_query_embedding(self, query: str) -> Embedding:
        """Embed a search query; return its vector as a list of `dimension` floats."""
        return self._one(drive(self._embed(Blocking(), "query", [query])))

    async def aget_query_embedding(self, query: str) -> Embedding:
        """Embed a search query; see `get_query_embedding`."""
        return self._one(await self._embed(Asyncio(), "query", [query]))

    def get_text_embedding(self, text: str) -> Embedding:
        """Embed a document or passage; return its vector as a list of `dimension` floats."""
        return self._one(drive(self._embed(Blocking(), "text", [text])))

    async def aget_text_embedding(self, text: str) -> Embedding:
        """Embed a document or passage; see `get_text_embedding`."""
        return self._one(await self._embed(Asyncio(), "text", [text]))

    # Many inputs

    def get_text_embedding_batch(self, texts: Iterable[str], *, show_progress: bool = False) -> list[Embedding]:
        """Embed documents or passages; return one list of floats for each, in input order."""
        return self.embed_texts(texts, show_progress=show_progress).tolist()  # type: ignore[no-any-return]  numpy's stub

    async def aget_text_embedding_batch(self, texts: Iterable[str], *, show_progress: bool = False) -> list[Embedding]:
        """Embed documents or passages; see `get_text_embedding_batch`."""
        return (await self.aembed_texts(texts, show_progress=show_progress)).tolist()  # type: ignore[no-any-return]  numpy's stub

    def embed_texts(self, texts: Iterable[str], *, show_progress: bool = False) -> Vectors:
        """Embed documents or passages; return a float32 array of shape (n, dimension), rows in input order."""
        return drive(self._embed(self._io(), "text", texts, show_progress=show_progress))

    async def aembed_texts(self, texts: Iterable[str], *, show_progress: bool = False) -> Vectors:
        """Embed documents or passages; see `embed_texts`."""
        return await self._embed(Asyncio(), "text", texts, show_progress=show_progress)

    def embed_queries(self, queries: Iterable[str], *, show_progress: bool = False) -> Vectors:
        """Embed search queries; return a float32 array of shape (n, dimension), rows in input order."""
        return drive(self._embed(self._io(), "query", queries, show_progress=show_progress))

    async def aembed_queries(self, queries: Iterable[str], *, show_progress: bool = False) -> Vectors:
        """Embed search queries; see `embed_queries`."""
        return await self._embed(Asyncio(), "query", queries, show_progress=show_progress)

    def stream_texts(self, texts: Iterable[str]) -> Iterator[Vectors]:
        """Embed any number of texts; yield float32 blocks of shape (some, dimension), in input order.

        Holds a few batches for each worker in memory, never the corpus.
        """
        start = 0
        for window in windows("text", texts, self._window_size()):
            yield drive(self._embed(self._io(), "text", window, start=start))
            start += len(window)

    async def astream_texts(self, texts: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[Vectors]:
        """Embed any number of texts, which may arrive asynchronously; see `stream_texts`."""
        start = 0
        async for window in awindows("text", texts, self._window_size()):
            yield await self._embed(Asyncio(), "text", window, start=start)
            start += len(window)

    def get_agg_embedding_from_queries(
        self, queries: Iterable[str], agg_fn: Callable[[list[Embedding]], Embedding] | None = None
    ) -> Embedding:
        """Embed several queries and reduce them to one vector, by default their mean.

        Raises:
            InvalidInputError: there are no queries.
        """
        return (agg_fn or mean_agg)(self.embed_queries(queries).tolist())

    async def aget_agg_embedding_from_queries(
        self, queries: Iterable[str], agg_fn: Callable[[list[Embedding]], Embedding] | None = None
    ) -> Embedding:
        """Embed several queries and reduce them to one vector; see `get_agg_embedding_from_queries`."""
        return (agg_fn or mean_agg)((await self.aembed_queries(queries)).tolist())

    def __call__(self, nodes: Sequence[NodeT], *, show_progress: bool = False) -> Sequence[NodeT]:
        """Set `.embedding` on each node from what `get_content(metadata_mode="embed")` gives; return the nodes."""
        return _set_embeddings(nodes, self.embed_texts(_contents(nodes), show_progress=show_progress))

    async def acall(self, nodes: Sequence[NodeT], *, show_progress: bool = False) -> Sequence[NodeT]:
        """Set `.embedding` on each node; see `__call__`."""
        return _set_embeddings(nodes, await self.aembed_texts(_contents(nodes), show_progress=show_progress))

    @staticmethod
    def similarity(
        embedding1: Sequence[float], embedding2: Sequence[float], mode: SimilarityMode = SimilarityMode.DEFAULT
    ) -> float:
        """Compare two vectors; more is more alike in every mode. See `embed_core.similarity`."""
        return similarity(embedding1, embedding2, mode)

    # Lifetime

    def close(self) -> None:
        """Let go of clients and weights; the model makes them again when it is used again."""
        self._close()

    async def aclose(self) -> None:
        """Let go of clients and weights, those of the running event loop included."""
        await self._aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # The one path

    def _middleware(self, dimension: Dimension) -> list[Middleware]:
        """Return everything that happens between the caller and the hook, outermost first."""
        store, keys = self.embeddings_cache, self._keys()
        return [
            Validated(self.accepts_blank),
            Fitted(self.long_text, self._input_limit, self._windows, self.normalizes),
            *([Recalled(store, keys, self.model_name, self._listeners)] if store is not None else []),
            Batched(self._plan, self.num_workers),
            *([Remembered(store, keys)] if store is not None else []),
            Instrumented(self.model_name, self._listeners),
            Retried(self.retry),
            *([RateLimited(self.rate_limiter, self._count_tokens)] if self.rate_limiter is not None else []),
            Checked(self.model_name, dimension),
            *self.middlewares,
        ]

    async def _embed(
        self, io: IO, kind: Kind, inputs: Iterable[Any], *, show_progress: bool = False, start: int = 0
    ) -> Vectors:
        collected = collect(kind, inputs)
        if not collected:
            return np.empty((0, self.dimension or 0), dtype=np.float32)
        engine = self._engine or await io.call(self._ready)
        with progress(kind, len(collected), show=show_progress) as bar:
            request = Request(kind, collected, range(start, start + len(collected)), progress=bar)
            return await engine.run(request, io, self._provide)

    async def _provide(self, request: Request, io: IO) -> Any:
        """Make the provider call: the hook for the kind, in the caller's colour."""
        inputs = [image.open() for image in request.inputs] if request.kind == "image" else list(request.inputs)
        sync = getattr(self, f"_get_{request.kind}_embeddings")
        async_ = getattr(self, f"_aget_{request.kind}_embeddings")
        return await io.call(lambda: sync(inputs), lambda: async_(inputs))

    def _ready(self) -> _Engine:
        with self._making:
            if self._engine is None:
                dimension = Dimension(self._declared_dimension())
                self._engine = _Engine(tuple(self._middleware(dimension)), dimension)
            return self._engine

    def _keys(self) -> Callable[[Kind, Sequence[Any]], list[bytes]]:
        return partial(_space.keys, self.fingerprint if self.embeddings_cache is not None else "")

    def _listeners(self) -> Sequence[Handler]:
        mine = self.callback_manager
        return dispatcher.handlers if mine is None else (*dispatcher.handlers, *mine.handlers)

    def _configuration_changed(self) -> None:
        self._engine = None

    def _io(self) -> IO:
        return Threaded() if self.io_bound and self.num_workers > 1 else Blocking()

    @staticmethod
    def _one(vectors: Vectors) -> Embedding:
        embedding: Embedding = vectors[0].tolist()
        return embedding

    def _window_size(self) -> int:
        return self.embed_batch_size * self.num_workers * _WINDOW


@dataclass(frozen=True, slots=True)
class _Engine:
    """A model's middleware, made once for a configuration."""

    middleware: tuple[Middleware, ...]
    dimension: Dimension

    async def run(self, request: Request, io: IO, provide: Callable[[Request, IO], Awaitable[Any]]) -> Vectors:
        next_: Next = partial(provide, io=io)
        for one in reversed(self.middleware):
            next_ = partial(_step, one, next_, io)
        return await next_(request)


def _step(one: Middleware, next_: Next, io: IO, request: Request) -> Awaitable[Vectors]:
    return one(request, next_, io)


def _contents(nodes: Iterable[SupportsEmbedding]) -> list[str]:
    return [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]


def _set_embeddings(nodes: Sequence[NodeT], vectors: Vectors) -> Sequence[NodeT]:
    for node, embedding in zip(nodes, vectors.tolist(), strict=True):
        node.embedding = embedding
    return nodes
