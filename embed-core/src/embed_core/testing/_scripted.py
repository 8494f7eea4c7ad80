"""A provider that misbehaves on command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import Field

from embed_core import OPERATIONAL, Kind, MockEmbedding, Vectors


@dataclass(frozen=True, slots=True)
class Turn:
    """One provider call, as a script sees it.

    Attributes:
        number: 0 for the first call of the model, then 1, 2, …
        inputs: the batch.
        vectors: the answer of an honest provider: float32 of shape (len(inputs), dimension), in input order.
    """

    number: int
    kind: Kind
    inputs: Sequence[Any]
    vectors: Vectors


Script: TypeAlias = Callable[[Turn], Any]
"""Stands for the hook: returns its answer, or raises its error."""


def honest(turn: Turn) -> Vectors:
    """Answer as a good provider does."""
    return turn.vectors


class ScriptedEmbedding(MockEmbedding):
    """A `MockEmbedding` whose answers pass through a script, and whose sync callers get threads.

    Example:
        >>> model = ScriptedEmbedding(script=lambda turn: turn.vectors[:-1])
        >>> model.embed_texts(["one", "two"])
        Traceback (most recent call last):
        embed_core.errors.EmbeddingIntegrityError: `mock` answered 0 vectors for 1 inputs, which is not used; ...
    """

    provider: ClassVar[str | None] = "scripted"
    io_bound: ClassVar[bool] = True

    script: Annotated[Script, OPERATIONAL] = Field(default=honest, exclude=True, repr=False)

    def _answer(self, kind: Kind, inputs: Sequence[Any], contents: Sequence[bytes]) -> Any:
        with self._counting:
            number = self.call_count
            vectors = super()._answer(kind, inputs, contents)
        return self.script(Turn(number, kind, inputs, vectors))
