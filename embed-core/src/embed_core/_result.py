"""What became of the inputs of a request, row by row: partial success is a value here, not an exception."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embed_core._io import Ended
from embed_core._types import Request, Vectors
from embed_core.errors import BatchError, EmbedError


class Result:
    """A vector for each row that was embedded, and a reason for each that failed; the others were never sent."""

    def __init__(self, count: int) -> None:
        self.vectors: Vectors = np.empty((count, 0), dtype=np.float32)
        self.done: NDArray[np.bool_] = np.zeros(count, dtype=bool)
        self.failed: dict[int, Exception] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, vectors: Vectors) -> Self:
        """Return the result of a request of which every input was embedded."""
        result = cls(0)
        result.vectors, result.done = vectors, np.ones(len(vectors), dtype=bool)
        return result

    def is_open(self, row: int) -> bool:
        """Tell whether nothing has become of a row yet."""
        return not self.done[row] and row not in self.failed

    def fail(self, rows: Sequence[int], reason: Exception) -> None:
        """Note one reason for several rows."""
        self.failed.update(dict.fromkeys(map(int, rows), reason))

    def pick(self, rows: Sequence[int]) -> Result:
        """Return the result of some rows, of which one may come twice."""
        part = Result(0)
        part.vectors, part.done = self.vectors[rows], self.done[rows]
        part.failed = {at: self.failed[row] for at, row in enumerate(rows) if row in self.failed}
        return part

    def place(self, rows: Sequence[int], part: Result) -> None:
        """Take over the result of a part, whose inputs are these rows."""
        if part.done.all() and len(rows) == len(self.done) and rows == range(len(rows)):  # one part, in order: no copy
            self.vectors = part.vectors if part.vectors.flags.owndata else part.vectors.copy()  # a view may change
            self.done[:] = True
            return
        if part.done.any():
            with self._lock:
                if not self.vectors.shape[1]:
                    self.vectors = np.empty((len(self.done), *part.vectors.shape[1:]), dtype=part.vectors.dtype)
            there: Any = np.asarray(rows)
            if isinstance(rows, range) and rows.step == 1:
                there = slice(rows.start, rows.stop)
            if part.done.all():
                self.vectors[there], self.done[there] = part.vectors, True
            else:
                there = np.asarray(rows)[part.done]
                self.vectors[there], self.done[there] = part.vectors[part.done], True
        self.failed.update((int(rows[row]), reason) for row, reason in part.failed.items())
        part.failed.clear()  # the frame that noted a failure is in its traceback, and holds the part

    def settled(self, request: Request) -> Vectors:
        """Return the vectors of all rows, or raise what tells of those that failed and of all others.

        One type of failure is raised as itself, so that `except RateLimitError` works however many batches there were.

        Raises:
            EmbedError: some rows failed.
            Ended: some were never sent, because the call was ended from outside.
        """
        if not self.failed:
            if not self.done.all():
                raise Ended
            return self.vectors
        first = next(iter(self.failed.values()))
        if isinstance(first, EmbedError) and all(type(one) is type(first) for one in self.failed.values()):
            error = first
        else:
            count = f"{len(self.failed)} of {len(request.inputs)} inputs failed, for different reasons"
            error = BatchError(f"{count}; the first: {first}")
            error.__cause__ = first
        error.indices = tuple(sorted({request.indices[row] for row in self.failed}))
        error.failed = {request.ids[row]: reason for row, reason in self.failed.items()}
        error.completed = {request.ids[row]: self.vectors[row] for row in np.flatnonzero(self.done).tolist()}
        self.failed.clear()
        try:
            raise error
        finally:
            del error, first


Onward: TypeAlias = Callable[[Request], Awaitable[Result]]


async def without(request: Request, failed: Mapping[int, Exception], onward: Onward) -> Result:
    """Return the result where some rows failed already; the others are embedded if the caller keeps going."""
    result = Result(len(request.inputs))
    result.failed.update(failed)
    others = [row for row in range(len(request.inputs)) if row not in failed]
    if request.keep_going and others:
        result.place(others, await onward(request.pick(others)))
    return result
