"""A handler that counts tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from embed_core._types import Kind
from embed_core.forks import Lock
from embed_core.instrumentation.events import EmbeddingEndEvent, EmbeddingEvent

_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class TokenCount:
    """The tokens of one provider call.

    Attributes:
        event_id: the id of the call's events.
        reported: whether the provider counted them; otherwise the handler did.
    """

    event_id: str
    kind: Kind
    model: str
    tokens: int
    reported: bool


class TokenCountingHandler:
    """Adds up the tokens of finished provider calls.

    The provider's own count comes first. Where it reports none, the given tokenizer counts the texts; without a
    tokenizer the model counts them, which may be an estimate.
    """

    def __init__(self, tokenizer: Callable[[str], Sequence[Any]] | None = None) -> None:
        """Take a function that returns the tokens of a text, of any type."""
        self._tokenizer = tokenizer
        self._lock = Lock()
        self.reset_counts()

    def __call__(self, event: EmbeddingEvent) -> None:
        """Count the tokens of a provider call that succeeded."""
        if not isinstance(event, EmbeddingEndEvent):
            return
        tokens = self._counted(event) if event.tokens is None else event.tokens
        count = TokenCount(event.id, event.kind, event.model, tokens, reported=event.tokens is not None)
        with self._lock:
            self._counts.append(count)
            self._total += tokens

    @property
    def total_embedding_token_count(self) -> int:
        """All tokens since the last reset."""
        return self._total

    @property
    def embedding_token_counts(self) -> list[TokenCount]:
        """The last thousand provider calls, oldest first."""
        with self._lock:
            return list(self._counts)

    def reset_counts(self) -> None:
        """Count from zero again."""
        with self._lock:
            self._counts: deque[TokenCount] = deque(maxlen=_REMEMBERED)
            self._total = 0

    def _counted(self, event: EmbeddingEndEvent) -> int:
        if self._tokenizer is not None:
            return sum(len(self._tokenizer(chunk)) for chunk in event.chunks if isinstance(chunk, str))
        return 0 if event.origin.count_tokens is None else event.origin.count_tokens(event.chunks)
