"""The talk with a server about one batch: asked, and after some refusals asked differently.

Written once, as a generator of request bodies that is told the answers, and carried by a sync and an async driver.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from embed_core import ProviderResponse, Vectors
from embed_core.errors import EmbedError, InputTooLongError, ProviderError, ProviderUnavailableError

from embeddings_openai import _wire
from embeddings_openai._capabilities import Capabilities, counts
from embeddings_openai._errors import Endpoint, refusal

Body: TypeAlias = dict[str, Any]
Answer: TypeAlias = tuple[bytes, Mapping[str, str]]
Talk: TypeAlias = Generator[Body, Answer, ProviderResponse]

BYTES_OF_ANY_TOKEN = 8
"""Natural text stays below six bytes a token; what exceeds this is too long without asking."""

_SHRINK = 0.7
_SAFETY = 0.98


def converse(talk: Talk, post: Callable[[Body], Answer]) -> ProviderResponse:
    """Carry the talk with a function that raises `EmbedError`s."""
    body = next(talk)
    try:
        while True:
            try:
                answer = post(body)
            except EmbedError as error:
                body = talk.throw(error)
            else:
                body = talk.send(answer)
    except StopIteration as done:
        response: ProviderResponse = done.value
        return response


async def aconverse(talk: Talk, post: Callable[[Body], Awaitable[Answer]]) -> ProviderResponse:
    """Carry the talk with a coroutine function; see `converse`."""
    body = next(talk)
    try:
        while True:
            try:
                answer = await post(body)
            except EmbedError as error:
                body = talk.throw(error)
            else:
                body = talk.send(answer)
    except StopIteration as done:
        response: ProviderResponse = done.value
        return response


@dataclass(frozen=True, slots=True)
class Exchange:
    """How one model talks with its server.

    Attributes:
        dimensions: length of the vectors that is asked for.
        may_cut: whether longer vectors are cut here where the server does not.
        long_text: what to do when the server finds a single text too long.
        unify: whether they are given unit length here.
        more: further parameters of every request.
    """

    where: Endpoint
    capabilities: Capabilities
    dimensions: int | None
    may_cut: bool
    long_text: str
    unify: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    def about(self, texts: list[str]) -> Talk:
        """Ask for the vectors of some texts."""
        texts, cut = self._cut_what_is_surely_too_long(texts)
        while True:
            body = self.body(texts)
            try:
                content, headers = yield body
                response = self._decoded(content, headers)
            except EmbedError as error:
                if self.capabilities.refused(body, error, may_cut=self.may_cut):
                    continue
                position = self._culprit(error, len(texts))
                shorter = None if position is None else _shorter(texts[position], error)
                if position is None or shorter is None:
                    raise
                texts = [*texts[:position], shorter, *texts[position + 1 :]]
                cut.add(position)
                continue
            if self.capabilities.answered(body, len(response.vectors)):
                continue
            return replace(response, vectors=self._fitted(response.vectors), truncated=len(cut))

    def _decoded(self, content: bytes, headers: Mapping[str, str]) -> ProviderResponse:
        """Decode an answer; nonsense passes where the server is known to know better, else the address is wrong."""
        try:
            return _wire.decode(content, headers, self.where)
        except ProviderUnavailableError as error:
            if self.capabilities.proven or refusal(error) is not None:
                raise
            raise ProviderError(str(error)) from error.__cause__

    def _cut_what_is_surely_too_long(self, texts: list[str]) -> tuple[list[str], set[int]]:
        """Spare the server what it would only refuse; the rest it counts itself."""
        limit = self.capabilities.input_tokens.get(self.where.model)
        if limit is None or self.long_text != "truncate":
            return texts, set()
        room = limit * BYTES_OF_ANY_TOKEN
        long = {position for position, text in enumerate(texts) if len(text.encode()) > room}
        return [_start(text, room) if row in long else text for row, text in enumerate(texts)], long

    def _culprit(self, error: EmbedError, count: int) -> int | None:
        """Return the position of the one text that is known to be too long and may be cut here."""
        if not isinstance(error, InputTooLongError) or self.long_text == "error":
            return None
        if self.long_text == "mean":
            error.indices = () if count > 1 else error.indices  # not lost yet: it can be split once it is alone
            return None
        if count == 1:
            return 0
        return error.indices[0] if error.indices else None

    def body(self, texts: list[str]) -> Body:
        """Return the body of a request, as far as is known what the server takes."""
        body: Body = {**self.more, "model": self.where.model, "input": texts}
        if (format_ := self.capabilities.formats[0]) is not None:
            body["encoding_format"] = format_
        if self.dimensions is not None and self.where.model not in self.capabilities.without_dimensions:
            body["dimensions"] = self.dimensions
        return body

    def _fitted(self, vectors: Any) -> Any:
        if not isinstance(vectors, np.ndarray):
            return vectors
        if self.may_cut and self.dimensions is not None and vectors.shape[1] > self.dimensions:
            return unit(vectors[:, : self.dimensions])
        return unit(vectors) if self.unify else vectors


def unit(vectors: Any) -> Vectors:
    """Return the rows with unit length, as float32; a row of zeros stays."""
    wide = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # infinite numbers are found out later
        rows: Vectors = (wide / np.where(norms == 0, 1, norms)).astype(np.float32)
    return rows


def _shorter(text: str, error: EmbedError) -> str | None:
    """Cut a refused text by what the server says of its length; None where that cannot be the trouble."""
    answer, data = refusal(error), text.encode()
    limit, requested = counts(answer.message) if answer is not None else (None, None)
    if limit is not None and len(data) <= limit:
        return None
    share = _SHRINK if limit is None or requested is None or requested <= limit else limit / requested * _SAFETY
    return _start(text, int(len(data) * share)) or None


def _start(text: str, size: int) -> str:
    """Return as many whole characters as `size` bytes of UTF-8 hold."""
    return text.encode()[:size].decode(errors="ignore")
