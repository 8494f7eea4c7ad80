"""The one path from a caller to a hook, written once for every kind and colour, and the list of what happens on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, ParamSpec, Self, TypeVar
from weakref import ref

import numpy as np
from pydantic import BeforeValidator, Field, PrivateAttr

from embed_core import _space
from embed_core._hooks import Hooks
from embed_core._images import open_batch
from embed_core._io import IO, Blocking, Threaded
from embed_core._limits import RateLimiter
from embed_core._progress import progress
from embed_core._rows import Dense, Rows
from embed_core._space import Dimension
from embed_core._types import OPERATIONAL, Embedding, Kind, LongText, Middleware, Next, OnError, Request, Vectors
from embed_core.errors import ConfigurationError, EmbedError
from embed_core.forks import Lock
from embed_core.instrumentation import CallbackManager, Handler, SpanHandler, dispatcher
from embed_core.kvstore import KVStore
from embed_core.middleware.batched import Batched
from embed_core.middleware.checked import Checked
from embed_core.middleware.fitted import Fitted
from embed_core.middleware.instrumented import Instrumented
from embed_core.middleware.isolated import Isolated
from embed_core.middleware.joined import Joined
from embed_core.middleware.rate_limited import RateLimited
from embed_core.middleware.recalled import Recalled
from embed_core.middleware.remembered import Remembered
from embed_core.middleware.retried import Retried, RetryPolicy
from embed_core.middleware.traced import Traced
from embed_core.middleware.validated import Validated, collect

P = ParamSpec("P")
T = TypeVar("T")

_WINDOW = 4  # batches per worker in one block of a stream: enough that workers seldom wait for each other


def _or_one(workers: Any) -> Any:
    return 1 if workers is None else workers  # as LlamaIndex has it


class Engine(Hooks):
    """Everything behind the public methods of a model: fields, the middleware list and the way through it.

    `BaseEmbedding` documents the fields. An integration subclasses it only for what its dense and its sparse models
    have in common.
    """

    _rows: ClassVar[Rows] = Dense()

    model_name: str = "unknown"
    embed_batch_size: Annotated[int, OPERATIONAL] = Field(default=32, ge=1, le=2048)
    num_workers: Annotated[int, OPERATIONAL, BeforeValidator(_or_one)] = Field(default=1, ge=1)
    embeddings_cache: Annotated[KVStore | None, OPERATIONAL] = Field(default=None, exclude=True, repr=False)
    callback_manager: Annotated[CallbackManager | None, OPERATIONAL] = Field(default=None, exclude=True, repr=False)
    rate_limiter: Annotated[RateLimiter | None, OPERATIONAL] = Field(default=None, exclude=True, repr=False)
    retry: Annotated[RetryPolicy, OPERATIONAL] = RetryPolicy()
    long_text: LongText = "truncate"
    max_input_tokens: int | None = Field(default=None, ge=1)
    middlewares: Annotated[tuple[Any, ...], OPERATIONAL] = Field(default=(), exclude=True, repr=False)

    _chain: Chain | None = PrivateAttr(default=None)
    _dimension: Dimension | None = PrivateAttr(default=None)
    _making: Any = PrivateAttr(default_factory=Lock)

    @property
    def fingerprint(self) -> str:
        """A stable hash of the space: vectors of models with equal fingerprints may be compared, others may not."""
        return _space.fingerprint(self._space())

    @property
    def dimension(self) -> int | None:
        """The length of the vectors; None until it is declared or the first one was made."""
        return self._ready().dimension.known

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

    def _middleware(self, dimension: Dimension, store: KVStore | None) -> list[Middleware]:
        """Return everything that happens between the caller and the hook, outermost first."""
        keys, rows, own = self._keys(store), self._rows, self._weakly
        listeners, plan = partial(_event_handlers, self.callback_manager), own(self._plan)
        return [
            Traced(self.model_name, listeners, partial(_span_handlers, self.callback_manager)),
            Validated(self.accepts_blank, own(self._image_loader), self.num_workers),
            Fitted(self.long_text, own(self._input_limit), own(self._windows), self._normalizes()),
            *([Recalled(store, keys, rows, dimension, self.model_name, listeners)] if store is not None else []),
            Batched(plan, self.num_workers),
            Isolated(plan),
            *([Joined(store, keys, rows, dimension), Remembered(store, keys, rows)] if store is not None else []),
            Instrumented(self.model_name, own(self._origin), listeners),
            Retried(self.retry),
            *([RateLimited(self.rate_limiter, own(self._count_tokens))] if self.rate_limiter is not None else []),
            Checked(self.model_name, rows, dimension),
            *self.middlewares,
        ]

    @staticmethod
    def _weakly(method: Callable[P, T]) -> Callable[P, T]:
        """Return a method of the model for what the model holds itself, such as its middleware.

        A bound method would hold the model in turn, and so its weights, until the garbage collector comes by.
        """
        bound: Any = method
        function, model = bound.__func__, ref(bound.__self__)

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            result: T = function(model(), *args, **kwargs)  # alive: only a call of the model gets here
            return result

        return call

    async def _embed_all(
        self,
        io: IO,
        kind: Kind,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        indices: Sequence[int] | None = None,
        keep_going: bool = False,
        chain: Chain | None = None,
    ) -> Vectors:
        collected = collect(kind, inputs)
        chain = chain or self._chain  # once: pydantic finds private attributes slowly
        if chain is None:
            chain = await io.call(self._ready)
        if not collected:
            return np.empty((0, chain.dimension.known or 0), dtype=np.float32)
        indices = range(len(collected)) if indices is None else indices
        with progress(kind, len(collected), show=show_progress) as bar:
            request = Request(kind, collected, indices, ids=indices, keep_going=keep_going, progress=bar)
            return await chain.run(request, io, partial(self._provide, chain))

    async def _array(
        self, io: IO, kind: Kind, inputs: Iterable[Any], *, show_progress: bool, on_error: OnError
    ) -> Vectors:
        if _keeps_going(on_error):
            msg = f"an array has no place for `None`; use `get_{kind}_embedding_batch` for `on_error='none'`"
            raise ConfigurationError(msg)
        return await self._embed_all(io, kind, inputs, show_progress=show_progress)

    async def _lists(
        self, io: IO, kind: Kind, inputs: Iterable[Any], *, show_progress: bool, on_error: OnError
    ) -> list[Embedding]:
        collected, keep_going = collect(kind, inputs), _keeps_going(on_error)
        try:
            vectors = await self._embed_all(io, kind, collected, show_progress=show_progress, keep_going=keep_going)
        except EmbedError as error:
            if not (keep_going and error.failed):
                raise
            return _with_gaps(len(collected), error.completed)
        embeddings: list[Embedding] = vectors.tolist()
        return embeddings

    async def _provide(self, chain: Chain, io: IO, request: Request) -> Any:
        """Make the provider call: the hook for the kind, in the caller's colour.

        Raises:
            ConfigurationError: a field that decides vectors was assigned since the call began, and there is a cache,
                which would keep them under the key of the former configuration.
        """
        inputs = list(request.inputs)
        if request.kind == "image":
            inputs = await io.call(lambda: open_batch(request.inputs))
        sync = getattr(self, f"_get_{request.kind}_embeddings")
        async_ = getattr(self, f"_aget_{request.kind}_embeddings")
        answer = await io.call(lambda: sync(inputs), lambda: async_(inputs))
        if self._dimension is not chain.dimension and chain.store is not None:  # each configuration has its own
            msg = (
                f"a field of `{self.model_name}` was assigned while it embedded, so its vectors belong to no one "
                "configuration; call it again, or mark the field `OPERATIONAL` if it changes none"
            )
            raise ConfigurationError(msg)
        return answer

    def _ready(self) -> Chain:
        with self._making:
            if self._chain is None:
                self._chain = self._chain_with(self.embeddings_cache)
            return self._chain

    def _chain_with(self, store: KVStore | None) -> Chain:
        """Return the way of this model's inputs past a cache, which need not be its own: a run may lend it one."""
        with self._making:
            if self._dimension is None:
                self._dimension = Dimension(self._declared_dimension())
            return Chain(tuple(self._middleware(self._dimension, store)), self._dimension, store)

    def _keys(self, store: KVStore | None) -> Callable[[Kind, Sequence[Any]], list[bytes]]:
        return partial(_space.keys, self.fingerprint if store is not None else "")

    def _changed(self, *, operational: bool) -> None:
        with self._making:  # else what is being made of the old value would outlive it
            self._chain = None
            if not operational:
                self._dimension = None

    def _io(self) -> IO:
        return Threaded() if self.io_bound and self.num_workers > 1 else Blocking()

    def _window_size(self) -> int:
        return self.embed_batch_size * self.num_workers * _WINDOW


