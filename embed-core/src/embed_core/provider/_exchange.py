"""One batch and its server: asked, and after some refusals asked differently."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from embed_core._types import Answers, Kind, LongText, ProviderResponse
from embed_core.errors import (
    EmbeddingIntegrityError,
    EmbedError,
    InputTooLongError,
    ProviderError,
    ProviderUnavailableError,
)
from embed_core.provider._errors import Endpoint, Refusal
from embed_core.provider._limits import BYTES_OF_ANY_TOKEN, Capabilities
from embed_core.provider._parts import shorter, start
from embed_core.provider._transport import Reply

_NONSENSE = (LookupError, TypeError, ValueError, AttributeError, OverflowError)


class Asking(Protocol):
    """The part of a model that states its API; `APIEmbedding` documents it."""

    long_text: LongText

    def _request(self, kind: Kind, inputs: list[Any]) -> Any: ...
    def _answer(self, payload: Any) -> Answers: ...
    def _learn(self, body: Any, error: EmbedError) -> None: ...
    def _finished(self, vectors: Any) -> Any: ...


@dataclass(slots=True)
class Exchange:
    """The inputs as they are asked for, the body that asks for them, and in the end the response.

    Attributes:
        cut: the positions of texts that were shortened on the way.
    """

    model: Asking
    where: Endpoint
    capabilities: Capabilities
    kind: Kind
    inputs: list[Any]
    cut: set[int] = field(default_factory=set)
    body: Any = None
    response: ProviderResponse | None = None

    def __post_init__(self) -> None:
        limit = self.capabilities.input_tokens.get(self.where.model)
        if limit is not None and self.model.long_text == "truncate" and self.kind != "image":
            self._cut_surely_too_long(limit * BYTES_OF_ANY_TOKEN)
        self.body = self.model._request(self.kind, self.inputs)

    def answered(self, reply: Reply) -> None:
        """Take an answer.

        Raises:
            EmbedError: it holds no vectors.
        """
        try:
            payload = json.loads(reply.content)
        except ValueError as error:
            raise self._no_json(reply) from error
        found = understood(self.model, payload, self.where, reply.headers)
        if not len(found.vectors):
            raise NoVectorsError(f"{self.where} answered 0 vectors for {len(self.inputs)} inputs")
        self.capabilities.answered(self.where.model, self.inputs)
        vectors = self.model._finished(found.vectors)
        self.response = replace(found, vectors=vectors, truncated=len(self.cut))

    def refused(self, error: EmbedError) -> bool:
        """Learn from a refusal; tell whether the inputs can be asked for in another way."""
        self.model._learn(self.body, error)
        if (body := self.model._request(self.kind, self.inputs)) != self.body:
            self.body = body
            return True
        self.capabilities.refused(self.where.model, self.inputs, error)
        if not (isinstance(error, InputTooLongError) and self.kind != "image" and self._cut_culprit(error)):
            return False
        self.body = self.model._request(self.kind, self.inputs)
        return True

    def _no_json(self, reply: Reply) -> ProviderError:
        """Return the error for an error page or a cut answer of a known server, or for a wrong address."""
        kind = reply.headers.get("content-type", "an unnamed type")
        begin = self.where.scrub(reply.content[:1000].decode(errors="replace"))[:80]
        check = f"check `{self.where.address_field}` and any gateway in between"
        return (ProviderUnavailableError if self.capabilities.proven else ProviderError)(
            f"{self.where} answered {kind}, not whole JSON ({begin!r}); {check}",
            request_id=reply.headers.get("x-request-id"),
        )

    def _cut_surely_too_long(self, room: int) -> None:
        """Spare the server the texts that it would only refuse; it counts the others itself."""
        self.cut = {position for position, text in enumerate(self.inputs) if len(text.encode()) > room}
        if self.cut:
            self.inputs = [start(text, room) if row in self.cut else text for row, text in enumerate(self.inputs)]

    def _cut_culprit(self, error: InputTooLongError) -> bool:
        """Shorten the one text that is known to be too long, if it may be cut here."""
        if self.model.long_text == "mean" and len(self.inputs) > 1:
            error.indices = ()  # not lost yet: it can be split once it is alone
        known = [0] if len(self.inputs) == 1 else list(error.indices[:1])
        cut = shorter(self.inputs[known[0]], error) if known and self.model.long_text == "truncate" else None
        if cut is None:
            return False
        self.inputs = [cut if position == known[0] else text for position, text in enumerate(self.inputs)]
        self.cut.add(known[0])
        return True


class NoVectorsError(EmbeddingIntegrityError):
    """An answer without any vectors, which some servers give for a form of vectors that they do not know."""


def understood(
    model: Asking, payload: Any, where: Endpoint, headers: Mapping[str, str] | None = None
) -> ProviderResponse:
    """Return the vectors of a parsed answer with the positions they claim, and the usage.

    Raises:
        EmbedError: the answer is an error in spite of its status.
        EmbeddingIntegrityError: it holds no embeddings.
    """
    try:
        answer = model._answer(payload)
        response = answer if isinstance(answer, ProviderResponse) else ProviderResponse(answer)
        if len(response.vectors):
            return response
        wrong: Exception | None = None
    except _NONSENSE as error:
        wrong = error
    if isinstance(payload, Mapping) and (payload.get("error") or "message" in payload):
        raise Refusal.read(200, headers or {}, payload).as_error(where)
    if wrong is None:
        return response
    where.cleanse(wrong)
    raise EmbeddingIntegrityError(
        f"{where} answered JSON that holds no embeddings ({where.quote(repr(wrong))})"
    ) from wrong
