"""Events of provider calls, spans of users' calls, and their handlers.

`dispatcher.add_handler(handler)` attaches a handler to every model in the process; a model's
`callback_manager=CallbackManager([handler])` to that model alone. `embed_core.instrumentation.otel` has the handler for
OpenTelemetry.
"""

from embed_core.instrumentation.callbacks import CallbackManager, CBEventType, EventPayload
from embed_core.instrumentation.dispatcher import Dispatcher, Handler, Listeners, SpanHandler, dispatcher, emit
from embed_core.instrumentation.events import (
    EmbeddingCacheEvent,
    EmbeddingEndEvent,
    EmbeddingErrorEvent,
    EmbeddingEvent,
    EmbeddingStartEvent,
    Span,
)
from embed_core.instrumentation.token_counting import TokenCount, TokenCountingHandler

__all__ = [
    "CBEventType",
    "CallbackManager",
    "Dispatcher",
    "EmbeddingCacheEvent",
    "EmbeddingEndEvent",
    "EmbeddingErrorEvent",
    "EmbeddingEvent",
    "EmbeddingStartEvent",
    "EventPayload",
    "Handler",
    "Listeners",
    "Span",
    "SpanHandler",
    "TokenCount",
    "TokenCountingHandler",
    "dispatcher",
    "emit",
]
