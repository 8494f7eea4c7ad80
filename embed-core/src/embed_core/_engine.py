"""The one path from a caller to a hook, for every kind and colour, and the list of middleware on it."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from embed_core._cache import Cache
from embed_core._images import open_batch
from embed_core._io import IO, Asyncio, Blocking, Threaded, drive
from embed_core._model import Model
from embed_core._progress import progress
from embed_core._search import Doubt
from embed_core._state import Places, State
from embed_core._tracked import IN_HOOK
from embed_core._types import Embedding, Kind, Next, OnError, Progress, Request, Vectors
from embed_core.errors import ConfigurationError, EmbedError
from embed_core.instrumentation import CallbackManager, Handler, Listeners, SpanHandler, dispatcher
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
from embed_core.middleware.retried import Retried
from embed_core.middleware.traced import Traced
from embed_core.middleware.validated import Validated, collect
from embed_core.middleware.weighed import Estimate, Weighed

_BLOCK = 4  # batches per worker in one block of a stream: enough that workers seldom wait for each other


def _way(model: Model, state: State, io: IO, cache: Cache | None, places: Places | None) -> Any:
    """Return everything that happens between the caller and the hook; the outermost middleware comes first.

    It is made anew for each call, so nothing that the model keeps holds the model; the inner half only where something
    has to be sent.
    """

    def send(request: Request) -> Any:
        inner = _sending(model, state, cache, model._places() if places is None else places)
        return _through(inner, partial(_provide, model, state, io, cache), io)(request)

    listeners = partial(_event_handlers, model.callback_manager)
    outer = (
        Traced(model.model_name, listeners, partial(_span_handlers, model.callback_manager)),
        _settled,
        *_before_sending(model, state, cache, listeners),
    )
    return _through(outer, send, io)


def _before_sending(model: Model, state: State, cache: Cache | None, listeners: Listeners) -> Sequence[Any]:
    """Return the middleware of a call up to the inputs that the cache does not hold: a result for every row."""
    return (
        Validated(model.accepts_blank, model._image_loader, model.num_workers),
        Fitted(
            *(model.long_text, model._input_limit, model._windows, state.normalizes, state.limits, state.warned),
            model._sure_room,
        ),
        *(() if cache is None else (Recalled(cache, model.model_name, listeners),)),
    )


def _sending(model: Model, state: State, cache: Cache | None, places: Places) -> Sequence[Any]:
    """Return the middleware that sends the missing inputs, in batches."""
    limiter, doubt = None if places.limits else model.rate_limiter, Doubt()
    return (
        # still of the call
        *places.missing,
        Batched(model._plan, model.num_workers, doubt.late),
        *(() if cache is None else (Joined(cache, state.in_flight), Remembered(cache))),
        Isolated(model._plan, doubt),
        # of one attempt at one batch: vectors, or it raises
        *places.batch,
        Instrumented(model.model_name, model._origin, partial(_event_handlers, model.callback_manager)),
        Retried(model.retry),
        *(() if limiter is None else (RateLimited(limiter, model._count_tokens, model._count_requests),)),
        Checked(model.model_name, model._rows, state.dimension, model._masking),
        *model.middlewares,
        *places.attempt,
    )


def _through(middleware: Sequence[Any], innermost: Any, io: IO) -> Any:
    next_ = innermost
    for one in reversed(middleware):
        next_ = partial(_step, one, next_, io)
    return next_


async def run(
    model: Model,
    io: IO,
    kind: Kind,
    inputs: Iterable[Any],
    *,
    show_progress: bool | Progress = False,
    indices: Sequence[int] | None = None,
    keep_going: bool = False,
    cache: KVStore | None = None,
    places: Places | None = None,
) -> Vectors:
    """Embed inputs of one kind in the caller's colour; every other function here ends in this one.

    Args:
        model: its fields and hooks decide the middleware.
        io: the caller's colour.
        kind: the kind of all inputs.
        inputs: any number of them.
        show_progress: whether a bar is shown, or the bar of a stream.
        indices: the positions of the inputs for messages, where they are a part of something.
        keep_going: whether other inputs are embedded when one has failed.
        cache: a store in place of the model's own.
        places: middleware in place of the integration's own.
    """
    collected = collect(kind, inputs)
    if not collected:
        return np.empty((0, (await io.call(model._learned)).dimension.known or 0), dtype=np.float32)
    store = model.embeddings_cache if cache is None else cache
    state = model._state  # once: pydantic finds private attributes slowly
    if state is None or not state.is_ready(cached=store is not None):
        state = await io.call(partial(model._begun, fingerprint=store is not None))
    kept = None if store is None else state.cache(store, model._rows)
    next_ = _way(model, state, io, kept, places)
    indices = range(len(collected)) if indices is None else indices
    bar = progress(kind, len(collected), show=show_progress)
    try:
        vectors: Vectors = await next_(Request(kind, collected, indices, indices, keep_going=keep_going, progress=bar))
    finally:
        bar.close()
    return vectors


def embed(
    model: Model,
    kind: Kind,
    inputs: Iterable[Any],
    *,
    cache: KVStore | None = None,
    places: Places | None = None,
    show_progress: bool = False,
) -> Vectors:
    """Embed inputs of one kind; return an array with one row for each, in input order.

    For integrations and tools: users have the methods of a model.

    Args:
        model: any model, dense or sparse.
        kind: the kind of all inputs.
        inputs: any number of them.
        cache: a store to use in place of the model's own.
        places: middleware in place of the integration's own, as a batch job has.
        show_progress: whether to show a bar.
    """
    return drive(run(model, runner(model), kind, inputs, cache=cache, places=places, show_progress=show_progress))


async def aembed(
    model: Model,
    kind: Kind,
    inputs: Iterable[Any],
    *,
    cache: KVStore | None = None,
    places: Places | None = None,
    show_progress: bool = False,
) -> Vectors:
    """Embed inputs of one kind; see `embed`."""
    return await run(model, Asyncio(), kind, inputs, cache=cache, places=places, show_progress=show_progress)


async def weigh(model: Model, io: IO, kind: Kind, inputs: Iterable[Any], *, cache: KVStore | None = None) -> Estimate:
    """Return the cost of embedding inputs, by the way they would go; nothing is sent."""
    collected = collect(kind, inputs)
    store = model.embeddings_cache if cache is None else cache
    state = await io.call(partial(model._learned, fingerprint=store is not None))
    kept = None if store is None else state.cache(store, model._rows)
    weighed = Weighed(model._count_tokens, lambda: state.limits.get(kind) if model.long_text == "truncate" else None)
    indices = range(len(collected))
    request = Request(kind, collected, indices, ids=indices)
    if collected:
        result = await _through((*_before_sending(model, state, kept, lambda: ()), weighed), None, io)(request)
        if result.failed:
            result.settled(request)
    return weighed.estimate(len(collected), model._price_per_million_tokens())


def estimate(model: Model, kind: Kind, inputs: Iterable[Any], *, cache: KVStore | None = None) -> Estimate:
    """Return the cost of embedding inputs of one kind, with a store in place of the model's own; nothing is sent."""
    return drive(weigh(model, runner(model), kind, inputs, cache=cache))


