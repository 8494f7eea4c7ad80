"""The handlers of one model, LlamaIndex's callback handlers among them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from embed_core._io import Blocking, drive
from embed_core.errors import ConfigurationError
from embed_core.instrumentation.dispatcher import Dispatcher, Handler, emit
from embed_core.instrumentation.events import (
    EmbeddingEndEvent,
    EmbeddingErrorEvent,
    EmbeddingEvent,
    EmbeddingStartEvent,
    new_id,
)

T = TypeVar("T")

_ROOT = "root"  # the parent of an event that has no other


class CBEventType(StrEnum):
    """The types of callback events; names and values are LlamaIndex's, so members compare equal to its own."""

    EMBEDDING = "embedding"
    EXCEPTION = "exception"


class EventPayload(StrEnum):
    """The keys of a payload; names and values are LlamaIndex's."""

    CHUNKS = "chunks"
    EMBEDDINGS = "embeddings"
    EXCEPTION = "exception"
    SERIALIZED = "serialized"


@dataclass(frozen=True, slots=True)
class _CallbackEvent:
    event_type: str
    payload: Mapping[str, Any]
    id: str
    parent_id: str = _ROOT


@dataclass(frozen=True, slots=True)
class _Trace:
    id: str
    manager: CallbackManager
    children: dict[str, dict[str, None]] = field(default_factory=dict)
    errors: list[BaseException] = field(default_factory=list)


_trace: ContextVar[_Trace | None] = ContextVar("embed_core_trace", default=None)


class CallbackManager(Dispatcher):
    """The handlers of one model, or of several that share it.

    Takes event handlers, span handlers, and LlamaIndex's callback handlers, which receive the same events in its form:
    objects with `on_event_start(event_type, payload, event_id, parent_id)`, `on_event_end(event_type, payload,
    event_id)`, `start_trace(trace_id)` and `end_trace(trace_id, trace_map)`, which may be coroutine functions.
    """

    def on_event_start(
        self,
        event_type: str,
        payload: Mapping[str, Any] | None = None,
        event_id: str | None = None,
        parent_id: str | None = None,
    ) -> str:
        """Send the start of an event of your own to the callback handlers; return its id."""
        event = _CallbackEvent(event_type, payload or {}, event_id or new_id(), parent_id or _ROOT)
        _send(event, [callback.start for callback in self._callbacks()])
        return event.id

    def on_event_end(
        self, event_type: str, payload: Mapping[str, Any] | None = None, event_id: str | None = None
    ) -> None:
        """Send the end of an event of your own to the callback handlers."""
        event = _CallbackEvent(event_type, payload or {}, event_id or new_id())
        _send(event, [callback.end for callback in self._callbacks()])

    @contextmanager
    def as_trace(self, trace_id: str) -> Iterator[None]:
        """Group all events of a block into one trace; inside another trace of this manager, into that one."""
        outer = _trace.get()
        if outer is not None and outer.manager is self:
            yield
            return
        trace, callbacks = _Trace(trace_id, self), self._callbacks()
        token = _trace.set(trace)
        _send(trace, [callback.start_trace for callback in callbacks])
        try:
            yield
        except Exception as error:
            if not {error, error.__cause__}.intersection(trace.errors):
                self.on_event_start(CBEventType.EXCEPTION, {EventPayload.EXCEPTION: error})
            raise
        finally:
            _trace.reset(token)
            _send(trace, [callback.end_trace for callback in callbacks])

    def _event_handler(self, handler: Any) -> Handler | None:
        if hasattr(handler, "on_event_start") and hasattr(handler, "on_event_end"):
            return _Callback(self, handler)
        return super()._event_handler(handler)

    def _callbacks(self) -> list[_Callback]:
        return [handler for handler in self.event_handlers if isinstance(handler, _Callback)]


def _send(record: T, handlers: Iterable[Callable[[T], Any]]) -> None:
    drive(emit(record, handlers, Blocking()))


@dataclass(frozen=True, slots=True)
class _Callback:
    """An event handler that calls a callback handler; returns the result, which may be awaitable."""

    manager: CallbackManager
    handler: Any

    def __call__(self, event: EmbeddingEvent) -> Any:
        match event:
            case EmbeddingStartEvent():
                return self.start(_of_embedding(event, {EventPayload.SERIALIZED: _describe(event)}))
            case EmbeddingEndEvent():
                chunks, vectors = list(event.chunks), event.embeddings.tolist()
                return self.end(_of_embedding(event, {EventPayload.CHUNKS: chunks, EventPayload.EMBEDDINGS: vectors}))
            case EmbeddingErrorEvent():
                if (trace := self._own_trace()) is not None:
                    trace.errors.append(event.error)
                return self.end(_of_embedding(event, {EventPayload.EXCEPTION: event.error}))
        return None

    def start(self, event: _CallbackEvent) -> Any:
        if (trace := self._own_trace()) is not None:
            trace.children.setdefault(event.parent_id, {})[event.id] = None
        if event.event_type in getattr(self.handler, "event_starts_to_ignore", ()):
            return None
        payload = dict(event.payload)
        return self.handler.on_event_start(event.event_type, payload, event_id=event.id, parent_id=event.parent_id)

    def end(self, event: _CallbackEvent) -> Any:
        if event.event_type in getattr(self.handler, "event_ends_to_ignore", ()):
            return None
        return self.handler.on_event_end(event.event_type, dict(event.payload), event_id=event.id)

    def start_trace(self, trace: _Trace) -> Any:
        return self.handler.start_trace(trace_id=trace.id)

    def end_trace(self, trace: _Trace) -> Any:
        # LlamaIndex's own handlers look up events without children too.
        ids = defaultdict(list, {parent: list(children) for parent, children in trace.children.items()})
        return self.handler.end_trace(trace_id=trace.id, trace_map=ids)

    def _own_trace(self) -> _Trace | None:
        trace = _trace.get()
        return trace if trace is not None and trace.manager is self.manager else None


def _of_embedding(event: EmbeddingEvent, payload: dict[str, Any]) -> _CallbackEvent:
    return _CallbackEvent(CBEventType.EMBEDDING, payload, event.id)


def _describe(event: EmbeddingStartEvent) -> dict[str, Any]:
    try:
        return dict(event.origin.describe())
    except ConfigurationError:  # a model with a field that is no plain data
        return {"model_name": event.model}
