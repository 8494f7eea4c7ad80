"""A model as the engine sees it: fields, and the hooks that an integration writes, of which two are required."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from os import PathLike
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar, cast

from pydantic import BeforeValidator, Field, PrivateAttr

from embed_core import _space
from embed_core._config import Config
from embed_core._images import ImageLoader
from embed_core._limits import RateLimiter
from embed_core._rows import Dense, Rows
from embed_core._space import Dimension
from embed_core._state import Places, State
from embed_core._threads import in_thread
from embed_core._types import DEFAULT_EMBED_BATCH_SIZE, OPERATIONAL, Answer, Answers, Kind, LongText, Origin
from embed_core.forks import Lock
from embed_core.instrumentation import CallbackManager
from embed_core.kvstore import KVStore, SQLiteKVStore
from embed_core.middleware.fitted import Windows, byte_windows
from embed_core.middleware.retried import RetryPolicy

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:

    class Store:
        """The type of a field that holds a store, and takes a path too."""

        def __get__(self, model: Any, owner: Any) -> KVStore | None: ...
        def __set__(self, model: Any, value: KVStore | str | PathLike[str] | None) -> None: ...

else:
    Store = KVStore | None


def _or_one(workers: Any) -> Any:
    return 1 if workers is None else workers  # as LlamaIndex has it


def _as_store(value: Any) -> Any:
    return SQLiteKVStore(value) if isinstance(value, str | PathLike) else value


def own(vector: Any) -> Any:
    """Return a copy of a single hook's vector, as the hook may use its array again for the next input."""
    return list(vector) if isinstance(vector, list) else deepcopy(vector)  # an SDK's list may refuse to be copied


def default_hook(fn: F) -> F:
    """Mark the base class's own version of a hook, so that the engine sees which ones an integration wrote."""
    fn.__dict__["is_default_hook"] = True
    return fn


