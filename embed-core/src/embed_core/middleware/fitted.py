"""Texts longer than the model: cut, refused, or split into windows whose vectors are averaged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from embed_core._io import IO
from embed_core._result import Onward, Result, without
from embed_core._types import Kind, LongText, Request, Vectors
from embed_core.errors import InputTooLongError

Windows: TypeAlias = Sequence[tuple[str, int]]
"""The pieces of one text, each with its length in tokens."""

_BYTES_PER_TOKEN = 4
_GROWTH = 11  # the most bytes that Unicode's compatibility forms, as tokenizers take them, make of one: U+FDFA
_HALF_PRECISION = 1e-3  # how far a unit vector may be from length 1

_log = logging.getLogger("embed_core")


@dataclass(frozen=True, slots=True)
class Fitted:
    """Applies the `long_text` policy to texts that exceed the model's length.

    Attributes:
        limit: how many tokens of a text of some kind the model takes, beside prompt and special tokens; None: no limit.
        windows: splits a text into pieces that each fit the limit; one piece where it fits whole.
        normalizes: whether the model returns unit vectors, so that means are made unit vectors again; where it is not
            known to, the windows tell.
        known: the limits that were asked for already.
        warned: not empty once it was said that texts are cut.
        room: how many bytes fit for sure, where the limit is not known yet.
    """

    policy: LongText
    limit: Callable[[Kind], int | None]
    windows: Callable[[Kind, str, int], Windows]
    normalizes: bool
    known: dict[Kind, int | None] = field(default_factory=dict)
    warned: list[bool] = field(default_factory=list)
    room: Callable[[], int] = lambda: 0

    async def __call__(self, request: Request, next: Onward, io: IO) -> Result:
        kind = request.kind
        if kind == "image":
            return await next(request)
        if kind not in self.known:  # a tokenizer may have to be loaded to tell, which short texts do not need
            if max(map(_most_tokens, request.inputs)) <= await io.call(self.room):
                return await next(request)
            self.known[kind] = await io.call(lambda: self.limit(kind))
        if (limit := self.known[kind]) is None:
            return await next(request)
        # A token stands for at least one byte of UTF-8 in every tokenizer in use, so most texts need no tokenizer.
        suspects = [row for row, text in enumerate(request.inputs) if len(text.encode()) > limit]
        split = await io.call(lambda: self._split(request, suspects, limit)) if suspects else {}
        if not split:
            return await next(request)
        if self.policy == "error":
            return await without(request, dict.fromkeys(split, _too_long(request, split, limit)), next)
        if self.policy == "truncate":
            self._warn(len(split), limit)
            return await next(_cut(request, split))
        return await self._mean(request, split, next)

    def _warn(self, count: int, limit: int) -> None:
        """Say once for each model that texts are cut; every event still counts them."""
        if not self.warned:
            self.warned.append(True)
            words = "%d texts of this call have more than %d tokens and are cut; set `long_text` for something else"
            _log.warning(words, count, limit)

    def _split(self, request: Request, rows: Sequence[int], limit: int) -> dict[int, Windows]:
        windows = {row: self.windows(request.kind, request.inputs[row], limit) for row in rows}
        return {row: pieces for row, pieces in windows.items() if len(pieces) > 1}

    async def _mean(self, request: Request, split: Mapping[int, Windows], next: Onward) -> Result:
        pieces = [(row, *piece) for row, text in enumerate(request.inputs) for piece in split.get(row, [(text, 1)])]
        owners = np.array([row for row, _, _ in pieces])
        weights = np.array([tokens for _, _, tokens in pieces], dtype=np.float64)
        request.progress.extend(len(pieces) - len(request.inputs))
        parts = replace(
            request,
            inputs=[window for _, window, _ in pieces],
            indices=[request.indices[row] for row in owners],
            ids=range(len(pieces)),
        )
        found, result = await next(parts), Result(len(request.inputs))
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        plain = [row for row in range(len(request.inputs)) if row not in split]
        result.place(plain, found.pick(starts[plain].tolist()))
        for row in split:
            piece = range(starts[row], starts[row] + len(split[row]))
            if reason := next_failure(found, piece):
                result.fail([row], reason)
            elif found.done[piece].all():
                mean = self._average(found.vectors[piece], weights[piece])
                result.place([row], Result.of(mean[np.newaxis]))
        return result

    def _average(self, vectors: Vectors, weights: NDArray[np.float64]) -> Vectors:
        mean = np.average(vectors.astype(np.float64), axis=0, weights=weights)
        unit = self.normalizes or np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=_HALF_PRECISION)
        if unit and (norm := np.linalg.norm(mean)):  # windows that cancel out point nowhere
            mean /= norm
        average: Vectors = mean.astype(np.float32)
        return average


def next_failure(found: Result, rows: Iterable[int]) -> Exception | None:
    """Return the reason of the first of some rows that failed."""
    return next((found.failed[row] for row in rows if row in found.failed), None)


def byte_windows(text: str, limit: int) -> Windows:
    """Split a text at white space into pieces of at most `limit` estimated tokens, four bytes of UTF-8 each.

    For models whose tokenizer is out of reach; https://platform.openai.com/tokenizer gives the same rule of thumb.
    """
    data, room, start = text.encode(), limit * _BYTES_PER_TOKEN, 0
    pieces: list[bytes] = []
    while len(data) - start > room:
        stop = start + room
        while data[stop] & 0xC0 == 0x80:  # inside a character
            stop -= 1
        space = max(data.rfind(b" ", start, stop), data.rfind(b"\n", start, stop))
        stop = space + 1 if space >= start else stop
        pieces.append(data[start:stop])
        start = stop
    pieces.append(data[start:])
    return [(piece.decode(), -(-len(piece) // _BYTES_PER_TOKEN)) for piece in pieces]


def _cut(request: Request, split: Mapping[int, Windows]) -> Request:
    inputs = [split[row][0][0] if row in split else text for row, text in enumerate(request.inputs)]
    return replace(request, inputs=inputs, cut=frozenset(request.ids[row] for row in split))


def _too_long(request: Request, split: Mapping[int, Windows], limit: int) -> InputTooLongError:
    named = ", ".join(
        f"input {request.indices[row]} ({sum(tokens for _, tokens in pieces)} tokens)" for row, pieces in split.items()
    )
    return InputTooLongError(
        f"longer than the {limit} tokens this model takes: {named}; split the text, or choose another `long_text`",
        indices=[request.indices[row] for row in split],
    )


def _most_tokens(text: str) -> int:
    """Return an upper bound of a text's tokens: a byte has at most one."""
    return len(text.encode()) * (1 if text.isascii() else _GROWTH)
