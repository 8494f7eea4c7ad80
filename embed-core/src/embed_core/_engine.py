"""The one path from a caller to a hook, written once for every kind and colour, and the list of what happens on it."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, Self
from weakref import WeakKeyDictionary

import numpy as np
from pydantic import BeforeValidator, Field, PrivateAttr

from embed_core import _space
from embed_core._cache import Cache
from embed_core._hooks import Hooks
from embed_core._images import open_batch
from embed_core._io import IO, Asyncio, Blocking, Threaded, drive
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
from embed_core.middleware.joined import Flights, Joined
from embed_core.middleware.rate_limited import RateLimited
from embed_core.middleware.recalled import Recalled
from embed_core.middleware.remembered import Remembered
from embed_core.middleware.retried import Retried, RetryPolicy
from embed_core.middleware.traced import Traced
from embed_core.middleware.validated import Validated, collect

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

    _state: State | None = PrivateAttr(default=None)
    _making: Any = PrivateAttr(default_factory=Lock)

    @property
    def fingerprint(self) -> str:
        """A stable hash of the space: vectors of models with equal fingerprints may be compared, others may not."""
        return _space.fingerprint(self._space())

    @property
    def dimension(self) -> int | None:
        """The length of the vectors; None until it is declared or the first one was made."""
        return self._learned(None).dimension.known

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

    def _middleware(self, state: State, store: KVStore | None, own: Own) -> list[Any]:
        """Return everything that happens between the caller and the hook, outermost first.

        The list is made anew for each call, so nothing that the model keeps holds the model.
        """
        listeners = partial(_event_handlers, self.callback_manager)
        cache = None if store is None else Cache(store, state.fingerprint, self._rows, state.dimension)
        limiter = None if own.limits else self.rate_limiter
        return [
            # of the call: what has become of every row
            Traced(self.model_name, listeners, partial(_span_handlers, self.callback_manager)),
            _settled,
            Validated(self.accepts_blank, self._image_loader, self.num_workers),
            Fitted(self.long_text, self._input_limit, self._windows, state.normalizes, state.limits, state.warned),
            *([] if cache is None else [Recalled(cache, self.model_name, listeners)]),
            *own.missing,
            Batched(self._plan, self.num_workers),
            *([] if cache is None else [Joined(cache, state.flights(cache.store)), Remembered(cache)]),
            Isolated(self._plan),
            # of one attempt at one batch: vectors, or it raises
            *own.batch,
            Instrumented(self.model_name, self._origin, listeners),
            Retried(self.retry),
            *([RateLimited(limiter, self._count_tokens)] if limiter is not None else []),
            Checked(self.model_name, self._rows, state.dimension),
            *self.middlewares,
            *own.attempt,
        ]

    def _places(self) -> Own:
        """Return the middleware of an integration's own, by its place on the way."""
        return Own()

    async def _embed_all(
        self,
        io: IO,
        kind: Kind,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        indices: Sequence[int] | None = None,
        keep_going: bool = False,
        cache: KVStore | None = None,
        own: Own | None = None,
    ) -> Vectors:
        collected = collect(kind, inputs)
        store = self.embeddings_cache if cache is None else cache
        state = self._state  # once: pydantic finds private attributes slowly
        if state is None or (store is not None and not state.fingerprint):
            state = await io.call(partial(self._learned, store))
        if not collected:
            return np.empty((0, state.dimension.known or 0), dtype=np.float32)
        indices = range(len(collected)) if indices is None else indices
        next_: Next = partial(self._provide, state, store, io)
        for one in reversed(self._middleware(state, store, self._places() if own is None else own)):
            next_ = partial(_step, one, next_, io)
        with progress(kind, len(collected), show=show_progress) as bar:
            return await next_(Request(kind, collected, indices, ids=indices, keep_going=keep_going, progress=bar))

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

    async def _provide(self, state: State, store: KVStore | None, io: IO, request: Request) -> Any:
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
        if self._state is not state and store is not None:  # each configuration has its own
            msg = (
                f"a field of `{self.model_name}` was assigned while it embedded, so its vectors belong to no one "
                "configuration; call it again, or mark the field `OPERATIONAL` if it changes none"
            )
            raise ConfigurationError(msg)
        return answer

    def _embed(self, kind: Kind, inputs: Iterable[Any], own: Own, *, show_progress: bool = False) -> Vectors:
        """Embed inputs with other middleware of the integration's own than usual."""
        return drive(self._embed_all(self._io(), kind, inputs, show_progress=show_progress, own=own))

    async def _aembed(self, kind: Kind, inputs: Iterable[Any], own: Own, *, show_progress: bool = False) -> Vectors:
        """Embed inputs with other middleware; see `_embed`."""
        return await self._embed_all(Asyncio(), kind, inputs, show_progress=show_progress, own=own)

    def _learned(self, store: KVStore | None) -> State:
        """Return what is known of this configuration; where there is a cache, its fingerprint too."""
        with self._making:
            if self._state is None:
                self._state = State(Dimension(self._declared_dimension()), self._normalizes())
            if store is not None and not self._state.fingerprint:
                self._state.fingerprint = self.fingerprint
            return self._state

    def _cache(self, store: KVStore) -> Cache:
        """Return the vectors of this configuration in a store."""
        state = self._learned(store)
        return Cache(store, state.fingerprint, self._rows, state.dimension)

    def _changed(self, *, operational: bool) -> None:
        if not operational:
            with self._making:  # else what is being made of the old value would outlive it
                self._state = None

    def _io(self) -> IO:
        return Threaded() if self.io_bound and self.num_workers > 1 else Blocking()

    def _window_size(self) -> int:
        return self.embed_batch_size * self.num_workers * _WINDOW


@dataclass(slots=True)
class State:
    """What a model has learned of its configuration; forgotten when a field that decides vectors changes."""

    dimension: Dimension
    normalizes: bool
    fingerprint: str = ""
    limits: dict[Kind, int | None] = field(default_factory=dict)
    warned: list[bool] = field(default_factory=list)
    _flights: WeakKeyDictionary[KVStore, Flights] = field(default_factory=WeakKeyDictionary)

    def flights(self, store: KVStore) -> Flights:
        """Return what is being embedded right now for one cache."""
        there = self._flights.get(store)
        return self._flights.setdefault(store, Flights()) if there is None else there


@dataclass(frozen=True, slots=True)
class Own:
    """Middleware of an integration, or of one call, by its place on the way.

    Attributes:
        missing: gets what the cache does not hold, before it is cut into batches.
        batch: around the events and retries of one batch.
        attempt: around one attempt, innermost.
        limits: whether `attempt` holds the rate limiter.
    """

    missing: tuple[Middleware, ...] = ()
    batch: tuple[Middleware, ...] = ()
    attempt: tuple[Middleware, ...] = ()
    limits: bool = False


def _event_handlers(mine: CallbackManager | None) -> Sequence[Handler]:
    return dispatcher.event_handlers if mine is None else (*dispatcher.event_handlers, *mine.event_handlers)


def _span_handlers(mine: CallbackManager | None) -> Sequence[SpanHandler]:
    return dispatcher.span_handlers if mine is None else (*dispatcher.span_handlers, *mine.span_handlers)


async def _settled(request: Request, next_: Any, io: IO) -> Vectors:
    return (await next_(request)).settled(request)


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
