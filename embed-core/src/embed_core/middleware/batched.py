"""Inputs cut into provider calls, several in flight, every vector put on the row of its own input."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embed_core._io import IO, Ended
from embed_core._partial import summary
from embed_core._types import Kind, Next, Request, Vectors
from embed_core.errors import EmbeddingIntegrityError, EmbedError


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
        _require_each_once(batches, len(request.inputs))
        rows = _Rows(len(request.inputs))
        failed: dict[int, Exception] = {}

        async def send(batch: Sequence[int]) -> None:
            if failed and not request.keep_going:  # the first failure cancels what has not been sent
                return
            part = request.pick(batch)
            try:
                rows.place(batch, await next(part))
            except Ended as ended:  # it waited to be sent, or sent again
                rows.place_some(part.ids, batch, ended.completed)
                if not failed:
                    raise
                return
            except EmbedError as error:
                rows.place_some(part.ids, batch, error.completed)
                failed.update(error.failed or dict.fromkeys(part.ids, error))
            except Exception as error:  # raised below, with what was finished
                failed.update(dict.fromkeys(part.ids, error))
            if failed and not request.keep_going:
                io.end()
            request.progress.advance(len(batch))

        await io.map(send, batches, workers=min(self.workers, len(batches)))
        if failed:
            completed = {request.ids[row]: vector for row, vector in rows.completed().items()}
            raise summary(request, completed, failed)
        if not rows.done.all():  # ended from outside, so some rows are no vectors
            raise Ended
        return rows.vectors


class _Rows:
    """One array for all batches, allocated when the first vectors show their dimension."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()
        self.done = np.zeros(count, dtype=bool)
        self.vectors: Vectors = np.empty((0, 0), dtype=np.float32)

    def place(self, batch: Sequence[int], vectors: Vectors) -> None:
        if batch == range(self._count):  # one batch in input order: no copy
            self.vectors = vectors if vectors.flags.owndata else vectors.copy()  # a view may change under us
            self.done[:] = True
            return
        with self._lock:
            if not len(self.vectors):
                self.vectors = np.empty((self._count, *vectors.shape[1:]), dtype=vectors.dtype)
        index = slice(batch.start, batch.stop) if isinstance(batch, range) and batch.step == 1 else np.asarray(batch)
        self.vectors[index] = vectors
        self.done[index] = True

    def place_some(self, ids: Sequence[int], batch: Sequence[int], completed: Mapping[int, Vectors]) -> None:
        """Place the vectors of a batch that an error says were finished before it."""
        for id_, row in zip(ids, batch, strict=True):
            if id_ in completed:
                self.place([row], completed[id_][np.newaxis])

    def completed(self) -> dict[int, Vectors]:
        return {int(row): self.vectors[row] for row in np.flatnonzero(self.done)}


def _require_each_once(batches: Sequence[Sequence[int]], count: int) -> None:
    if len(batches) == 1 and batches[0] == range(count):
        return
    times = np.zeros(count, dtype=np.intp)
    for batch in batches:
        np.add.at(times, np.asarray(batch, dtype=np.intp), 1)
    if not (times == 1).all():
        wrong = np.flatnonzero(times != 1).tolist()
        msg = f"the integration's `_plan` left out or repeated the inputs {wrong[:10]}; every position belongs once"
        raise EmbeddingIntegrityError(msg, indices=wrong)
