"""Failures of some inputs, told together with what became of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from embed_core._types import Next, Request
from embed_core.errors import BatchError, EmbedError


class Outcome:
    """What became of each input of a request so far, by its id."""

    def __init__(self) -> None:
        self.completed: dict[int, Any] = {}
        self.failed: dict[int, Exception] = {}

    async def send(self, request: Request, onward: Next) -> None:
        """Pass a request on and note what comes of it."""
        try:
            vectors = await onward(request)
        except EmbedError as error:
            self.note(request, error)
        else:
            self.completed.update(zip(request.ids, vectors, strict=True))

    def note(self, request: Request, error: EmbedError) -> None:
        """Note a failure, and what the error itself says of the request's inputs."""
        self.completed.update(error.completed)
        self.failed.update(error.failed or dict.fromkeys(request.ids, error))

    def error(self, request: Request) -> EmbedError:
        """Return the one error there is, or a `BatchError` for errors of several types, with everything noted."""
        return summary(request, self.completed, self.failed)


def summary(request: Request, completed: Mapping[int, Any], failed: dict[int, Exception]) -> EmbedError:
    """Return what to raise when some inputs of a request failed, by id; empty `failed`.

    One type of failure is raised as itself, so that `except RateLimitError` works however many batches there were.
    An error in `failed` has the frame of whoever raises it in its traceback; if that held `failed` in turn, it would
    keep inputs and vectors until the garbage collector comes by.
    """
    first = next(iter(failed.values()))
    if isinstance(first, EmbedError) and all(type(reason) is type(first) for reason in failed.values()):
        error = first
    else:
        error = BatchError(
            f"{len(failed)} of {len(request.inputs)} inputs failed, for different reasons; the first: {first}"
        )
        error.__cause__ = first
    error.indices = tuple(
        sorted({index for index, id_ in zip(request.indices, request.ids, strict=True) if id_ in failed})
    )
    error.completed, error.failed = dict(completed), failed
    failed.clear()
    return error


async def raise_without(request: Request, rows: set[int], error: EmbedError, onward: Next) -> NoReturn:
    """Raise `error` about some rows; where the caller keeps going, embed the others first."""
    outcome = Outcome()
    outcome.failed = {request.ids[row]: error for row in sorted(rows)}
    del error  # this frame will be in its traceback
    others = [row for row in range(len(request.inputs)) if row not in rows]
    if request.keep_going and others:
        await outcome.send(request.pick(others), onward)
    raise outcome.error(request)
