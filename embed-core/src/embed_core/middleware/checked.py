"""The one place that trusts nobody: count, order, dimension and finiteness of every answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embed_core._io import IO
from embed_core._rows import MisfitError, Rows, sequence
from embed_core._space import Dimension
from embed_core._types import Next, ProviderResponse, Request, Vectors
from embed_core.errors import (
    AuthenticationError,
    EmbeddingIntegrityError,
    EmbedError,
    ProviderError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RateLimitError,
)

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Checked:
    """Turns the answer or exception of a hook into rows in input order, or into a named error."""

    model: str
    rows: Rows
    dimension: Dimension

    async def __call__(self, request: Request, next: Next, io: IO) -> Vectors:
        try:
            answer: Any = await next(request)
        except EmbedError as error:  # a hook knows positions in its batch only
            error.indices = tuple(request.indices[row] for row in error.indices if row < len(request.indices))
            raise
        except Exception as error:
            raise translate(error, self.model, request.indices) from error
        if isinstance(answer, ProviderResponse):
            report = request.report
            report.usage, report.truncated, report.model = answer.usage, answer.truncated, answer.model
            return self._check(request, answer.vectors, answer.indices)
        return self._check(request, answer, None)

    def _check(self, request: Request, answer: Any, indices: Sequence[int] | None) -> Vectors:
        expected = len(request.inputs)
        try:
            vectors = self.rows.array(sequence(answer, expected))
        except MisfitError as error:
            raise self._error(request, f"answered {error}", error.rows) from error.__cause__
        if indices is not None:
            vectors = self._in_order(request, vectors, indices)
        dimension = vectors.shape[1]
        if dimension != (known := self.dimension.agree(dimension)):
            what = f"answered vectors of dimension {dimension} where {known} was expected"
            raise self._error(request, what, range(expected))
        return vectors

    def _in_order(self, request: Request, vectors: Vectors, indices: Sequence[int]) -> Vectors:
        wrong = sorted(set(range(len(vectors))) - set(indices))
        if wrong or len(indices) != len(vectors):
            raise self._error(request, f"answered with the positions {list(indices)[:_SHOWN]}, not one of each", wrong)
        ordered = np.empty_like(vectors)
        ordered[np.asarray(indices, dtype=np.intp)] = vectors
        return ordered

    def _error(self, request: Request, what: str, rows: Sequence[int] | Any) -> EmbeddingIntegrityError:
        indices = [request.indices[int(row)] for row in rows] or list(request.indices)
        shown = ", ".join(map(str, indices[:_SHOWN])) + (", …" if len(indices) > _SHOWN else "")
        return EmbeddingIntegrityError(
            f"`{self.model}` {what}, at input {shown}; no vector of this batch is used. "
            "Report it to whoever runs the provider or wrote the integration",
            indices=indices,
        )


def translate(error: Exception, model: str, indices: Sequence[int] = ()) -> ProviderError:
    """Return the error of our tree for a foreign exception.

    Integrations translate their client's errors themselves; this covers exceptions of any client.
    """
    status = getattr(error, "status_code", None)
    kind: type[ProviderError] = ProviderError
    if isinstance(error, TimeoutError) or status == 408:
        kind = ProviderTimeoutError
    elif status in {401, 403}:
        kind = AuthenticationError
    elif status == 429:
        kind = RateLimitError
    elif isinstance(error, ConnectionError) or status == 409 or (isinstance(status, int) and status >= 500):
        kind = ProviderUnavailableError
    return kind(
        f"`{model}` failed with {type(error).__name__}: {error}",
        indices=indices,
        status_code=status if isinstance(status, int) else None,
    )