class Model(Config, ABC):
    """The fields and hooks that dense and sparse models share; `BaseEmbedding` documents the fields.

    An integration subclasses it only for the part that its dense and its sparse models have in common. A hook may
    return lists or an array; a batch hook also a `ProviderResponse`. Errors it raises should come from
    `embed_core.errors`; anything else is wrapped in a `ProviderError`.
    """

    io_bound: ClassVar[bool] = False
    """Whether a hook mostly waits, so that sync callers gain from sending batches in several threads."""

    accepts_blank: ClassVar[bool] = True
    """Whether the provider embeds an empty or blank text."""

    normalizes: ClassVar[bool] = False
    """Whether every vector that the hooks return has unit length; a mean of windows is then given unit length too.

    Where settings decide it, write `_normalizes`: the engine asks that, and this is its default answer.
    """

    _rows: ClassVar[Rows] = Dense()

    model_name: str = "unknown"
    embed_batch_size: Annotated[int, OPERATIONAL] = Field(default=DEFAULT_EMBED_BATCH_SIZE, ge=1, le=2048)
    num_workers: Annotated[int, OPERATIONAL, BeforeValidator(_or_one)] = Field(default=1, ge=1)
    embeddings_cache: Annotated[Store, OPERATIONAL, BeforeValidator(_as_store)] = Field(
        default=cast("Any", None), exclude=True, repr=False
    )
    callback_manager: Annotated[CallbackManager | None, OPERATIONAL] = Field(default=None, exclude=True, repr=False)
    rate_limiter: Annotated[RateLimiter | None, OPERATIONAL] = Field(default=None, exclude=True, repr=False)
    retry: Annotated[RetryPolicy, OPERATIONAL] = RetryPolicy()
    long_text: LongText = "truncate"
    max_input_tokens: int | None = Field(default=None, ge=1)
    middlewares: tuple[Any, ...] = Field(default=(), exclude=True, repr=False)

    _state: State | None = PrivateAttr(default=None)
    _making: Any = PrivateAttr(default_factory=Lock)

    @property
    def fingerprint(self) -> str:
        """A stable hash of the space: vectors of models with equal fingerprints may be compared, others may not."""
        return self._learned(fingerprint=True).fingerprint

    @property
    def dimension(self) -> int | None:
        """The length of the vectors; None until it is declared or the first one was made."""
        return self._learned().dimension.known

    def load(self) -> None:
        """Load weights now, where the model has some, so that its first call does not wait for them."""
        self._load()

    async def aload(self) -> None:
        """Load weights now; see `load`."""
        await in_thread(self._load)

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

    def _learned(self, *, fingerprint: bool = False) -> State:
        """Return the engine's knowledge of this configuration; on demand its fingerprint too, which may read files."""
        with self._making:
            state, space = self._state, ""
            if state is not None and state.volatile and state.fingerprint:
                space = _space.fingerprint(self._space())
            if state is None or state.is_stale() or space != (state.fingerprint if space else ""):
                state = self._state = self._state_after(state)
            if fingerprint and not state.fingerprint:
                state.fingerprint = _space.fingerprint(self._space())
            return state

    def _state_after(self, former: State | None) -> State:
        version = self._changes.version
        self._track()
        if former is not None:
            self._changed("")
        dimension = Dimension(self._declared_dimension())
        used, volatile = former is not None and former.used, self._may_change_unseen()
        return State(dimension, self._normalizes(), self._changes, version, volatile, used)

    def _made_from(self, arguments: dict[str, Any] | None) -> None:
        super()._made_from(arguments)
        self._state = None  # a constructor may have asked for vectors, or for the dimension

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in type(self).model_fields:
            return super().__setattr__(name, value)
        with self._making:  # not while a call learns the space of the former value
            return super().__setattr__(name, value)

    def _begun(self, *, fingerprint: bool) -> State:
        """Return the engine's knowledge of this configuration, which is fixed from now on."""
        with self._making:
            state = self._learned(fingerprint=fingerprint)
            state.used = True
            return state

    def _is_fixed(self) -> bool:
        return self._state is not None and self._state.used

    def _changed(self, name: str) -> None:
        fixed = self._is_fixed()  # then an equal value was assigned
        if name and not fixed and self._decides_vectors(name):
            self._state = None

    # Hooks

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
        return [own(self._get_query_embedding(query)) for query in queries]

    @default_hook
    def _get_text_embeddings(self, texts: list[str]) -> Answers:
        return [own(self._get_text_embedding(text)) for text in texts]

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

    def _places(self) -> Places:
        """Return the integration's own middleware by its place on the way; asked for with every call."""
        return Places()

    def _price_per_million_tokens(self) -> float | None:
        """Return US dollars for a million tokens; 0 for a model that costs nothing, None where it is not known."""
        return None

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

    def _sure_room(self) -> int:
        """Return how many bytes of a text fit for sure, where nothing has to be loaded to tell; else 0."""
        return 0

    def _windows(self, kind: Kind, text: str, limit: int) -> Windows:
        """Split a text into (piece, tokens) pairs of at most `limit` tokens; estimated without a tokenizer."""
        return byte_windows(text, limit)

    def _normalizes(self) -> bool:
        """Tell whether all vectors have unit length; write your own where that depends on the model that is named."""
        return self.normalizes

    def _count_tokens(self, inputs: Sequence[Any]) -> int:
        """Return how many tokens a rate limiter should charge; by default four bytes of UTF-8 each."""
        return sum(-(-len(one.encode()) // 4) for one in inputs if isinstance(one, str))

    def _count_requests(self, inputs: Sequence[Any]) -> int:
        """Return how many requests a rate limiter should charge: more than one where a quota counts inputs."""
        return 1

    def _origin(self) -> Origin:
        """Return where the vectors come from; extend it with `dataclasses.replace(super()._origin(), address=…)`."""
        return Origin(self._provider_name(), describe=self.to_dict, count_tokens=self._count_tokens)

    def _image_loader(self) -> ImageLoader:
        """Return a loader for the images of one call."""
        return ImageLoader()

    def _load(self) -> None:
        """Load weights; called from any thread, and again when they are there already."""

    def _close(self) -> None:
        """Let go of clients and weights; they are made again on the next use."""

    async def _aclose(self) -> None:
        """Let go of clients of the running event loop, and of all that `_close` lets go of."""
        self._close()

    async def _abatch(self, kind: Kind, inputs: list[Any]) -> Answers:
        """Embed a batch from async code by the best hook there is, without blocking the event loop."""
        if self._wrote(f"_aget_{kind}_embedding") and not self._wrote(f"_get_{kind}_embeddings"):
            single = getattr(self, f"_aget_{kind}_embedding")
            return [own(await single(one)) for one in inputs]
        batch: Callable[[list[Any]], Answers] = getattr(self, f"_get_{kind}_embeddings")
        return await in_thread(lambda: batch(inputs))

    @classmethod
    def _wrote(cls, hook: str) -> bool:
        return getattr(getattr(cls, hook), "is_default_hook", None) is not True  # a mock has every attribute
