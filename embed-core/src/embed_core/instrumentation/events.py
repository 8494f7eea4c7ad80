"""The event records: frozen, one pair per provider call, one cache summary per user call."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from embed_core._types import Kind, Report, Vectors


def _new_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingEvent:
    """What every event says.

    Attributes:
        id: correlates the start of a provider call with its end or error.
        kind: what the inputs are.
        model: the model's name.
        timestamp: seconds since the epoch.
    """

    kind: Kind
    model: str
    id: str = field(default_factory=_new_id)
    timestamp: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingStartEvent(EmbeddingEvent):
    """A provider call is about to be made, with these inputs."""

    chunks: Sequence[Any]

    @property
    def batch_size(self) -> int:
        """The number of inputs in the call."""
        return len(self.chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finished(EmbeddingEvent):
    chunks: Sequence[Any]
    duration: float
    attempts: int
    usage: Mapping[str, int] | None
    truncated: int

    @property
    def batch_size(self) -> int:
        """The number of inputs in the call."""
        return len(self.chunks)

    @classmethod
    def after(cls, start: EmbeddingStartEvent, duration: float, report: Report, **more: Any) -> Self:
        """Return the event that closes `start`."""
        told: dict[str, Any] = {"usage": report.usage, "truncated": report.truncated}
        return cls(
            id=start.id,
            kind=start.kind,
            model=start.model,
            chunks=start.chunks,
            duration=duration,
            attempts=report.attempts,
            **(told | more),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingEndEvent(_Finished):
    """A provider call gave these vectors.

    Attributes:
        embeddings: float32 array of shape (batch_size, dimension); do not write to it.
        duration: seconds, retries and waiting for the rate limiter included.
        usage: the provider's own account, for example `{"tokens": 12}`; None where it gave none.
        truncated: how many inputs were cut to the model's length.
    """

    embeddings: Vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingErrorEvent(_Finished):
    """A provider call failed for good, after `attempts` attempts."""

    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCacheEvent(EmbeddingEvent):
    """How many inputs of one user call the cache held."""

    hits: int
    misses: int
