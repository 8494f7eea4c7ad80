"""The frozen records: a pair of events per provider call, a cache summary and a span per user call."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from embed_core._types import Kind, Origin, Report, Vectors

_TOKENS = ("tokens", "prompt_tokens", "input_tokens", "total_tokens")


def new_id() -> str:
    """Return a new id of 32 hexadecimal digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A user's call, at its start or its end: for a single text, a batch, or a block of a stream.

    Attributes:
        id: the `call_id` of the events inside it.
        size: the number of inputs.
        timestamp: seconds since the epoch, at the start.
        duration: seconds; None at the start.
        error: the exception that ended the call; None at the start.
    """

    kind: Kind
    model: str
    size: int
    id: str = field(default_factory=new_id)
    timestamp: float = field(default_factory=time.time)
    duration: float | None = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingEvent:
    """The base of all events.

    Attributes:
        id: correlates the start of a provider call with its end or error.
        kind: the kind of the inputs.
        model: the model's name.
        call_id: the id of the user's call that the event is part of.
        timestamp: seconds since the epoch.
    """

    kind: Kind
    model: str
    call_id: str | None = None
    id: str = field(default_factory=new_id)
    timestamp: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ProviderCall(EmbeddingEvent):
    chunks: Sequence[Any]
    origin: Origin = field(default_factory=Origin)

    @property
    def batch_size(self) -> int:
        """The number of inputs in the call."""
        return len(self.chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingStartEvent(_ProviderCall):
    """A provider call is about to be made, with these inputs.

    Attributes:
        chunks: the inputs; images are opaque.
        origin: the provider and its address.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finished(_ProviderCall):
    duration: float
    attempts: int
    usage: Mapping[str, int] | None
    truncated: int
    response_model: str | None = None

    @classmethod
    def after(cls, start: EmbeddingStartEvent, duration: float, report: Report, **more: Any) -> Self:
        """Return the event that belongs to `start`; `more` are its other fields, and win over the report."""
        truncated = more.pop("truncated", report.truncated)
        return cls(
            id=start.id,
            call_id=start.call_id,
            kind=start.kind,
            model=start.model,
            chunks=start.chunks,
            origin=start.origin,
            duration=duration,
            attempts=report.attempts,
            usage=report.usage,
            truncated=truncated,
            response_model=report.model,
            **more,
        )

    @property
    def tokens(self) -> int | None:
        """The number of tokens that the provider counted; None where it reported none."""
        usage = self.usage or {}
        return next((usage[name] for name in _TOKENS if usage.get(name) is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingEndEvent(_Finished):
    """A provider call returned these vectors.

    Attributes:
        embeddings: float32 array of shape (batch_size, dimension); do not write to it.
        duration: seconds, retries and waiting for the rate limiter included.
        attempts: the number of attempts.
        usage: the provider's own account, for example `{"tokens": 12}`; None where it reported none.
        truncated: the number of inputs that were cut to the model's length.
        response_model: the model that answered, where the provider names it.
    """

    embeddings: Vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingErrorEvent(_Finished):
    """A provider call failed for good, after `attempts` attempts."""

    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCacheEvent(EmbeddingEvent):
    """The cache's hits and misses among the inputs of one user call."""

    hits: int
    misses: int
