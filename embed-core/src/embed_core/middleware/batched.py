"""Inputs cut into provider calls, several in flight, every vector put on the row of its own input."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embed_core._io import IO
from embed_core._result import Onward, Result
from embed_core._types import Kind, Request
from embed_core.errors import EmbeddingIntegrityError


@dataclass(frozen=True, slots=True)
class Batched:
    """Sends the batches that `plan` makes, `workers` at a time; the first failure cancels unsent batches.

    Attributes:
        plan: groups the positions of the inputs into batches, in any order, each position once.
        late: the ids of inputs that failed in a way that the success of others makes worth another attempt.
    """

    plan: Callable[[Kind, Sequence[Any]], Iterable[Sequence[int]]]
    workers: int
    late: Collection[int] = ()

    async def __call__(self, request: Request, next: Onward, io: IO) -> Result:
        batches = [batch for batch in self.plan(request.kind, request.inputs) if len(batch)]
        _require_each_once(batches, len(request.inputs))
        result = Result(len(request.inputs))

        async def send(batch: Sequence[int]) -> None:
            if result.failed and not request.keep_going:
                return
            result.place(batch, await next(request.pick(batch)))
            if result.failed and not request.keep_going:
                io.end()
            request.progress.advance(len(batch))

        await io.map(send, batches, workers=min(self.workers, len(batches)))
        if self.late:
            await self._send_again(request, batches, result, next, io)
        return result

    async def _send_again(
        self, request: Request, batches: Sequence[Sequence[int]], result: Result, next: Onward, io: IO
    ) -> None:
        """Send late inputs once more; a batch that is left open keeps its reasons."""

        async def send(batch: Sequence[int]) -> None:
            part = await next(request.pick(batch))
            for at, row in enumerate(batch):
                if not part.is_open(at):
                    result.failed.pop(row, None)
            result.place(batch, part)

        late = [rows for batch in batches if (rows := [row for row in batch if request.ids[row] in self.late])]
        for some in filter(None, (late[:1], late[1:])):  # the first may still succeed where all others failed
            await io.map(send, some, workers=min(self.workers, len(some)))


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
