"""The batching of local engines, with engines whose passes can be watched and held up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from embed_core import Vectors
from embeddings_huggingface._steps import Row, Steps, padded
from hypothesis import given
from hypothesis import strategies as st


class Watched:
    """An engine whose vector of a text is (its length, its first token); it keeps the lengths of every pass."""

    def __init__(self, streams: int = 1, budget: int = 100) -> None:
        self.streams, self.budget = streams, budget
        self.passes: list[list[int]] = []
        self.hold: Callable[[Sequence[Row]], Any] = lambda rows: None

    def enter(self) -> None:
        pass

    def run(self, rows: Sequence[Row]) -> Vectors:
        self.passes.append([len(row) for row in rows])
        self.hold(rows)
        return np.array([[len(row), row[0] if row else -1] for row in rows], np.float32)


def begin(steps: Steps, lengths: Sequence[int], first: int = 0, budget: int | None = None) -> Future[Any]:
    return steps.submit([[first + at] * length for at, length in enumerate(lengths)], budget, lambda vectors: vectors)


def expected(lengths: Sequence[int], first: int = 0) -> list[list[float]]:
    return [[length, first + at if length else -1] for at, length in enumerate(lengths)]


@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=30), min_size=1, max_size=6), st.integers(1, 200))
def test_every_vector_goes_to_its_own_text(calls: list[list[int]], budget: int) -> None:
    engine = Watched(streams=3, budget=budget)
    steps = Steps(engine)
    futures = [begin(steps, lengths, 1000 * number) for number, lengths in enumerate(calls)]
    for number, (lengths, future) in enumerate(zip(calls, futures, strict=True)):
        assert future.result().tolist() == expected(lengths, 1000 * number)
    assert sum(map(len, engine.passes)) == sum(map(len, calls))
    for lengths in engine.passes:
        assert len(lengths) == 1 or len(lengths) * max(lengths) <= budget
        assert lengths == sorted(lengths, reverse=True)


def test_a_pass_takes_the_longest_texts_first_and_is_padded_little() -> None:
    engine = Watched(budget=20)
    begin(Steps(engine), [3, 10, 1, 9, 4, 30]).result()
    assert engine.passes == [[30], [10, 9], [4, 3, 1]]


def test_a_call_has_its_own_budget() -> None:
    engine = Watched(budget=100)
    begin(Steps(engine), [5, 5, 5, 5], budget=10).result()
    assert engine.passes == [[5, 5], [5, 5]]


def held(engine: Watched) -> tuple[threading.Event, threading.Event]:
    """Let the first pass wait until it is told to go on."""
    began, go_on = threading.Event(), threading.Event()

    def wait(_: Sequence[Row]) -> None:
        began.set()
        assert go_on.wait(60)

    engine.hold = wait
    return began, go_on


def test_single_texts_that_wait_share_a_pass() -> None:
    engine = Watched()
    steps, (began, go_on) = Steps(engine), held(engine)
    first = begin(steps, [7])
    assert began.wait(60)
    waiting = [begin(steps, [length], 100 * length) for length in (3, 5, 4)]
    go_on.set()
    assert [future.result().tolist() for future in waiting] == [expected([n], 100 * n) for n in (3, 5, 4)]
    assert first.result().tolist() == expected([7])
    assert engine.passes == [[7], [5, 4, 3]]


def test_texts_that_share_a_pass_are_of_similar_length_and_within_the_budget_of_each() -> None:
    engine = Watched(budget=30)
    steps, (began, go_on) = Steps(engine), held(engine)
    first = begin(steps, [7])
    assert began.wait(60)
    waiting = [begin(steps, [length]) for length in (10, 2, 11, 3, 9, 2)]
    waiting.append(begin(steps, [8], budget=8))
    go_on.set()
    for future in (first, *waiting):
        future.result()
    assert engine.passes == [[7], [11, 10], [3, 2, 2], [9], [8]]


def test_a_single_text_does_not_wait_for_all_of_a_long_call() -> None:
    engine = Watched(budget=10)
    steps, (began, go_on) = Steps(engine), held(engine)
    long = begin(steps, [10] * 5)
    assert began.wait(60)
    single = begin(steps, [2], 77)
    go_on.set()
    assert single.result().tolist() == expected([2], 77)
    long.result()
    assert engine.passes.index([2]) <= 2


def test_a_cancelled_call_has_no_more_passes_and_others_have_theirs() -> None:
    engine = Watched(budget=10)
    steps, (began, go_on) = Steps(engine), held(engine)
    long = begin(steps, [10] * 50)
    assert began.wait(60)
    assert long.cancel()
    other = begin(steps, [9], 5)
    go_on.set()
    assert other.result().tolist() == expected([9], 5)
    assert engine.passes == [[10], [9]]


def test_an_error_reaches_the_caller_of_its_text_alone() -> None:
    engine = Watched()
    steps, (began, go_on) = Steps(engine), held(engine)
    first = begin(steps, [7])
    assert began.wait(60)
    good, bad = begin(steps, [3], 1), begin(steps, [4], 666)

    def fail(rows: Sequence[Row]) -> None:
        if any(row[0] == 666 for row in rows):
            raise ValueError("a bad text")

    engine.hold = fail
    go_on.set()
    assert good.result().tolist() == expected([3], 1)
    with pytest.raises(ValueError, match="a bad text"):
        bad.result()
    first.result()
    assert begin(steps, [1], 5).result().tolist() == expected([1], 5)


def test_passes_of_one_call_that_fail_at_the_same_time_are_one_error() -> None:
    engine = Watched(streams=2, budget=10)
    both = threading.Barrier(2, timeout=60)

    def fail(rows: Sequence[Row]) -> None:
        both.wait()
        raise ValueError("both")

    engine.hold = fail
    steps = Steps(engine)
    for _ in range(50):
        with pytest.raises(ValueError, match="both"):
            begin(steps, [10, 10]).result()
    engine.hold = lambda rows: None
    assert begin(steps, [1], 5).result().tolist() == expected([1], 5)


def test_a_pass_out_of_memory_is_halved_and_later_passes_are_no_larger() -> None:
    engine = Watched(budget=80)

    def fail(rows: Sequence[Row]) -> None:
        if len(rows) * len(rows[0]) > 20:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    engine.hold = fail
    steps = Steps(engine)
    assert begin(steps, [10] * 8).result().tolist() == expected([10] * 8)
    assert engine.passes == [[10] * 8, [10] * 4, [10] * 2, [10] * 2, [10] * 4, [10] * 2, [10] * 2]
    engine.passes.clear()
    assert begin(steps, [5] * 8).result().tolist() == expected([5] * 8)
    assert engine.passes == [[5] * 4, [5] * 4]


def test_one_text_that_is_too_large_for_the_memory_is_its_own_callers_error() -> None:
    engine = Watched()

    def fail(rows: Sequence[Row]) -> None:
        raise MemoryError

    engine.hold = fail
    with pytest.raises(MemoryError):
        begin(Steps(engine), [10]).result()


def test_several_passes_run_at_once_where_the_engine_can() -> None:
    engine = Watched(streams=2, budget=10)
    both = threading.Barrier(2, timeout=60)
    engine.hold = lambda rows: both.wait()
    begin(Steps(engine), [10, 10, 10, 10]).result()
    assert engine.passes == [[10]] * 4


def test_an_engine_that_returns_too_few_vectors_is_an_error() -> None:
    class Short(Watched):
        def run(self, rows: Sequence[Row]) -> Vectors:
            return super().run(rows)[1:]

    with pytest.raises(ValueError, match="1 vectors for 2 texts"):
        begin(Steps(Short()), [1, 2]).result()


def test_what_finish_raises_reaches_the_caller() -> None:
    def finish(_: Vectors) -> None:
        raise KeyError("finish")

    with pytest.raises(KeyError, match="finish"):
        Steps(Watched()).submit([[1]], None, finish).result()


@pytest.mark.parametrize("left", [False, True])
def test_padding_stands_where_the_tokenizer_wants_it(left: bool) -> None:
    ids, mask = padded([[5, 6, 7], [8], []], 9, left=left)
    rows = [[5, 6, 7], [9, 9, 8], [9, 9, 9]] if left else [[5, 6, 7], [8, 9, 9], [9, 9, 9]]
    assert ids.tolist() == rows
    assert mask.sum(axis=1).tolist() == [3, 1, 0]
    assert (ids[mask == 1] == [5, 6, 7, 8]).all()
