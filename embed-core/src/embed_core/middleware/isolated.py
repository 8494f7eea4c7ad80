"""One bad text never fails its neighbours: a batch that the provider refuses is halved until the culprit is alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embed_core._io import IO, Ended
from embed_core._partial import Outcome
from embed_core._types import Kind, Next, Request, Vectors
from embed_core.errors import EmbedError, InvalidInputError


@dataclass(frozen=True, slots=True)
class Isolated:
    """Sends a refused batch again without the inputs it was refused for; O(bad x log batch) more calls.

    Only an `InvalidInputError` is the fault of single inputs. Where it names them, the others go in one call. After any
    other error nothing more is sent, unless the caller keeps going.
    """

    plan: Callable[[Kind, Sequence[Any]], Iterable[Sequence[int]]]

    async def __call__(self, request: Request, next: Next, io: IO) -> Vectors:
        try:
            return await next(request)
        except InvalidInputError as error:
            if len(request.inputs) == 1:
                raise
            refused = [error]
        outcome = Outcome()
        try:
            await self._isolate(request, refused.pop(), next, outcome)  # else this frame and the error hold each other
        except Ended as ended:
            outcome.completed.update(ended.completed)
            if not outcome.failed:
                ended.completed = outcome.completed
                raise
        if not outcome.failed:  # the batch as a whole was too much, none of its inputs alone
            return np.stack([outcome.completed[id_] for id_ in request.ids])
        raise outcome.error(request)

    async def _isolate(self, request: Request, error: InvalidInputError, next: Next, outcome: Outcome) -> None:
        named = set(error.indices) & set(request.indices)
        if len(request.inputs) == 1 or len(named) == len(request.inputs):
            outcome.note(request, error)
            return
        rows = range(len(request.inputs))
        parts: Sequence[Sequence[int]] = self._parts(request)
        if named:
            outcome.failed.update((request.ids[row], error) for row in rows if request.indices[row] in named)
            parts = [[row for row in rows if request.indices[row] not in named]]
        for part in parts:
            await self._send(request.pick(part), next, outcome)

    def _parts(self, request: Request) -> Sequence[Sequence[int]]:
        """Plan again, because the integration may have learned a limit from the refusal; else halve."""
        planned = [batch for batch in self.plan(request.kind, request.inputs) if len(batch)]
        middle = len(request.inputs) // 2
        return planned if len(planned) > 1 else [range(middle), range(middle, len(request.inputs))]

    async def _send(self, request: Request, next: Next, outcome: Outcome) -> None:
        try:
            vectors = await next(request)
        except InvalidInputError as error:
            await self._isolate(request, error, next, outcome)
        except EmbedError as error:
            outcome.note(request, error)
            if not request.keep_going:
                raise Ended from error
        else:
            outcome.completed.update(zip(request.ids, vectors, strict=True))
