"""The search of a failed batch for the inputs at fault: what is sent next, and when the fault is in the request."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from embed_core._result import Likeness, Result, first_words, likeness
from embed_core._types import Request
from embed_core.errors import (
    AuthenticationError,
    ConfigurationError,
    EmbeddingIntegrityError,
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

_PATIENCE_WITH_ANSWERS = 5
"""The same where the answer makes no sense, which is paid for, so single inputs are sent at once."""

_PROBES = 8
"""Batches that are asked for one input each after the search of another one has begun."""

CREDIT = 40
"""Failed parts in a row after which a success is no proof any more: enough to ask for each input of a usual batch."""

_OF_THE_ACCOUNT = (ConfigurationError, IntegrationNotInstalledError, QuotaExceededError, RateLimitError)
_FORBIDDEN = 403  # the answer of a firewall that dislikes a text, too
_WRONG_ADDRESS = {301, 302, 303, 307, 308, 404, 405}  # or an unknown model


@dataclass(slots=True)
class Doubt:
    """What the batches of one call know together: whether the fault is in an input or in the request.

    Needs no lock: a lost change costs a request or two.

    Attributes:
        settled: whether an input of the call has succeeded, so that the request is in doubt no more.
        credit: how many parts may yet fail in a row, in whatever batches, before a batch runs out of patience.
        batches: counts the batches that failed while the request was in doubt, by the likeness of their errors.
        late: the likeness of the error of inputs that may be sent again after all others, by their ids.
        searched: whether such a batch has been searched.
    """

    settled: bool = False
    credit: int = 0
    batches: dict[Hashable, Iterator[int]] = field(default_factory=partial(defaultdict, count))
    late: dict[int, Likeness] = field(default_factory=dict)
    searched: bool = False

    def claimed(self, ids: Sequence[int]) -> Likeness | None:
        """Return the likeness of the error with which inputs failed that are sent again; None of others."""
        found = [self.late.pop(one, None) for one in ids]
        return found[0]

    def allows_a_search(self) -> bool:
        """Tell whether a batch that is sent again is searched: after a success, or as the last attempt of the call."""
        first, self.searched = not self.searched, True
        return self.settled or first


@dataclass(slots=True)
class Search:
    """The search of a batch that failed for the inputs at fault.

    Attributes:
        request: that of the batch.
        result: what is known of its rows.
        doubt: shared by the batches of the call.
        parts: cuts rows that failed together.
        pieces: rows that are yet to be sent, and together.
        error: the last failure that may be about an input.
        like: its likeness.
        failures: how many there were in a row.
        number: how many batches failed alike before this one while the request was in doubt; if any, it is probed only.
        alone: the rows that failed alone, and why.
    """

    request: Request
    result: Result
    doubt: Doubt
    parts: Callable[[Sequence[int]], list[Sequence[int]]]
    pieces: list[Sequence[int]] = field(default_factory=list)
    error: Exception | None = None
    like: Likeness | None = None
    failures: int = 0
    number: int = 0
    alone: dict[int, Exception] = field(default_factory=dict)

    def piece(self) -> Sequence[int] | None:
        """Take the rows that are sent next; None where all are sent, or the fault is not in the inputs."""
        if not self.pieces or self.like is None:
            return None
        patience = _patience(self.like[0], self.number)
        if self.failures >= patience and self.doubt.credit <= 0:
            return None
        together = self.failures < (_HALVES if patience >= _PATIENCE else 1)
        return self.pieces.pop(0) if together else _one_of(self.pieces, self.number)

    def note(self, piece: Sequence[int], refused: Exception | None) -> None:
        """Note how the sending of a piece ended."""
        left = [row for row in piece if self.result.is_open(row)]
        self.doubt.settled = self.doubt.settled or bool(self.result.done.any())
        if refused is None:
            self.failures, self.number, self.doubt.credit = 0, 0, CREDIT
        elif _is_about_inputs(refused):
            self._failed(piece, left, refused)
        else:
            self.result.fail(left, refused)
            self.pieces = self.pieces if self.request.keep_going else []  # else the others were never sent

    def _failed(self, piece: Sequence[int], left: Sequence[int], error: Exception) -> None:
        first, self.error, self.like = self.like is None, error, likeness(error)
        if len(left) < len(piece):
            self.number, self.failures = 0, 0
            self.pieces += [left] if left else []
            return
        self.failures += 1
        if not first:
            self.doubt.credit -= 1
        elif self.request.keep_going and not self.doubt.settled:
            self.number = next(self.doubt.batches[self.like])
        if len(piece) == 1:
            self.alone[piece[0]] = error
        else:
            self.pieces += self.parts(left)

    def end(self) -> None:
        """Give the reasons of rows that failed alone or are not sent any more, and note them if the batch is late."""
        rest = [row for piece in self.pieces for row in piece]
        if rest and self.number and self.like is not None:
            self.doubt.late.update((self.request.ids[row], self.like) for row in (*self.alone, *rest))
        for row, reason in self.alone.items():
            self.result.fail([row], _blamed(self.request, row, reason) if self.result.done.any() else reason)
        if self.error is not None:
            self.result.fail(rest, self.error)


def _one_of(pieces: list[Sequence[int]], number: int) -> Sequence[int]:
    """Take one row out of the next piece; the rest goes to the end, so that each piece has its turn.

    It is the middle one, or lies elsewhere in each batch that is probed: bad inputs may recur at the same place.
    """
    piece = pieces.pop(0)
    at = number * len(piece) // (_PROBES + 1) % len(piece) if number else len(piece) // 2
    if rest := [*piece[:at], *piece[at + 1 :]]:
        pieces.append(rest)
    return [piece[at]]


def _patience(kind: type[Exception], number: int) -> int:
    """Return how many failures in a row it takes until the fault is not in the inputs of a batch."""
    if number:
        return 2 if number <= _PROBES else 1
    if issubclass(kind, EmbeddingIntegrityError):
        return _PATIENCE_WITH_ANSWERS
    return _PATIENCE_WITH_INPUTS if issubclass(kind, InvalidInputError) else _PATIENCE


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
