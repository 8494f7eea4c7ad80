"""Handlers that hear one model, in our words or in LlamaIndex's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeAlias, cast

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

BASE_TRACE_EVENT = "root"
"""The parent of what has no other."""


class CBEventType(StrEnum):
    """What a callback is about; names and values are LlamaIndex's, so members compare equal to its own."""

    EMBEDDING = "embedding"
    EXCEPTION = "exception"


class EventPayload(StrEnum):
    """The keys of a payload; names and values are LlamaIndex's."""

    CHUNKS = "chunks"
    EMBEDDINGS = "embeddings"
    EXCEPTION = "exception"
    SERIALIZED = "serialized"


class CallbackHandler(Protocol):
    """A handler in LlamaIndex's words; its own handlers are ones. All four methods may be coroutine functions."""

    def on_event_start(
        self, event_type: CBEventType, payload: dict[str, Any] | None = None, event_id: str = "", parent_id: str = ""
    ) -> Any:
        """Hear that something begins."""
        ...

    def on_event_end(self, event_type: CBEventType, payload: dict[str, Any] | None = None, event_id: str = "") -> Any:
        """Hear that it has ended, with chunks and embeddings or with an exception."""
        ...

    def start_trace(self, trace_id: str | None = None) -> Any:
        """Hear that a trace begins."""
        ...

    def end_trace(self, trace_id: str | None = None, trace_map: dict[str, list[str]] | None = None) -> Any:
        """Hear that a trace has ended; the map has the ids of its events by parent."""
        ...


@dataclass(frozen=True, slots=True)
class _Trace:
    manager: CallbackManager
    children: dict[str, dict[str, None]] = field(default_factory=dict)
    errors: list[BaseException] = field(default_factory=list)


_trace: ContextVar[_Trace | None] = ContextVar("embed_core_trace", default=None)


class CallbackManager(Dispatcher):
    """The handlers of one model, or of several that share it.

    Takes event handlers, span handlers, and handlers with `on_event_start` and `on_event_end`, which are told the same
    events in LlamaIndex's words.
    """

    def on_event_start(
        self,
        event_type: str,
        payload: Mapping[str, Any] | None = None,
        event_id: str | None = None,
        parent_id: str | None = None,
    ) -> str:
        """Tell the callback handlers that something of your own begins; return its id."""
        id_ = event_id or new_id()
        drive(
            emit(_Begun(event_type, payload or {}, id_, parent_id or BASE_TRACE_EVENT), self._callbacks(), Blocking())
        )
        return id_

    def on_event_end(
        self, event_type: str, payload: Mapping[str, Any] | None = None, event_id: str | None = None
    ) -> None:
        """Tell the callback handlers that something of your own has ended."""
        drive(emit(_Ended(event_type, payload or {}, event_id or new_id()), self._callbacks(), Blocking()))

    @contextmanager
    def as_trace(self, trace_id: str) -> Iterator[None]:
        """Let the callback handlers see all events of a block as one trace; inside another trace, as part of it."""
        outer = _trace.get()
        if outer is not None and outer.manager is self:
            yield
            return
        trace, callbacks = _Trace(self), self._callbacks()
        token = _trace.set(trace)
        drive(emit(_TraceBegun(trace_id), callbacks, Blocking()))
        try:
            yield
        except Exception as error:
            if not {error, error.__cause__}.intersection(trace.errors):
                self.on_event_start(CBEventType.EXCEPTION, {EventPayload.EXCEPTION: error})
            raise
        finally:
            _trace.reset(token)
            drive(emit(_TraceEnded(trace_id, trace.children), callbacks, Blocking()))

    def _event_handler(self, handler: Any) -> Handler | None:
        if hasattr(handler, "on_event_start") and hasattr(handler, "on_event_end"):
            return _Translated(self, handler)
        return super()._event_handler(handler)

    def _callbacks(self) -> list[_Translated]:
        return [one for one in self.event_handlers if isinstance(one, _Translated)]


@dataclass(frozen=True, slots=True)
class _Begun:
    event_type: str
    payload: Mapping[str, Any]
    id: str
    parent_id: str


@dataclass(frozen=True, slots=True)
class _Ended:
    event_type: str
    payload: Mapping[str, Any]
    id: str


@dataclass(frozen=True, slots=True)
class _TraceBegun:
    id: str


@dataclass(frozen=True, slots=True)
class _TraceEnded:
    id: str
    children: Mapping[str, Iterable[str]]


_Record: TypeAlias = EmbeddingEvent | _Begun | _Ended | _TraceBegun | _TraceEnded


@dataclass(frozen=True, slots=True)
class _Translated:
    """Tells a callback handler our events in LlamaIndex's words."""

    manager: CallbackManager
    handler: CallbackHandler

    def __call__(self, event: _Record) -> Any:
        """Return what the handler returns, which may be awaitable."""
        match event:
            case EmbeddingStartEvent():
                return self._start(_Begun(CBEventType.EMBEDDING, _question(event), event.id, BASE_TRACE_EVENT))
            case EmbeddingEndEvent():
                return self._end(_Ended(CBEventType.EMBEDDING, _answer(event), event.id))
            case EmbeddingErrorEvent():
                self._remember(event.error)
                return self._end(_Ended(CBEventType.EMBEDDING, {EventPayload.EXCEPTION: event.error}, event.id))
            case _Begun():
                return self._start(event)
            case _Ended():
                return self._end(event)
            case _TraceBegun():
                return self.handler.start_trace(trace_id=event.id)
            case _TraceEnded():
                # LlamaIndex's own handlers look up events without children too.
                ids = defaultdict(list, {parent: list(children) for parent, children in event.children.items()})
                return self.handler.end_trace(trace_id=event.id, trace_map=ids)
        return None

    def _start(self, begun: _Begun) -> Any:
        if (trace := self._mine()) is not None:
            trace.children.setdefault(begun.parent_id, {})[begun.id] = None
        if begun.event_type in getattr(self.handler, "event_starts_to_ignore", ()):
            return None
        type_, payload = cast("CBEventType", begun.event_type), dict(begun.payload)
        return self.handler.on_event_start(type_, payload, event_id=begun.id, parent_id=begun.parent_id)

    def _end(self, ended: _Ended) -> Any:
        if ended.event_type in getattr(self.handler, "event_ends_to_ignore", ()):
            return None
        return self.handler.on_event_end(cast("CBEventType", ended.event_type), dict(ended.payload), event_id=ended.id)

    def _remember(self, error: BaseException) -> None:
        if (trace := self._mine()) is not None:
            trace.errors.append(error)

    def _mine(self) -> _Trace | None:
        trace = _trace.get()
        return trace if trace is not None and trace.manager is self.manager else None


def _question(event: EmbeddingStartEvent) -> dict[str, Any]:
    try:
        return {EventPayload.SERIALIZED: dict(event.origin.describe())}
    except ConfigurationError:  # a model with a field that is no plain data
        return {EventPayload.SERIALIZED: {"model_name": event.model}}


def _answer(event: EmbeddingEndEvent) -> dict[str, Any]:
    return {EventPayload.CHUNKS: list(event.chunks), EventPayload.EMBEDDINGS: event.embeddings.tolist()}
