"""One bad input never fails its neighbours: a batch that fails is sent in parts until the culprits are alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from embed_core._io import IO, Ended
from embed_core._result import Result, first_words, likeness
from embed_core._types import Kind, Next, Request
from embed_core.errors import (
    AuthenticationError,
    ConfigurationError,
    EmbeddingIntegrityError,
    EmbedError,
    IntegrationNotInstalledError,
    InvalidInputError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
)

_HALVES = 3
"""Failures in a row, of a batch and both its halves, after which single inputs are sent."""

_PATIENCE = 8
"""Failures in a row after which the fault is not in the inputs."""

_PATIENCE_WITH_INPUTS = 32
"""The same where the error itself says that an input is at fault."""

_OF_THE_ACCOUNT = (ConfigurationError, IntegrationNotInstalledError, QuotaExceededError, RateLimitError)
_FORBIDDEN = 403  # the answer of a firewall that dislikes a text, too
_WRONG_ADDRESS = {301, 302, 303, 307, 308, 404, 405}  # or an unknown model


@dataclass(frozen=True, slots=True)
class Isolated:
    """Sends a failed batch again in parts, and blames an input that fails where others of its batch do not.

    Here an attempt that raises becomes a result that tells of every row. The words of an error do not matter: where a
    part succeeds the fault is in another one, and where eight requests in a row fail it is in the request. An error
    that outlived its retries is not retried in a part. Refusals of the account, address or model are final at once.
    """

    plan: Callable[[Kind, Sequence[Any]], Iterable[Sequence[int]]]

    async def __call__(self, request: Request, next: Next, io: IO) -> Result:
        result = Result(len(request.inputs))
        with suppress(Ended):
            await self._embed(request, result, next)
        return result

    async def _embed(self, request: Request, result: Result, next: Next) -> None:
        """Give every row a vector or a reason."""
        pieces: list[Sequence[int]] = [range(len(request.inputs))]
        alone, failures, error = dict[int, Exception](), 0, None
        while pieces and (error is None or failures < _patience(error)):
            piece = pieces.pop(0) if failures < _HALVES else _one_of(pieces)
            part = request if error is None else replace(request.pick(piece), outlived=likeness(error))
            refused = await _send(part, piece, result, next)
            if refused is None:
                failures = 0
                continue
            left = [row for row in piece if result.is_open(row)]
            if not _is_about_inputs(refused):
                result.fail(left, refused)
                pieces = pieces if request.keep_going else []  # else the others were never sent
                continue
            failures, error = failures + 1 if len(left) == len(piece) else 0, refused
            if len(left) == len(piece) == 1:
                alone[left[0]] = refused
            elif left:
                pieces += self._parts(request, left, whole=len(left) == len(piece))
        for row, reason in alone.items():
            result.fail([row], _blamed(request, row, reason) if result.done.any() else reason)
        if error is not None:
            result.fail([row for piece in pieces for row in piece], error)

    def _parts(self, request: Request, rows: Sequence[int], *, whole: bool) -> list[Sequence[int]]:
        """Plan again, because the integration may have learned a limit from the refusal; else halve.

        Args:
            request: that of the batch.
            rows: those of it that failed together.
            whole: whether they are all that was sent; if not, the others were at fault, and these may be sent together.
        """
        if not whole:
            return [rows]
        planned = [batch for batch in self.plan(request.kind, [request.inputs[row] for row in rows]) if len(batch)]
        middle = len(rows) // 2
        return [[rows[at] for at in batch] for batch in planned] if len(planned) > 1 else [rows[:middle], rows[middle:]]


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


def _one_of(pieces: list[Sequence[int]]) -> Sequence[int]:
    """Take one row out of the middle of the next piece; the rest goes to the end, so that each piece has its turn."""
    piece = pieces.pop(0)
    if len(piece) == 1:
        return piece
    middle = len(piece) // 2
    pieces.append([*piece[:middle], *piece[middle + 1 :]])
    return [piece[middle]]


def _patience(error: Exception) -> int:
    """Return how many failures in a row it takes until the fault is not in the inputs."""
    return _PATIENCE_WITH_INPUTS if isinstance(error, InvalidInputError) else _PATIENCE


def _is_about_inputs(error: Exception) -> bool:
    """Tell whether an input may be the reason of a failure."""
    status = error.status_code if isinstance(error, ProviderError) else None
    if isinstance(error, AuthenticationError):
        return status == _FORBIDDEN
    return not isinstance(error, _OF_THE_ACCOUNT) and status not in _WRONG_ADDRESS


def _blamed(request: Request, row: int, reason: Exception) -> Exception:
    if isinstance(reason, InvalidInputError | EmbeddingIntegrityError):
        return reason
    index = request.indices[row]
    name = f"input {index}{first_words(request.inputs[row])}"
    msg = f"{name} fails, unlike others sent with it; change it or leave it out: {reason}"
    blamed = InvalidInputError(msg, indices=[index])
    blamed.__cause__ = reason
    return blamed