@dataclass(frozen=True, slots=True)
class Chain:
    """A model's middleware, made once for a configuration and a cache."""

    middleware: tuple[Middleware, ...]
    dimension: Dimension
    store: KVStore | None

    async def run(self, request: Request, io: IO, provide: Callable[[IO, Request], Awaitable[Any]]) -> Vectors:
        next_: Next = partial(provide, io)
        for one in reversed(self.middleware):
            next_ = partial(_step, one, next_, io)
        return await next_(request)


def _event_handlers(mine: CallbackManager | None) -> Sequence[Handler]:
    return dispatcher.event_handlers if mine is None else (*dispatcher.event_handlers, *mine.event_handlers)


def _span_handlers(mine: CallbackManager | None) -> Sequence[SpanHandler]:
    return dispatcher.span_handlers if mine is None else (*dispatcher.span_handlers, *mine.span_handlers)


def _step(one: Middleware, next_: Next, io: IO, request: Request) -> Awaitable[Vectors]:
    return one(request, next_, io)


def only(vectors: Vectors) -> Embedding:
    """Return the one vector there is as a list."""
    embedding: Embedding = vectors[0].tolist()
    return embedding


def _keeps_going(on_error: OnError) -> bool:
    if on_error not in {"raise", "none"}:
        msg = f"`on_error` is {on_error!r}; it must be 'raise' or 'none'"
        raise ConfigurationError(msg)
    return on_error == "none"


def _with_gaps(count: int, completed: Mapping[int, Vectors]) -> list[Any]:
    return [completed[index].tolist() if index in completed else None for index in range(count)]
