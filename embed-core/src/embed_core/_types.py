"""The words that every room of the house speaks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import IO, Any, Final, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Kind: TypeAlias = Literal["query", "text", "image"]
"""The kind of an input: a search query, a document or passage, or an image."""

Embedding: TypeAlias = list[float]
"""One vector, as the LlamaIndex-style methods return it."""

Vectors: TypeAlias = NDArray[np.float32]
"""One embedding per row: a C-contiguous float32 array of shape (n, dimension)."""

ImageType: TypeAlias = str | bytes | PathLike[str] | IO[bytes]
"""An image as a hook written for LlamaIndex annotates it; the engine hands a `BytesIO` to every hook."""

DEFAULT_EMBED_BATCH_SIZE: Final = 32
"""How many inputs one provider call has at most where nothing else is said; LlamaIndex's own default is 10."""

OnError: TypeAlias = Literal["raise", "none"]
"""The answer of a batch method to failed inputs: raise, or leave `None` in their place."""

LongText: TypeAlias = Literal["truncate", "error", "mean"]
"""The policy for a text longer than the model takes."""


class _Operational:
    def __repr__(self) -> str:
        return "OPERATIONAL"


OPERATIONAL: Final = _Operational()
"""Marks a field that decides how vectors are fetched, not which: `timeout: Annotated[float, OPERATIONAL] = 60.0`.

Every field without it is part of the space, so a forgotten mark costs cache misses, never a wrong vector.
"""


@dataclass(frozen=True, slots=True)
class ProviderResponse:
    """A hook's return value where it knows more than bare vectors.

    Attributes:
        vectors: one per input, as nested lists or an array of shape (n, dimension).
        indices: the position, within the batch, of the input that each vector belongs to; None means input order.
        usage: the provider's own account, for example `{"tokens": 12}`.
        truncated: how many inputs of the batch were cut to the model's length.
        model: the model that answered, where the provider says so.
    """

    vectors: Any
    indices: Sequence[int] | None = None
    usage: Mapping[str, int] | None = None
    truncated: int = 0
    model: str | None = None


Answer: TypeAlias = Sequence[float] | NDArray[Any] | Mapping[int, float] | tuple[Any, Any]
"""A hook's return value for one input; of a sparse model a mapping of index to value, or a pair of both."""

Answers: TypeAlias = Sequence[Answer] | NDArray[Any] | ProviderResponse
"""A hook's return value for a batch."""


@dataclass(slots=True)
class Report:
    """The facts about one provider call beside its vectors; filled in on the way back."""

    attempts: int = 0
    usage: Mapping[str, int] | None = None
    truncated: int = 0
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where vectors come from, as events tell it.

    Attributes:
        provider: a name as OpenTelemetry's `gen_ai.provider.name` has them: "openai", "azure.ai.openai", your own.
        address: the host name of the service; None where there is none.
        port: its port.
        encoding_formats: the encodings of vectors that it is asked for, such as "base64".
        describe: returns the model's configuration as JSON types, without secrets.
        count_tokens: counts the tokens of inputs, or estimates them where there is no tokenizer.
    """

    provider: str = "unknown"
    address: str | None = None
    port: int | None = None
    encoding_formats: tuple[str, ...] = ()
    describe: Callable[[], Mapping[str, Any]] = field(default=dict, repr=False, compare=False)
    count_tokens: Callable[[Sequence[Any]], int] | None = field(default=None, repr=False, compare=False)


class Progress:
    """Counts inputs that are done; this one shows nothing."""

    def advance(self, count: int) -> None:
        """Count `count` more inputs as done."""

    def skip(self, count: int) -> None:
        """Count `count` more inputs as done that nothing was sent for: they do not count as speed."""
        self.advance(count)

    def extend(self, count: int) -> None:
        """Expect `count` inputs more than were announced."""

    def note(self, words: str) -> None:
        """Say what is waited for; nothing any more where there are no words."""

    def close(self) -> None:
        """Stop to show anything."""


@dataclass(frozen=True, slots=True)
class Request:
    """A list of inputs of one kind on its way to the provider.

    Attributes:
        indices: the position of each input in the caller's list, for messages.
        ids: tells the inputs of a call apart, where several are windows of one text; else the same as `indices`.
        cut: the ids of inputs shortened to the model's length on the way.
        keep_going: whether other inputs are embedded after one has failed.
        call_id: tells the user's calls apart in events; None while nobody listens.
        keys: the cache key of each input; none where there is no cache.
        outlived: the likeness of an error that outlived its retries in a larger batch, so that it is not retried.
    """

    kind: Kind
    inputs: Sequence[Any]
    indices: Sequence[int]
    ids: Sequence[int]
    cut: frozenset[int] = frozenset()
    keep_going: bool = False
    call_id: str | None = None
    keys: Sequence[bytes] = ()
    outlived: Hashable = None
    progress: Progress = field(default_factory=Progress)
    report: Report = field(default_factory=Report)

    @property
    def truncated(self) -> int:
        """How many inputs were cut to the model's length, on the way or, once it has answered, by the model."""
        return self.report.truncated + len(self.cut.intersection(self.ids))

    def pick(self, rows: Sequence[int]) -> Request:
        """Return the request for some rows of this one."""
        inputs, indices, ids, keys = self.inputs, self.indices, self.ids, self.keys
        return Request(
            self.kind,
            [inputs[row] for row in rows],
            [indices[row] for row in rows],
            [ids[row] for row in rows],
            cut=self.cut,
            keep_going=self.keep_going,
            call_id=self.call_id,
            keys=[keys[row] for row in rows] if keys else (),
            outlived=self.outlived,
            progress=self.progress,
        )


Next: TypeAlias = Callable[[Request], Awaitable[Vectors]]


class Middleware(Protocol):
    """One concern between the caller and the provider: look at the request, pass it on, look at the vectors."""

    async def __call__(self, request: Request, next: Next, io: Any, /) -> Vectors:  # noqa: A002  # the shape's own word
        """Return one vector per input of the request; `io` makes every call that blocks, waits or runs side by side."""
        ...
