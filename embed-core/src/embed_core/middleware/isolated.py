"""One bad text never fails its neighbours: a batch that the provider refuses is halved until the culprit is alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from embed_core._io import IO, Ended
from embed_core._result import Result
from embed_core._types import Kind, Next, Request
from embed_core.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Isolated:
    """Sends a refused batch again without the inputs it was refused for; O(bad x log batch) more calls.

    Here an attempt that raises becomes a result that tells of every row. Only an `InvalidInputError` is the fault of
    single inputs. After any other error nothing more is sent, unless the caller keeps going.
    """

    plan: Callable[[Kind, Sequence[Any]], Iterable[Sequence[int]]]

    async def __call__(self, request: Request, next: Next, io: IO) -> Result:
        result = Result(len(request.inputs))
        await self._send(request, range(len(request.inputs)), result, next)
        return result

    async def _send(self, request: Request, rows: Sequence[int], result: Result, next: Next) -> bool:
        """Embed some rows; tell whether to go on."""
        part = request if len(rows) == len(request.inputs) else request.pick(rows)
        try:
            result.place(rows, Result.of(await next(part)))
        except InvalidInputError as error:
            named = set(error.indices)
            bad = [row for row in rows if request.indices[row] in named]
            if len(rows) == 1 or len(bad) == len(rows):
                result.fail(rows, error)
                return True
            result.fail(bad, error)
        except Ended:
            return False
        except Exception as error:  # told by whoever settles the call
            result.fail(rows, error)
            return request.keep_going
        else:
            return True
        others = [row for row in rows if row not in result.failed]
        for some in [others] if bad else self._parts(part, rows):
            if not await self._send(request, some, result, next):
                return False
        return True

    def _parts(self, part: Request, rows: Sequence[int]) -> Sequence[Sequence[int]]:
        """Plan again, because the integration may have learned a limit from the refusal; else halve."""
        planned = [batch for batch in self.plan(part.kind, part.inputs) if len(batch)]
        middle = len(rows) // 2
        return [[rows[at] for at in batch] for batch in planned] if len(planned) > 1 else [rows[:middle], rows[middle:]]
