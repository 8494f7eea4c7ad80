"""The outcome of a request, row by row: partial success is a value here, not an exception."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from embed_core._io import Ended
from embed_core._types import Request, Vectors
from embed_core.errors import BatchError, EmbeddingIntegrityError, EmbedError, InvalidInputError

_AT_FAULT = (InvalidInputError, EmbeddingIntegrityError)
_SHOWN = 10
_WORDS = 40  # characters


class Result:
    """A vector for each row that was embedded, and a reason for each that failed; the others were never sent.

    Attributes:
        vectors: one row for each input; a row that is not done holds nothing.
        failed: the reason by row.
    """

    __slots__ = ("_done", "_lock", "failed", "vectors")

    def __init__(self, count: int) -> None:
        """Begin with nothing done."""
        self.vectors: Vectors = np.empty((count, 0), dtype=np.float32)
        self.failed: dict[int, Exception] = {}
        self._done: NDArray[np.bool_] | None = np.zeros(count, dtype=bool)  # None: all rows
        self._lock = threading.Lock()

    @classmethod
    def of(cls, vectors: Vectors) -> Self:
        """Return the result of a request of which every input was embedded."""
        result = cls.__new__(cls)
        result.vectors, result.failed, result._done = vectors, {}, None
        return result

    @property
    def done(self) -> NDArray[np.bool_]:
        """Whether each row was embedded."""
        return np.ones(len(self.vectors), dtype=bool) if self._done is None else self._done

    @property
    def is_whole(self) -> bool:
        """Whether every row was embedded."""
        return self._done is None or bool(self._done.all())

    def is_open(self, row: int) -> bool:
        """Tell whether a row neither was embedded nor failed."""
        return not self.done[row] and row not in self.failed

    def fail(self, rows: Sequence[int], reason: Exception) -> None:
        """Note one reason for several rows."""
        self.failed.update(dict.fromkeys(map(int, rows), reason))

    def fill(self, vectors: Vectors) -> None:
        """Take the vectors of all rows, without a copy."""
        self.vectors, self._done = vectors, None

    def pick(self, rows: Sequence[int]) -> Result:
        """Return the result of some rows, of which one may come twice."""
        part = Result.of(self.vectors[rows])
        part._done = self.done[rows]
        part.failed = {at: self.failed[row] for at, row in enumerate(rows) if row in self.failed}
        return part

    def place(self, rows: Sequence[int], part: Result) -> None:
        """Take over the result of a part, whose inputs are these rows."""
        if part._done is None and rows == range(len(self.vectors)):
            self.fill(part.vectors)
        elif part._done is None or part._done.any():
            with self._lock:
                if not self.vectors.shape[1]:
                    self.vectors = np.empty((len(self.vectors), *part.vectors.shape[1:]), dtype=part.vectors.dtype)
            at: Any = slice(rows.start, rows.stop) if _is_stretch(rows) else np.asarray(rows, dtype=np.intp)
            vectors = part.vectors
            if part._done is not None:
                at, vectors = np.asarray(rows, dtype=np.intp)[part._done], vectors[part._done]
            self.vectors[at] = vectors
            self.done[at] = True
        if part.failed:
            self.failed.update((int(rows[row]), reason) for row, reason in part.failed.items())
            part.failed.clear()  # the frame that noted a failure is in its traceback, and holds the part

    def settled(self, request: Request) -> Vectors:
        """Return the vectors of all rows, or raise an error that accounts for every row.

        One type of failure is raised as itself, so that `except RateLimitError` works however many batches there were.

        Raises:
            EmbedError: some rows failed.
            Ended: some were never sent, because the call was ended from outside.
        """
        if not self.failed:
            if not self.is_whole:
                raise Ended
            return self.vectors
        error = _joined(request, self.failed)
        error.indices = tuple(sorted({request.indices[row] for row in self.failed}))
        error.failed = {request.ids[row]: reason for row, reason in self.failed.items()}
        error.completed = {request.ids[row]: self.vectors[row] for row in np.flatnonzero(self.done).tolist()}
        self.failed.clear()
        try:
            raise error
        finally:
            del error


def _joined(request: Request, failed: Mapping[int, Exception]) -> EmbedError:
    """Return one error for all failed rows, in which every input at fault is named."""
    rows_of: dict[int, list[int]] = {}
    for row, reason in sorted(failed.items()):
        rows_of.setdefault(id(reason), []).append(row)
    reasons = [failed[rows[0]] for rows in rows_of.values()]
    for reason, rows in zip(reasons, rows_of.values(), strict=True):
        if isinstance(reason, _AT_FAULT) and f"input {request.indices[rows[0]]}" not in str(reason):
            reason.args = (f"{reason}; at {_named(request, rows)}",)
    first, *others = reasons
    said = "\n".join(map(str, reasons[:_SHOWN])) + (f"\nand {len(reasons) - _SHOWN} more" if others[_SHOWN:] else "")
    if isinstance(first, EmbedError) and all(type(one) is type(first) for one in others):
        if others and isinstance(first, _AT_FAULT):
            first.args = (said,)
        return first
    error = BatchError(f"{len(failed)} of {len(request.inputs)} inputs failed, for different reasons:\n{said}")
    error.__cause__ = first
    return error


def _named(request: Request, rows: Sequence[int]) -> str:
    named = [f"{request.indices[row]}{first_words(request.inputs[row])}" for row in rows[:_SHOWN]]
    return f"input {', '.join(named)}" + (f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else "")


def first_words(one: Any) -> str:
    """Return the first words of a text in quotes and brackets; nothing for an image."""
    if not isinstance(one, str):
        return ""
    words = " ".join(one[:_WORDS].split())
    return f" ({words + ' …' if len(one) > _WORDS else words!r})"


def likeness(error: Any) -> Likeness:
    """Return the facts by which two errors are alike: the type and status, not the words."""
    return type(error), getattr(error, "status_code", None), type(getattr(error, "__cause__", None))


def _is_stretch(rows: Sequence[int]) -> TypeGuard[range]:
    return isinstance(rows, range) and rows.step == 1


Likeness: TypeAlias = tuple[type[Exception], int | None, type[Any]]
Onward: TypeAlias = Callable[[Request], Awaitable[Result]]


async def without(request: Request, failed: Mapping[int, Exception], onward: Onward) -> Result:
    """Return the result where some rows failed already; the others are embedded if the caller keeps going."""
    result = Result(len(request.inputs))
    result.failed.update(failed)
    others = [row for row in range(len(request.inputs)) if row not in failed]
    if request.keep_going and others:
        result.place(others, await onward(request.pick(others)))
    return result
