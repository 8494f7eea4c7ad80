"""Events about provider calls, and who hears them."""

from embed_core.instrumentation.callbacks import CallbackManager
from embed_core.instrumentation.dispatcher import Dispatcher, Listeners, dispatcher, emit
from embed_core.instrumentation.events import (
    EmbeddingCacheEvent,
    EmbeddingEndEvent,
    EmbeddingErrorEvent,
    EmbeddingEvent,
    EmbeddingStartEvent,
)

__all__ = [
    "CallbackManager",
    "Dispatcher",
    "EmbeddingCacheEvent",
    "EmbeddingEndEvent",
    "EmbeddingErrorEvent",
    "EmbeddingEvent",
    "EmbeddingStartEvent",
    "Listeners",
    "dispatcher",
    "emit",
]
