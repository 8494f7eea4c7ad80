"""One bad input never fails its neighbours: a batch that fails is sent in parts until the culprits are alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from embed_core._io import IO, Ended
from embed_core._result import Result
from embed_core._search import CREDIT, Doubt, Search
from embed_core._types import Kind, Next, Request
from embed_core.errors import EmbeddingIntegrityError, EmbedError, InvalidInputError


@dataclass(frozen=True, slots=True)
class Isolated:
    """Sends a failed batch again in parts, and blames an input that fails where others of its batch do not.

    Here an attempt that raises becomes a result that tells of every row. The words of an error do not matter: where a
    part succeeds the fault is in another one, and where eight requests in a row fail it is in the request. Where the
    caller keeps going, until an input succeeds one batch is searched and eight more are asked for one input; a batch
    that fails alike is noted as late, and is searched when it comes again after all others. An error that outlived its
    retries is not retried in a part. Refusals of the account, address or model are final.
    """

    plan: Callable[[Kind, Sequence[Any]], Iterable[Sequence[int]]]
    doubt: Doubt = field(default_factory=Doubt)

    async def __call__(self, request: Request, next: Next, io: IO) -> Result:
        result = Result(len(request.inputs))
        with suppress(Ended):
            await self._embed(request, result, next)
        return result

    async def _embed(self, request: Request, result: Result, next: Next) -> None:
        """Give every row a vector or a reason; those of a late batch that is not searched stay open."""
        rows, doubt, refused = range(len(request.inputs)), self.doubt, None
        like = doubt.claimed(request.ids) if doubt.late else None
        if like is None and (refused := await _send(request, rows, result, next)) is None:
            doubt.settled, doubt.credit = True, CREDIT
            return
        search = Search(request, result, doubt, partial(self._parts, request))
        if refused is not None:
            search.note(rows, refused)
        elif doubt.allows_a_search():
            search.pieces, search.like, search.failures = self._parts(request, rows), like, 1
        while (piece := search.piece()) is not None:
            part = replace(request.pick(piece), outlived=search.like)
            search.note(piece, await _send(part, piece, result, next))
        search.end()

    def _parts(self, request: Request, rows: Sequence[int]) -> list[Sequence[int]]:
        """Plan rows again, because the integration may have learned a limit from the refusal; else halve them."""
        planned = [batch for batch in self.plan(request.kind, [request.inputs[row] for row in rows]) if len(batch)]
        if len(planned) > 1:
            return [[rows[at] for at in batch] for batch in planned]
        middle = len(rows) // 2
        return [half for half in (rows[:middle], rows[middle:]) if half]


async def _send(part: Request, rows: Sequence[int], result: Result, next: Next) -> Exception | None:
    """Note the vectors of some rows, and the reason of each that the error names, which is returned."""
    try:
        result.place(rows, Result.of(await next(part)))
    except EmbedError as error:  # told by whoever settles the call
        for at, vector in error.completed.items():
            result.place([rows[at]], Result.of(vector[None]))
        error.completed = {}
        if isinstance(error, InvalidInputError | EmbeddingIntegrityError):
            named = set(error.indices)
            result.fail([row for row, index in zip(rows, part.indices, strict=True) if index in named], error)
        return error
    except Exception as error:  # told there, too
        return error
    return None
