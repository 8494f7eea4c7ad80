"""Inputs cut into provider calls, several in flight, every vector put on the row of its own input."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embed_core._io import IO
from embed_core._types import Kind, Next, Request, Vectors
from embed_core.errors import BatchError, EmbeddingIntegrityError, EmbedError


@dataclass(frozen=True, slots=True)
class Batched:
    """Sends the batches that `plan` makes, `workers` at a time; a failure keeps the batches before it.

    Attributes:
        plan: groups the positions of the inputs into batches, in any order, each position once.
    """

    plan: Callable[[Kind, Sequence[Any]], Iterable[Sequence[int]]]
    workers: int

    async def __call__(self, request: Request, next: Next, io: IO) -> Vectors:
        batches = [batch for batch in self.plan(request.kind, request.inputs) if len(batch)]
        rows = _Rows(len(request.inputs), batches)
        failures: list[tuple[Sequence[int], Exception]] = []

        async def send(batch: Sequence[int]) -> None:
            if failures:  # the first failure cancels what has not been sent
                return
            try:
                rows.place(batch, await next(request.pick(batch)))
            except Exception as error:  # noqa: BLE001  raised below, with what was finished
                failures.append((batch, error))
            else:
                request.progress.advance(len(batch))

        await io.map(send, batches, workers=min(self.workers, len(batches)))
        if failures:
            raise _failure(request, rows, failures)
        return rows.vectors


class _Rows:
    """One array for all batches, allocated when the first vectors show their dimension."""

    def __init__(self, count: int, batches: Sequence[Sequence[int]]) -> None:
        covered = np.zeros(count, dtype=np.intp)
        for batch in batches:
            np.add.at(covered, _index(batch), 1)
        if not (covered == 1).all():
            missed = np.flatnonzero(covered != 1).tolist()
            msg = f"the integration's batcher left out or repeated the inputs {missed[:10]}; every input belongs once"
            raise EmbeddingIntegrityError(msg, indices=missed)
        self._count = count
        self._lock = threading.Lock()
        self._done = np.zeros(count, dtype=bool)
        self.vectors: Vectors = np.empty((0, 0), dtype=np.float32)

    def place(self, batch: Sequence[int], vectors: Vectors) -> None:
        if batch == range(self._count):  # one batch in input order: no copy
            self.vectors = vectors
        else:
            with self._lock:
                if not len(self.vectors):
                    self.vectors = np.empty((self._count, *vectors.shape[1:]), dtype=vectors.dtype)
            self.vectors[_index(batch)] = vectors
        self._done[_index(batch)] = True

    def completed(self) -> dict[int, Any]:
        return {int(row): self.vectors[row] for row in np.flatnonzero(self._done)}


def _index(batch: Sequence[int]) -> slice | np.ndarray[Any, np.dtype[np.intp]]:
    if isinstance(batch, range) and batch.step == 1:
        return slice(batch.start, batch.stop)
    return np.asarray(batch, dtype=np.intp)


def _failure(request: Request, rows: _Rows, failures: Sequence[tuple[Sequence[int], Exception]]) -> Exception:
    first = failures[0][1]
    for _, reason in failures:
        if not isinstance(reason, EmbedError):
            return reason
    completed: Mapping[int, Any] = {request.indices[row]: vector for row, vector in rows.completed().items()}
    failed = {request.indices[row]: reason for batch, reason in failures for row in batch}
    error: EmbedError
    if all(type(reason) is type(first) for _, reason in failures):
        error = first  # type: ignore[assignment]  every reason is an EmbedError by now
    else:
        error = BatchError(
            f"{len(failed)} of {len(request.inputs)} inputs failed for different reasons, the first: {first}",
            indices=sorted(failed),
        )
        error.__cause__ = first
    error.completed, error.failed = completed, failed
    return error
