"""The base class of every embedding model: public methods, each one line over the one path."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, closing
from functools import partial
from operator import length_hint
from typing import Any, Literal, TypeVar, overload

from embed_core._engine import array, block_size, lists, only, run, runner, weigh
from embed_core._io import IO, Asyncio, Blocking, Threaded, drive
from embed_core._model import Model
from embed_core._progress import progress
from embed_core._similarity import SimilarityMode, mean_agg, similarity
from embed_core._stream import Window, aahead, ahead, awindows, windows
from embed_core._types import Embedding, OnError, Progress, Vectors
from embed_core.kvstore import KVStore
from embed_core.middleware.weighed import Estimate
from embed_core.schema import MetadataMode, SupportsEmbedding, check_nodes

NodeT = TypeVar("NodeT", bound=SupportsEmbedding)


class BaseEmbedding(Model):
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
        long_text: the policy for a text longer than `max_input_tokens` or than the model: "truncate" keeps its start,
            "error" refuses it, "mean" averages the vectors of its windows, weighted by their tokens.
        max_input_tokens: most tokens of one input; None leaves it to the model.
        middlewares: your own, run just outside the hook, the first one outermost. They decide vectors, but for one
            that has an attribute `operational = True`.
    """

    # One input

    def get_query_embedding(self, query: str) -> Embedding:
        """Embed a search query; return its vector as a list of `dimension` floats."""
        return only(drive(run(self, Blocking(), "query", [query])))

    async def aget_query_embedding(self, query: str) -> Embedding:
        """Embed a search query; see `get_query_embedding`."""
        return only(await run(self, Asyncio(), "query", [query]))

    def get_text_embedding(self, text: str) -> Embedding:
        """Embed a document or passage; return its vector as a list of `dimension` floats."""
        return only(drive(run(self, Blocking(), "text", [text])))

    async def aget_text_embedding(self, text: str) -> Embedding:
        """Embed a document or passage; see `get_text_embedding`."""
        return only(await run(self, Asyncio(), "text", [text]))

    # Many inputs

    @overload
    def get_query_embedding_batch(
        self, queries: Iterable[str], *, show_progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[Embedding]: ...
    @overload
    def get_query_embedding_batch(
        self, queries: Iterable[str], *, show_progress: bool = False, on_error: Literal["none"]
    ) -> list[Embedding | None]: ...
    def get_query_embedding_batch(
        self, queries: Iterable[str], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> list[Any]:
        """Embed search queries; return one list of floats for each, in input order.

        With `on_error="none"` a failed input has `None` in its place, and all others are embedded.
        """
        return drive(lists(self, runner(self), "query", queries, show_progress=show_progress, on_error=on_error))

    @overload
    async def aget_query_embedding_batch(
        self, queries: Iterable[str], *, show_progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[Embedding]: ...
    @overload
    async def aget_query_embedding_batch(
        self, queries: Iterable[str], *, show_progress: bool = False, on_error: Literal["none"]
    ) -> list[Embedding | None]: ...
    async def aget_query_embedding_batch(
        self, queries: Iterable[str], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> list[Any]:
        """Embed search queries; see `get_query_embedding_batch`."""
        return await lists(self, Asyncio(), "query", queries, show_progress=show_progress, on_error=on_error)

    @overload
    def get_text_embedding_batch(
        self, texts: Iterable[str], *, show_progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[Embedding]: ...
    @overload
    def get_text_embedding_batch(
        self, texts: Iterable[str], *, show_progress: bool = False, on_error: Literal["none"]
    ) -> list[Embedding | None]: ...
    def get_text_embedding_batch(
        self, texts: Iterable[str], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> list[Any]:
        """Embed documents or passages; return one list of floats for each, in input order.

        With `on_error="none"` a failed input has `None` in its place, and all others are embedded.
        """
        return drive(lists(self, runner(self), "text", texts, show_progress=show_progress, on_error=on_error))

    @overload
    async def aget_text_embedding_batch(
        self, texts: Iterable[str], *, show_progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[Embedding]: ...
    @overload
    async def aget_text_embedding_batch(
        self, texts: Iterable[str], *, show_progress: bool = False, on_error: Literal["none"]
    ) -> list[Embedding | None]: ...
    async def aget_text_embedding_batch(
        self, texts: Iterable[str], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> list[Any]:
        """Embed documents or passages; see `get_text_embedding_batch`."""
        return await lists(self, Asyncio(), "text", texts, show_progress=show_progress, on_error=on_error)

    def embed_texts(self, texts: Iterable[str], *, show_progress: bool = False, on_error: OnError = "raise") -> Vectors:
        """Embed documents or passages; return a float32 array of shape (n, dimension), rows in input order."""
        return drive(array(self, runner(self), "text", texts, show_progress=show_progress, on_error=on_error))

    async def aembed_texts(
        self, texts: Iterable[str], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> Vectors:
        """Embed documents or passages; see `embed_texts`."""
        return await array(self, Asyncio(), "text", texts, show_progress=show_progress, on_error=on_error)

    def embed_queries(
        self, queries: Iterable[str], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> Vectors:
        """Embed search queries; return a float32 array of shape (n, dimension), rows in input order."""
        return drive(array(self, runner(self), "query", queries, show_progress=show_progress, on_error=on_error))

    async def aembed_queries(
        self, queries: Iterable[str], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> Vectors:
        """Embed search queries; see `embed_queries`."""
        return await array(self, Asyncio(), "query", queries, show_progress=show_progress, on_error=on_error)

    def stream_texts(self, texts: Iterable[str], *, show_progress: bool = False) -> Iterator[Vectors]:
        """Embed any number of texts; yield float32 blocks of shape (some, dimension), in input order.

        Holds windows of a few batches for each worker in memory, never the corpus. The workers of an `io_bound` model
        embed the next window while you work with a block: at most two windows are read ahead, in your thread. Another
        model embeds in your thread. Closing the iterator cancels what is not sent. A length of `texts` ends the bar.
        """
        with closing(progress("text", length_hint(texts) or None, show=show_progress)) as bar:
            read, embed = windows("text", texts, block_size(self)), partial(_block, self, bar)
            if self.io_bound:
                yield from ahead(read, embed, Threaded(self.num_workers))
            else:
                yield from (drive(embed(window, Blocking())) for window in read)

    async def astream_texts(
        self, texts: Iterable[str] | AsyncIterable[str], *, show_progress: bool = False
    ) -> AsyncIterator[Vectors]:
        """Embed any number of texts, which may arrive asynchronously, ahead for every model; see `stream_texts`."""
        with closing(progress("text", length_hint(texts) or None, show=show_progress)) as bar:
            read, embed = awindows("text", texts, block_size(self)), partial(_block, self, bar)
            async with aclosing(aahead(read, embed, Asyncio(self.num_workers))) as blocks:
                async for block in blocks:
                    yield block
                    del block  # not held while the next block is waited for

    def estimate(self, texts: Iterable[str]) -> Estimate:
        """Return the cost of embedding documents or passages; nothing is sent, and the cache counts."""
        return drive(weigh(self, runner(self), "text", texts))

    async def aestimate(self, texts: Iterable[str]) -> Estimate:
        """Return the cost of embedding documents or passages; see `estimate`."""
        return await weigh(self, Asyncio(), "text", texts)

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
        """Set `.embedding` on each node from its `get_content(metadata_mode="embed")`; return the nodes."""
        return drive(self._embed_nodes(runner(self), nodes, show_progress=show_progress))

    async def acall(self, nodes: Sequence[NodeT], *, show_progress: bool = False) -> Sequence[NodeT]:
        """Set `.embedding` on each node; see `__call__`."""
        return await self._embed_nodes(Asyncio(), nodes, show_progress=show_progress)

    async def _embed_nodes(
        self, io: IO, nodes: Sequence[NodeT], *, show_progress: bool, cache: KVStore | None = None
    ) -> Sequence[NodeT]:
        check_nodes(nodes)
        contents = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        vectors = await run(self, io, "text", contents, show_progress=show_progress, cache=cache)
        for node, embedding in zip(nodes, vectors.tolist(), strict=True):
            node.embedding = embedding
        return nodes

    @staticmethod
    def similarity(
        embedding1: Sequence[float], embedding2: Sequence[float], mode: SimilarityMode = SimilarityMode.DEFAULT
    ) -> float:
        """Compare two vectors; more is more alike in every mode. See `embed_core.similarity`."""
        return similarity(embedding1, embedding2, mode)


async def _block(model: BaseEmbedding, bar: Progress, window: Window, io: IO) -> Vectors:
    indices, texts = window
    return await run(model, io, "text", texts, indices=indices, show_progress=bar)
