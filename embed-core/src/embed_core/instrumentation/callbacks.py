"""Handlers that hear the events of one model."""

from __future__ import annotations

from embed_core.instrumentation.dispatcher import Dispatcher


class CallbackManager(Dispatcher):
    """The handlers of one model, or of several that share it."""