def cache_of(model: Model, store: KVStore) -> Cache:
    """Return the vectors of a model's configuration in a store."""
    return model._learned(fingerprint=True).cache(store, model._rows)


async def array(
    model: Model, io: IO, kind: Kind, inputs: Iterable[Any], *, show_progress: bool, on_error: OnError
) -> Vectors:
    """Embed inputs for a method that returns an array.

    Raises:
        ConfigurationError: `on_error` is "none", for which an array has no place.
    """
    if _keeps_going(on_error):
        msg = f"an array has no place for `None`; use `get_{kind}_embedding_batch` for `on_error='none'`"
        raise ConfigurationError(msg)
    return await run(model, io, kind, inputs, show_progress=show_progress)


async def lists(
    model: Model, io: IO, kind: Kind, inputs: Iterable[Any], *, show_progress: bool, on_error: OnError
) -> list[Any]:
    """Embed inputs for a method that returns lists, with None for a failed input where `on_error` is "none"."""
    collected, keep_going = collect(kind, inputs), _keeps_going(on_error)
    try:
        vectors = await run(model, io, kind, collected, show_progress=show_progress, keep_going=keep_going)
    except EmbedError as error:
        if not (keep_going and error.failed):
            raise
        done = error.completed
        return [done[index].tolist() if index in done else None for index in range(len(collected))]
    embeddings: list[Embedding] = vectors.tolist()
    return embeddings


def only(vectors: Vectors) -> Embedding:
    """Return the one vector there is as a list."""
    embedding: Embedding = vectors[0].tolist()
    return embedding


def runner(model: Model) -> IO:
    """Return the way in which a sync caller's batches run."""
    return Threaded() if model.io_bound and model.num_workers > 1 else Blocking()


def block_size(model: Model) -> int:
    """Return how many inputs of a stream are embedded at a time."""
    return model.embed_batch_size * model.num_workers * _BLOCK


async def _provide(model: Model, state: State, io: IO, cache: Cache | None, request: Request) -> Any:
    """Make the provider call: the hook for the kind, in the caller's colour.

    Raises:
        ConfigurationError: a collection in a field was changed since the call began, and there is a cache, which would
            keep the vectors under the key of the former configuration.
    """
    inputs = list(request.inputs)
    if request.kind == "image":
        inputs = await io.call(lambda: open_batch(request.inputs))
    sync = getattr(model, f"_get_{request.kind}_embeddings")
    async_ = getattr(model, f"_aget_{request.kind}_embeddings")
    outside = IN_HOOK.set(state.changes)
    try:
        answer = await io.call(lambda: sync(inputs), lambda: async_(inputs))
    finally:
        IN_HOOK.reset(outside)
    if cache is not None and state.is_stale() and model._learned(fingerprint=True).fingerprint != state.fingerprint:
        msg = (
            f"a field of `{model.model_name}` was changed in place while it embedded, so its vectors belong to no one "
            "configuration; call it again, or mark the field `OPERATIONAL` if it decides no vector"
        )
        raise ConfigurationError(msg)
    return answer


async def _settled(request: Request, next_: Any, _: IO) -> Vectors:
    vectors: Vectors = (await next_(request)).settled(request)
    return vectors


def _step(one: Any, next_: Next, io: IO, request: Request) -> Awaitable[Vectors]:
    answer: Awaitable[Vectors] = one(request, next_, io)
    return answer


def _event_handlers(mine: CallbackManager | None) -> Sequence[Handler]:
    return dispatcher.event_handlers if mine is None else (*dispatcher.event_handlers, *mine.event_handlers)


def _span_handlers(mine: CallbackManager | None) -> Sequence[SpanHandler]:
    return dispatcher.span_handlers if mine is None else (*dispatcher.span_handlers, *mine.span_handlers)


def _keeps_going(on_error: OnError) -> bool:
    if on_error not in {"raise", "none"}:
        msg = f"`on_error` is {on_error!r}; it must be 'raise' or 'none'"
        raise ConfigurationError(msg)
    return on_error == "none"
