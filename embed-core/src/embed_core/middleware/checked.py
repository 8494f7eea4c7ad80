"""The one place that trusts nobody: count, order, dimension and finiteness of every answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from embed_core._foreign import translate
from embed_core._io import IO
from embed_core._rows import MisfitError, Rows, sequence
from embed_core._secrets import cleanse, quoted
from embed_core._space import Dimension
from embed_core._types import Next, ProviderResponse, Request, Vectors
from embed_core.errors import EmbeddingIntegrityError, EmbedError

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Checked:
    """Turns the answer or exception of a hook into rows in input order, or into a named error without secrets."""

    model: str
    rows: Rows
    dimension: Dimension
    masking: Callable[[], Callable[[str], str]] = lambda: quoted

    async def __call__(self, request: Request, next: Next, io: IO) -> Vectors:
        try:
            answer: Any = await next(request)
        except Exception as error:
            cleanse(error, clean := self.masking())
            if not isinstance(error, EmbedError):
                raise translate(error, self.model, request.indices, clean) from error
            # a hook knows positions in its batch only
            error.indices = tuple(request.indices[row] for row in error.indices if row < len(request.indices))
            raise
        if isinstance(answer, ProviderResponse):
            report = request.report
            report.usage, report.truncated, report.model = answer.usage, answer.truncated, answer.model
            return self._check(request, answer.vectors, answer.indices)
        return self._check(request, answer, None)

    def _check(self, request: Request, answer: Any, indices: Sequence[int] | None) -> Vectors:
        expected = len(request.inputs)
        try:
            answers = sequence(answer, expected)
        except MisfitError as error:
            raise self._error(f"answered {error}") from error.__cause__
        places = range(expected) if indices is None else self._places(expected, indices)
        try:
            vectors = self.rows.array(answers)
        except MisfitError as error:
            raise self._partly(request, answers, places, error) from error.__cause__
        if vectors.shape[1] != self.dimension.known:
            self._require_dimension(vectors)
        if indices is None:
            return vectors
        ordered = np.empty_like(vectors)
        ordered[np.asarray(places, dtype=np.intp)] = vectors
        return ordered

    def _partly(
        self, request: Request, answers: Any, places: Sequence[int], misfit: MisfitError
    ) -> EmbeddingIntegrityError:
        """Return the error for an answer with some wrong rows, which keeps the other ones."""
        error = self._error(f"answered {misfit}")
        good = [at for at in range(len(answers)) if at not in set(misfit.rows)]
        if misfit.rows and good:
            with suppress(MisfitError, EmbeddingIntegrityError):  # then none is used
                vectors = self.rows.array([answers[at] for at in good])
                self._require_dimension(vectors)
                error.completed = {places[at]: vector for at, vector in zip(good, vectors, strict=True)}
        error.indices = tuple(request.indices[places[at]] for at in misfit.rows) if error.completed or not good else ()
        return error

    def _require_dimension(self, vectors: Vectors) -> None:
        dimension = vectors.shape[1]
        if dimension != (known := self.dimension.agree(dimension)):
            raise self._error(f"answered vectors of dimension {dimension} where {known} was expected")

    def _places(self, count: int, indices: Sequence[Any]) -> Sequence[int]:
        """Return the positions that an answer claims."""
        claimed = [int(at) for at in indices if isinstance(at, int | np.integer) and not isinstance(at, bool)]
        if len(claimed) != len(indices) or sorted(claimed) != list(range(count)):
            raise self._error(f"answered with the positions {list(indices)[:_SHOWN]}, not one of each")
        return claimed

    def _error(self, what: str) -> EmbeddingIntegrityError:
        return EmbeddingIntegrityError(
            f"`{self.model}` {what}, which is not used; report it to whoever runs the provider or wrote the integration"
        )
