"""The batching of every local engine: the texts of all waiting calls, in forward passes of bounded size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from embed_core.forks import Lock, reset_in_children
from numpy.typing import NDArray

from embeddings_huggingface._failures import is_out_of_memory
from embeddings_huggingface._worker import Worker

T = TypeVar("T")

Row: TypeAlias = Sequence[int]
"""The token ids of one text, special tokens included."""


class Engine(Protocol):
    """Runs forward passes of a model.

    Attributes:
        streams: how many threads may call `run` at once.
        budget: the most tokens of a pass with which it is fast, padding included.
    """

    streams: int
    budget: int

    def enter(self) -> None:
        """Make ready the thread that calls `run`."""
        ...

    def run(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Return an array of shape (n, dimension) for the token ids of n texts, the longest first."""
        ...


def padded(rows: Sequence[Row], pad: int, *, left: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the token ids and the attention mask of a pass, of shape (n, length of the longest).

    Args:
        rows: the token ids of n texts.
        pad: the token id of padding.
        left: whether padding stands in front.
    """
    lengths = np.fromiter(map(len, rows), np.intp, len(rows))
    places = np.arange(max(1, lengths.max())) < lengths[:, None]
    mask = places[:, ::-1] if left else places
    ids = np.full(mask.shape, pad, np.int64)
    ids[mask] = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
    return ids, mask.astype(np.int64)


@dataclass(eq=False, slots=True)
class _Call:
    """The texts of one caller.

    Attributes:
        rows: their token ids.
        budget: the most tokens of a pass.
        finish: makes the caller's result from all vectors.
        future: gets the result; the caller cancels it to stop the passes that have not begun.
        waiting: the positions of the texts that are in no pass yet, the longest last.
        open: how many texts have no vector yet.
        vectors: those that are there.
    """

    rows: Sequence[Row]
    budget: int
    finish: Callable[[NDArray[np.float32]], Any]
    future: Future[Any]
    waiting: list[int]
    open: int
    vectors: Any = field(default=None)

    def longest(self) -> int:
        """Return the tokens of the longest text that waits, which take at least one place."""
        return max(1, len(self.rows[self.waiting[-1]])) if self.waiting else 1

    def put(self, at: int, vector: NDArray[np.float32]) -> bool:
        """Place a vector; tell whether it was the last one."""
        if self.vectors is None:
            self.vectors = np.empty((len(self.rows), len(vector)), np.float32)
        self.vectors[at] = vector
        self.open -= 1
        return self.open == 0

    def give_up(self) -> bool:
        """Take the texts out of the queue; tell whether the caller waits for them."""
        self.waiting, open_, self.open = [], self.open, 0
        return open_ > 0

    def settle(self, failed: Exception | None = None) -> None:
        """Give the caller its result, or the error; called once."""
        if not self.future.set_running_or_notify_cancel():
            return None
        if failed is not None:
            return self.future.set_exception(failed)
        try:
            self.future.set_result(self.finish(self.vectors))
        except Exception as error:  # raised again where the caller waits
            self.future.set_exception(error)


_Step: TypeAlias = "list[tuple[_Call, int]]"


class Steps:
    """Puts the texts of all calls that wait for a model into its passes.

    A pass takes texts of one call, longest first, so that texts of similar length are padded little; calls take turns.
    Other calls that wait ride along where they fit whole, so concurrent single texts share passes and none waits for
    company.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._workers = Worker(engine.streams)
        self.reset()
        reset_in_children(self)

    def reset(self) -> None:
        """Forget the calls, whose threads a forked child does not have."""
        self._lock = Lock()
        self._calls: deque[_Call] = deque()
        self._most: int | None = None  # tokens of a pass, since a larger one ran out of memory

    def submit(self, rows: Sequence[Row], budget: int | None, finish: Callable[[NDArray[np.float32]], T]) -> Future[T]:
        """Embed texts.

        Args:
            rows: the token ids of at least one text.
            budget: the most tokens of a pass, padding included; a longer text has a pass of its own. None means the
                engine's own number.
            finish: makes the result of the array of vectors, a row for each text in their order.
        """
        waiting = sorted(range(len(rows)), key=lambda at: len(rows[at]))
        call = _Call(rows, budget or self._engine.budget, finish, Future(), waiting, len(rows))
        with self._lock:
            self._calls.append(call)
        for _ in range(min(self._engine.streams, len(rows))):
            self._workers.submit(self._work)
        return call.future

    def _work(self) -> None:
        self._engine.enter()
        while step := self._next():
            self._do(step)

    def _next(self) -> _Step:
        """Take the texts of the next pass; none where no call waits."""
        with self._lock:
            while self._calls:
                call = self._calls.popleft()
                if call.waiting and not call.future.cancelled():
                    return list(self._taken(call))
        return []

    def _taken(self, call: _Call) -> Iterator[tuple[_Call, int]]:
        budget, longest = min(call.budget, self._most or call.budget), call.longest()
        count = min(len(call.waiting), max(1, budget // longest))
        for _ in range(count):
            yield call, call.waiting.pop()
        for other in sorted(self._calls, key=lambda other: abs(other.longest() - longest)):  # to be padded little
            if (count + 1) * longest > budget:
                break
            longer, more = max(longest, other.longest()), count + len(other.waiting)
            if more * longer <= min(budget, other.budget) and not other.future.cancelled():
                longest, count = longer, more
                yield from ((other, at) for at in reversed(other.waiting))
                other.waiting = []
        if call.waiting:
            self._calls.append(call)

    def _do(self, step: _Step) -> None:
        step.sort(key=_length, reverse=True)
        try:
            vectors = self._run([call.rows[at] for call, at in step])
        except Exception as error:  # raised again where its callers wait
            self._failed(step, error)
            return
        with self._lock:
            finished = {call for (call, at), vector in zip(step, vectors, strict=True) if call.put(at, vector)}
        for call in finished:
            call.settle()

    def _run(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        vectors = self._engine.run(rows)
        if len(vectors) != len(rows):
            raise ValueError(f"the engine returned {len(vectors)} vectors for {len(rows)} texts")
        return vectors

    def _failed(self, step: _Step, error: Exception) -> None:
        """Halve a pass that ran out of memory, and the ones to come; keep an error from the calls that rode along."""
        calls = list(dict.fromkeys(call for call, _ in step))
        if is_out_of_memory(error) and len(step) > 1:
            half = len(step) // 2
            self._most = half * _length(step[0])
            parts = [step[:half], step[half:]]
        elif len(calls) > 1:
            parts = [[one for one in step if one[0] is call] for call in calls]
        else:
            with self._lock:
                waited_for = calls[0].give_up()
            if waited_for:  # and no other pass of the call has failed before
                calls[0].settle(error)
            return
        for part in parts:
            self._do(part)


def _length(place: tuple[_Call, int]) -> int:
    call, at = place
    return len(call.rows[at])
