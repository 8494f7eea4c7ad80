"""What an integration writes: hooks, of which only two are required."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import PositiveInt

from embed_core._config import Config
from embed_core._images import ImageLoader
from embed_core._threads import in_thread
from embed_core._types import Answer, Answers, Kind, Origin
from embed_core.middleware.fitted import Windows, byte_windows

F = TypeVar("F", bound=Callable[..., Any])


def default_hook(fn: F) -> F:
    """Mark the base class's own version of a hook, so that the engine sees which ones an integration wrote."""
    fn.__dict__["is_default_hook"] = True
    return fn


class Hooks(Config, ABC):
    """The hooks of a model, each with a default where there can be one.

    A hook may return lists or an array; a batch hook also a `ProviderResponse`. Errors it raises should come from
    `embed_core.errors`; anything else is wrapped in a `ProviderError`.
    """

    io_bound: ClassVar[bool] = False
    """Whether a hook mostly waits, so that sync callers gain from sending batches in several threads."""

    accepts_blank: ClassVar[bool] = True
    """Whether the provider embeds an empty or blank text."""

    normalizes: ClassVar[bool] = False
    """Whether every vector that the hooks return has unit length; a mean of windows is then given unit length too.

    Where settings decide it, write `_normalizes`: that is what is asked, and this its default answer.
    """

    embed_batch_size: PositiveInt
    max_input_tokens: PositiveInt | None

    @classmethod
    def known_models(cls) -> Sequence[str]:
        """Return models that a spec can name: those the provider documents, or those already on this machine.

        `embed models` shows them. It must be quick: no network, no weights.
        """
        return ()

    @abstractmethod
    def _get_query_embedding(self, query: str) -> Answer:
        """Embed one search query; return a vector of shape (dimension,)."""

    @abstractmethod
    def _get_text_embedding(self, text: str) -> Answer:
        """Embed one document or passage; return a vector of shape (dimension,)."""

    @default_hook
    def _get_query_embeddings(self, queries: list[str]) -> Answers:
        return [self._get_query_embedding(query) for query in queries]

    @default_hook
    def _get_text_embeddings(self, texts: list[str]) -> Answers:
        return [self._get_text_embedding(text) for text in texts]

    @default_hook
    async def _aget_query_embedding(self, query: str) -> Answer:
        return await in_thread(lambda: self._get_query_embedding(query))

    @default_hook
    async def _aget_text_embedding(self, text: str) -> Answer:
        return await in_thread(lambda: self._get_text_embedding(text))

    @default_hook
    async def _aget_query_embeddings(self, queries: list[str]) -> Answers:
        return await self._abatch("query", queries)

    @default_hook
    async def _aget_text_embeddings(self, texts: list[str]) -> Answers:
        return await self._abatch("text", texts)

    def _plan(self, kind: Kind, inputs: Sequence[Any]) -> Iterable[Sequence[int]]:
        """Group the positions of the inputs into batches, each position once; by count unless overridden.

        A provider with limits in bytes or tokens, or a local model that gains from equal lengths, writes its own.
        """
        size = self.embed_batch_size
        return [range(start, min(start + size, len(inputs))) for start in range(0, len(inputs), size)]

    def _declared_dimension(self) -> int | None:
        """Return the length of the vectors where it is known before the first one is made."""
        return None

    def _input_limit(self, kind: Kind) -> int | None:
        """Return how many tokens one input may have, beside prompt and special tokens; None means any number."""
        return self.max_input_tokens

    def _windows(self, kind: Kind, text: str, limit: int) -> Windows:
        """Split a text into (piece, tokens) pairs of at most `limit` tokens; estimated without a tokenizer."""
        return byte_windows(text, limit)

    def _normalizes(self) -> bool:
        """Tell whether all vectors have unit length; write your own where that depends on the model that is named."""
        return self.normalizes

    def _count_tokens(self, inputs: Sequence[Any]) -> int:
        """Return how many tokens a rate limiter should charge; by default four bytes of UTF-8 each."""
        return sum(-(-len(one.encode()) // 4) for one in inputs if isinstance(one, str))

    def _origin(self) -> Origin:
        """Return where the vectors come from; extend it with `dataclasses.replace(super()._origin(), address=…)`."""
        provider = self.provider or self.class_name()
        return Origin(provider, describe=self.to_dict, count_tokens=self._count_tokens)

    def _image_loader(self) -> ImageLoader:
        """Return what loads the images of one call."""
        return ImageLoader()

    def _close(self) -> None:
        """Let go of clients and weights; they are made again on the next use."""

    async def _aclose(self) -> None:
        """Let go of what belongs to the running event loop, and of all that `_close` does."""
        self._close()

    async def _abatch(self, kind: Kind, inputs: list[Any]) -> Answers:
        """Embed a batch from async code by the best hook there is, without blocking the event loop."""
        if self._wrote(f"_aget_{kind}_embedding") and not self._wrote(f"_get_{kind}_embeddings"):
            single = getattr(self, f"_aget_{kind}_embedding")
            return [await single(one) for one in inputs]
        batch: Callable[[list[Any]], Answers] = getattr(self, f"_get_{kind}_embeddings")
        return await in_thread(lambda: batch(inputs))

    @classmethod
    def _wrote(cls, hook: str) -> bool:
        return not hasattr(getattr(cls, hook), "is_default_hook")
