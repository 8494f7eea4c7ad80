"""Each middleware alone: the same vectors, provider calls and events, whoever drives it and whatever goes wrong."""

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
from embed_core import Cache, RateLimiter, Result, errors
from embed_core._io import Asyncio, Blocking, Ended, Threaded, drive
from embed_core._result import likeness
from embed_core._rows import Dense
from embed_core._search import Doubt
from embed_core._space import Dimension, keys
from embed_core._types import Origin, Progress, ProviderResponse, Request
from embed_core.errors import (
    AuthenticationError,
    ConfigurationError,
    EmbeddingIntegrityError,
    EmbedError,
    InputTooLongError,
    InvalidInputError,
    ProviderError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
)
from embed_core.instrumentation import EmbeddingEndEvent, EmbeddingErrorEvent, EmbeddingEvent
from embed_core.kvstore import MemoryKVStore
from embed_core.middleware.batched import Batched
from embed_core.middleware.checked import Checked
from embed_core.middleware.fitted import Fitted, byte_windows
from embed_core.middleware.instrumented import Instrumented
from embed_core.middleware.isolated import Isolated
from embed_core.middleware.joined import Joined
from embed_core.middleware.rate_limited import RateLimited
from embed_core.middleware.recalled import Recalled
from embed_core.middleware.remembered import Remembered
from embed_core.middleware.retried import Retried, RetryPolicy
from embed_core.middleware.traced import Traced
from embed_core.middleware.validated import Validated
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = st.text(alphabet="abcde", min_size=1, max_size=2)
TEXTS = st.lists(TEXT, min_size=1, max_size=12)
SOME = st.sets(TEXT, max_size=4)
quickly = settings(max_examples=40)


class Quick:
    """A runner that sleeps in no time, and keeps how long it should have been."""

    def __init__(self):
        super().__init__()
        self.slept = []

    async def sleep(self, seconds):
        self.slept.append(seconds)
        await super().sleep(0)


class QuickBlocking(Quick, Blocking):
    pass


class QuickThreaded(Quick, Threaded):
    pass


class QuickAsyncio(Quick, Asyncio):
    pass


class Counting(Progress):
    def __init__(self):
        self.done = self.expected = 0
        self._lock = threading.Lock()

    def advance(self, count):
        with self._lock:
            self.done += count

    def extend(self, count):
        self.expected += count


@dataclass
class Provider:
    """What stands behind the middleware: answers honestly, and notes what it is asked."""

    answer: Any
    asked: list = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    async def __call__(self, io, request):
        with self.lock:
            self.asked.append((tuple(request.inputs), tuple(request.ids)))
            number = len(self.asked)
        await io.sleep(0)
        return self.answer(request, number)


def vectors_of(texts):
    return np.array([[len(text), *map(ord, text[:1])] for text in texts], dtype=np.float32).reshape(len(texts), 2)


def honest(request, number):
    return vectors_of(request.inputs)


def failing_at(bad, error):
    """Answer honestly, unless the batch holds a bad text."""

    def answer(request, number):
        if bad & set(request.inputs):
            raise error(f"{sorted(bad & set(request.inputs))}")
        return honest(request, number)

    return answer


def told(error):
    """Return everything that an error tells."""
    completed = {index: vector.tolist() for index, vector in error.completed.items()}
    failed = {index: type(reason).__name__ for index, reason in error.failed.items()}
    return type(error).__name__, error.indices, completed, failed


class Both:
    """One middleware around another."""

    def __init__(self, outer, inner):
        self.outer, self.inner = outer, inner

    async def __call__(self, request, onward, io):
        return await self.outer(request, lambda some: self.inner(some, onward, io), io)


OF_THE_CALL = (Both, Validated, Fitted, Recalled, Batched, Joined, Remembered)


async def through(middleware, request, provide, io):
    """Settle the result of a middleware of the call, or of one attempt; the two halves meet in `Isolated`."""
    if not isinstance(middleware, OF_THE_CALL) or isinstance(getattr(middleware, "inner", None), Isolated):
        found = await middleware(request, provide, io)
    else:
        meeting = Isolated(lambda kind, inputs: [range(len(inputs))])
        found = await middleware(request, lambda some: meeting(some, provide, io), io)
    return found.settled(request) if isinstance(found, Result) else found


def play(runner, make, inputs, answer=honest, *, kind="text", keep_going=False):
    """Return what can be observed when `make(heard)` stands before the provider."""
    heard, provider, bar = [], Provider(answer), Counting()

    async def call():
        io = runner()
        rows = range(len(inputs))
        middleware, request = make(heard), Request(kind, inputs, rows, rows, keep_going=keep_going, progress=bar)
        try:
            result = (await through(middleware, request, partial(provider, io), io)).tolist()
        except EmbedError as error:
            result = told(error)
        return result, [seconds for seconds in io.slept if seconds]

    result, slept = asyncio.run(call()) if runner is QuickAsyncio else drive(call())
    return result, Counter(provider.asked), Counter(map(seen, heard)), Counter(slept), bar.done, bar.expected


def seen(record):
    """Return what must be alike of an event or a span: not its id, not its times."""
    if not isinstance(record, EmbeddingEvent):
        return type(record).__name__, record.size, record.duration is None, type(record.error).__name__
    shown = [type(record).__name__, tuple(getattr(record, "chunks", ()))]
    shown += [getattr(record, name, None) for name in ("attempts", "truncated", "hits", "misses", "response_model")]
    if isinstance(record, EmbeddingEndEvent):
        shown.append(str(record.embeddings.tolist()))
    if isinstance(record, EmbeddingErrorEvent):
        shown.append(type(record.error).__name__)
    return tuple(shown)


def alike(make, inputs, answer=lambda: honest, **more):
    """Play under every runner, with a provider and a middleware of its own each time; return what all saw."""
    first, *others = [
        play(runner, make, inputs, answer(), **more) for runner in (QuickBlocking, QuickThreaded, QuickAsyncio)
    ]
    assert all(other == first for other in others)
    return first


def listening(heard):
    return lambda: (heard.append,)


def key_of(kind, inputs):
    return keys("f" * 32, kind, inputs)


def cache_of(store):
    return Cache(store, "f" * 32, Dense(), Dimension())


def stored(texts):
    store = MemoryKVStore()
    store.put_many(Dense().encode(key_of("text", sorted(texts)), vectors_of(sorted(texts))))
    return store


class Spans:
    def __init__(self, heard):
        self.on_span_start = self.on_span_end = heard.append


@given(texts=TEXTS, bad=SOME)
@quickly
def test_traced_tells_one_span_around_the_call(texts, bad):
    def make(heard):
        return Traced("m", listening(heard), lambda: [Spans(heard)])

    result, asked, heard, *_ = alike(make, texts, lambda: failing_at(bad, QuotaExceededError))
    assert asked.total() == 1
    assert heard.total() == 2
    error = "QuotaExceededError" if bad & set(texts) else "NoneType"
    assert heard[("Span", len(texts), False, error)] == 1
    assert bad & set(texts) or result == vectors_of(texts).tolist()


WRONG = st.sampled_from([None, 7, b"bytes", "\ud800", " "])


@given(texts=st.lists(st.one_of(TEXT, WRONG), min_size=1, max_size=10), keep_going=st.booleans())
@quickly
def test_validated_refuses_by_index_and_sends_the_others_where_asked_to(texts, keep_going):
    result, asked, *_ = alike(lambda heard: Validated(accepts_blank=False), texts, keep_going=keep_going)
    wrong = [row for row, text in enumerate(texts) if text in (None, 7, b"bytes", "\ud800", " ")]
    good = [row for row in range(len(texts)) if row not in wrong]
    if not wrong:
        assert result == vectors_of(texts).tolist()
    else:
        assert result[0] == "InvalidInputError"
        assert list(result[3]) == wrong == list(result[1])
        assert list(result[2]) == (good if keep_going else [])
    assert asked.total() == (not wrong or (keep_going and bool(good)))


class Loader:
    """Loads what is no number."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def load(self, source, index):
        if isinstance(source, int):
            raise InvalidInputError("is a number")
        return source.upper()


@given(
    images=st.lists(st.one_of(TEXT, st.just(7)), min_size=1, max_size=10),
    workers=st.integers(1, 4),
    keep_going=st.booleans(),
)
@quickly
def test_validated_loads_images_side_by_side_and_in_order(images, workers, keep_going):
    def make(heard):
        return Validated(True, Loader, workers)

    result, *_ = alike(make, images, kind="image", keep_going=keep_going)
    if 7 not in images:
        assert result == vectors_of([image.upper() for image in images]).tolist()
    else:
        assert list(result[3]) == [row for row, image in enumerate(images) if image == 7]
        assert len(result[2]) == (len(images) - images.count(7) if keep_going else 0)


LONG = st.one_of(TEXT, st.sampled_from(["ab cd ef gh", "a" * 30, "eine längere Zeile"]))


@given(
    texts=st.lists(LONG, min_size=1, max_size=6),
    policy=st.sampled_from(["truncate", "error", "mean"]),
    bad=st.sets(st.sampled_from(["a", "b", "ab cd ef", "a" * 12]), max_size=2),
    keep_going=st.booleans(),
)
@quickly
def test_fitted_treats_long_texts_alike(texts, policy, bad, keep_going):
    def make(heard):
        return Fitted(policy, lambda kind: 3, lambda kind, text, limit: byte_windows(text, limit), True)

    def batched(heard):
        return Both(make(heard), Batched(lambda kind, inputs: [[row] for row in range(len(inputs))], 1))

    result, asked, *_ = alike(batched, texts, lambda: failing_at(bad, InputTooLongError), keep_going=keep_going)
    sent = {one for (inputs, _) in asked for one in inputs}
    if policy == "error":
        assert sent <= {text for text in texts if len(byte_windows(text, 3)) == 1}
    if isinstance(result, list) and policy == "truncate":
        assert result == vectors_of([byte_windows(text, 3)[0][0] for text in texts]).tolist()


@given(texts=TEXTS, warm=SOME, bad=SOME, keep_going=st.booleans())
@quickly
def test_recalled_asks_once_for_each_text_it_does_not_have(texts, warm, bad, keep_going):
    def make(heard):
        return Recalled(cache_of(stored(warm)), "m", listening(heard))

    result, asked, heard, _, done, _ = alike(
        make, texts, lambda: failing_at(bad, QuotaExceededError), keep_going=keep_going
    )
    missing = tuple(dict.fromkeys(text for text in texts if text not in warm))
    assert [inputs for inputs, _ in asked] == ([missing] if missing else [])
    hits = sum(text in warm for text in texts)
    assert done == len(texts) - len(missing)
    assert [record[4:6] for record in heard] == [(hits, len(texts) - hits)]
    if not bad & set(missing):
        assert result == vectors_of(texts).tolist()
    else:
        assert sorted(result[2]) == [row for row, text in enumerate(texts) if text in warm]


@st.composite
def plans(draw):
    """Texts, and the positions of all of them in batches of any size and order."""
    texts = draw(TEXTS)
    order = draw(st.permutations(range(len(texts))))
    cuts = sorted(draw(st.sets(st.integers(1, len(texts)), max_size=5)))
    return texts, [order[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(texts)], strict=True)]


@given(plan=plans(), workers=st.integers(1, 4), bad=SOME, keep_going=st.booleans())
@settings(max_examples=80)
def test_batched_puts_every_vector_on_its_row_and_tells_what_failed(plan, workers, bad, keep_going):
    texts, batches = plan
    failing = failing_at(bad, QuotaExceededError)
    if workers > 1 and not keep_going:  # what was sent before the failure depends on timing
        results = [
            play(runner, lambda heard: Batched(lambda kind, inputs: batches, workers), texts, failing)
            for runner in (QuickBlocking, QuickThreaded, QuickAsyncio)
        ]
    else:
        make = lambda heard: Batched(lambda kind, inputs: batches, workers)
        results = [alike(make, texts, lambda: failing, keep_going=keep_going)]
    failed = {row for batch in batches for row in batch if bad & {texts[one] for one in batch}}
    for result, asked, _, _, done, _ in results:
        if not failed:
            assert result == vectors_of(texts).tolist()
            assert asked.total() == sum(map(bool, batches))
            assert done == len(texts)
            continue
        name, indices, completed, reasons = result
        assert name == "QuotaExceededError"
        assert set(reasons) == set(indices) <= failed
        assert all(vector == vectors_of([texts[row]])[0].tolist() for row, vector in completed.items())
        assert not keep_going or (set(reasons) == failed and len(completed) == len(texts) - len(failed))


@pytest.mark.parametrize("workers", [1, 3])
def test_batched_tells_of_errors_that_are_not_ours_with_their_cause(workers):
    def break_down(request, number):
        raise ZeroDivisionError("a bug in a middleware")

    def make(heard):
        return Batched(lambda kind, inputs: [[row] for row in range(len(inputs))], workers)

    result, *_ = alike(make, ["a", "b", "c"], lambda: break_down, keep_going=True)
    assert result == ("BatchError", (0, 1, 2), {}, dict.fromkeys(range(3), "ZeroDivisionError"))


@pytest.mark.parametrize("runner", [QuickBlocking, QuickThreaded, QuickAsyncio])
def test_batched_passes_on_what_ends_it_from_outside(runner):
    def end(request, number):
        raise Ended

    with pytest.raises(Ended):
        play(runner, lambda heard: Batched(lambda kind, inputs: [[0], [1]], 2), ["a", "b"], end)


@pytest.mark.parametrize("runner", [QuickThreaded, QuickAsyncio])
def test_batched_never_returns_rows_that_no_batch_has_filled(runner):
    async def call():
        io = runner()
        io.end()
        request = Request("text", ["a", "b"], range(2), range(2))
        await through(Batched(lambda kind, inputs: [[0], [1]], 2), request, partial(Provider(honest), io), io)

    with pytest.raises(Ended):
        asyncio.run(call()) if runner is QuickAsyncio else drive(call())


@given(texts=TEXTS, bad=SOME, named=st.booleans())
@quickly
def test_isolated_finds_the_culprits_in_few_calls(texts, bad, named):
    def refuse(request, number):
        culprits = [row for row, text in enumerate(request.inputs) if text in bad]
        if culprits:
            raise InputTooLongError("no", indices=[request.indices[row] for row in culprits] if named else ())
        return honest(request, number)

    result, asked, *_ = alike(lambda heard: Isolated(lambda kind, inputs: [range(len(inputs))]), texts, lambda: refuse)
    wrong = [row for row, text in enumerate(texts) if text in bad]
    if not wrong:
        assert result == vectors_of(texts).tolist()
        assert asked.total() == 1
        return
    assert result[0] == "InputTooLongError"
    assert len(texts) == 1 or sorted(result[3]) == wrong
    assert len(texts) == 1 or sorted(result[2]) == [row for row in range(len(texts)) if row not in wrong]
    assert asked.total() <= (2 if named else 1 + 2 * len(wrong) * (len(texts).bit_length()))


REASONS = {
    "a server error": lambda: ProviderUnavailableError("unsupported value: NaN", status_code=500),
    "a firewall": lambda: AuthenticationError("forbidden", status_code=403),
    "a filter": lambda: ProviderError("content filtered", status_code=400),
    "a cut connection": lambda: ProviderUnavailableError("EOF"),
    "a bug": lambda: IndexError("list index out of range"),
    "an answer without sense": lambda: EmbeddingIntegrityError("0 vectors"),
}


def isolated(heard):
    return Isolated(lambda kind, inputs: [range(len(inputs))])


@given(
    count=st.integers(2, 300),
    bad=st.sets(st.integers(0, 299), min_size=1, max_size=3),
    reason=st.sampled_from(sorted(REASONS)),
)
@quickly
def test_isolated_blames_inputs_in_whatever_words_a_batch_fails(count, bad, reason):
    texts = [f"text {number}" for number in range(count)]
    bad = {number % (count - 1) for number in bad} if count > 2 else {0}
    culprits = {texts[number] for number in bad}
    result, asked, *_ = alike(isolated, texts, lambda: failing_at(culprits, lambda _: REASONS[reason]()))
    sense = "EmbeddingIntegrityError" if reason == "an answer without sense" else "InvalidInputError"
    assert (result[0], result[1]) == (sense, tuple(sorted(bad)))
    assert sorted(result[2]) == [row for row in range(count) if row not in bad]
    assert asked.total() <= 8 + 3 * len(bad) * count.bit_length()


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("count", [1, 2, 3, 32, 2048])
def test_isolated_gives_up_in_few_calls_where_the_fault_is_in_the_request(reason, count):
    texts = [f"text {number}" for number in range(count)]
    result, asked, *_ = alike(isolated, texts, lambda: failing_at(set(texts), lambda _: REASONS[reason]()))
    assert result[0] == ("BatchError" if reason == "a bug" else type(REASONS[reason]()).__name__)
    assert sorted(result[3]) == list(range(count))
    assert asked.total() <= min(5 if reason == "an answer without sense" else 8, 2 * count - 1)


WORKERS = st.sampled_from([1, 3, 16])


def in_batches(of, workers):
    def make(heard):
        doubt = Doubt()
        batched = Batched(lambda kind, inputs: np.arange(len(inputs)).reshape(-1, of).tolist(), workers, doubt.late)
        return Both(batched, Isolated(lambda kind, inputs: [range(len(inputs))], doubt))

    return make


@pytest.mark.parametrize("runner", [QuickBlocking, QuickThreaded, QuickAsyncio])
@pytest.mark.parametrize("reason", REASONS)
def test_isolated_searches_few_batches_of_a_call_where_the_fault_is_in_the_request(reason, runner):
    texts = [f"text {number}" for number in range(400)]
    answer = failing_at(set(texts), lambda _: REASONS[reason]())
    for keep_going in (True, False):
        result, asked, *_ = play(runner, in_batches(16, 8), texts, answer, keep_going=keep_going)
        assert asked.total() <= (25 + 3 * 8 if keep_going else 8 * 8)  # else eight batches are searched side by side
        assert result[2] == {}
        assert keep_going is False or sorted(result[3]) == list(range(400))


@pytest.mark.parametrize("runner", [QuickBlocking, QuickThreaded, QuickAsyncio])
@given(bad=st.lists(st.sets(st.integers(0, 7), min_size=1, max_size=4), min_size=8, max_size=8), workers=WORKERS)
@quickly
def test_isolated_finds_every_bad_input_of_a_call_where_others_succeed(runner, bad, workers):
    found_exactly(runner, bad, workers)


@pytest.mark.parametrize("runner", [QuickBlocking, QuickThreaded, QuickAsyncio])
@given(place=st.integers(0, 7), lost=st.integers(1, 6), workers=WORKERS)
@quickly
def test_isolated_finds_every_bad_input_of_a_call_whose_first_batches_hold_nothing_else(runner, place, lost, workers):
    found_exactly(runner, [set(range(8))] * lost + [{place}] * (8 - lost), workers)


def test_a_late_batch_of_one_input_is_sent_as_it_is():
    doubt, sent = Doubt(late={0: likeness(ProviderError("no"))}), []
    request = Request("text", ["a"], range(1), range(1), keep_going=True)

    async def answer(request):
        sent.append(request.inputs)
        return vectors_of(request.inputs)

    assert drive(Isolated(lambda kind, inputs: [range(len(inputs))], doubt)(request, answer, QuickBlocking())).is_whole
    assert sent == [["a"]]


def found_exactly(runner, bad, workers):
    texts = [f"text {number}" for number in range(64)]
    culprits = {8 * number + row for number, rows in enumerate(bad) for row in rows}
    answer = failing_at({texts[row] for row in culprits}, lambda _: ProviderError("no", status_code=400))
    result, _, _, _, done, _ = play(runner, in_batches(8, workers), texts, answer, keep_going=True)
    assert sorted(result[3]) == sorted(culprits)
    assert sorted(result[2]) == [row for row in range(64) if row not in culprits]
    assert done == 64


@given(bad=st.sets(st.integers(0, 31), min_size=1, max_size=31), reason=st.sampled_from(sorted(REASONS)))
@quickly
def test_isolated_searches_a_batch_to_its_end_where_an_input_of_the_call_has_succeeded(bad, reason):
    texts = [f"text {number}" for number in range(64)]
    answer = failing_at({texts[32 + row] for row in bad}, lambda _: REASONS[reason]())
    result, *_ = play(QuickBlocking, in_batches(32, 1), texts, answer, keep_going=True)
    assert sorted(result[3]) == [32 + row for row in sorted(bad)]


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("no such key", status_code=401),
        QuotaExceededError("no credit"),
        RateLimitError("slow down"),
        ConfigurationError("no address"),
        ProviderError("no such model", status_code=404),
    ],
    ids=lambda error: type(error).__name__,
)
def test_isolated_asks_once_where_the_account_or_the_model_is_refused(error):
    texts = [f"text {number}" for number in range(32)]
    result, asked, *_ = alike(isolated, texts, lambda: failing_at({texts[5]}, lambda _: error))
    assert result[0] == type(error).__name__
    assert asked.total() == 1


def test_isolated_ends_its_search_when_the_server_goes_down_in_the_middle():
    texts = [f"text {number}" for number in range(512)]

    def answer(request, number):
        if number > 3 or texts[400] in request.inputs:
            raise ProviderUnavailableError("down")
        return honest(request, number)

    result, asked, *_ = alike(isolated, texts, lambda: answer)
    assert sorted(result[2]) == list(range(256))
    assert asked.total() <= 48


def test_an_error_that_outlived_its_retries_is_not_retried_in_a_part():
    texts = [f"text {number}" for number in range(64)]
    policy = RetryPolicy(max_retries=4, initial_seconds=0, max_seconds=0)

    def down(request, number):
        raise ProviderUnavailableError("down", status_code=500)

    def make(heard):
        retried = Retried(policy)

        async def both(request, onward, io):
            return await isolated(heard)(request, lambda some: retried(some, onward, io), io)

        return both

    _, asked, *_ = alike(make, texts, lambda: down)
    assert asked.total() == 5 + 7


@given(texts=TEXTS, warm=SOME, bad=SOME)
@quickly
def test_joined_sends_what_is_not_stored_and_leaves_nothing_in_flight(texts, warm, bad):
    made = []

    def make(heard):
        made.append(Joined(cache_of(stored(warm))))
        return made[-1]

    result, asked, *_ = alike(make, texts, lambda: failing_at(bad, QuotaExceededError))
    missing = {text for text in texts if text not in warm}
    assert {one for inputs, _ in asked for one in inputs} == missing
    assert all(len(joined.in_flight) == 0 for joined in made)
    assert bad & missing or result == vectors_of(texts).tolist()


@pytest.mark.parametrize("error", [QuotaExceededError, InputTooLongError, None])
@pytest.mark.parametrize("runner", [QuickThreaded, QuickAsyncio])
@given(batches=st.lists(st.lists(TEXT, min_size=1, max_size=4, unique=True), min_size=2, max_size=6), bad=SOME)
@settings(max_examples=20)
def test_joined_calls_at_once_get_what_they_would_get_alone(runner, error, batches, bad):
    answer = failing_at(bad, error) if error is not None else honest
    joined, provider = Joined(cache_of(MemoryKVStore())), Provider(answer)
    remembered = Remembered(joined.cache)
    found = {}

    async def one(number):
        texts = batches[number]
        request = Request("text", texts, range(len(texts)), range(len(texts)))
        try:
            found[number] = (await through(Both(joined, remembered), request, partial(provider, io), io)).tolist()
        except EmbedError as failure:
            found[number] = type(failure)

    async def all_at_once():
        await io.map(one, range(len(batches)), workers=len(batches))

    io = runner()
    asyncio.run(all_at_once()) if runner is QuickAsyncio else drive(all_at_once())
    for number, texts in enumerate(batches):
        fails = error is not None and bool(bad & set(texts))
        assert found[number] == (error if fails else vectors_of(texts).tolist())
    assert len(joined.in_flight) == 0
    sent = Counter(text for (inputs, _), times in Counter(provider.asked).items() for text in inputs * times)
    assert error is not None or set(sent.values()) == {1}


def test_joined_tells_what_was_finished_before_the_call_was_ended():
    joined, there = Joined(cache_of(MemoryKVStore())), Blocking()
    call, others, _ = joined.in_flight.claim(key_of("text", ["b"]), there)

    def answer(request, number):
        if request.inputs == ["b"]:
            raise Ended
        call.failed = others
        joined.in_flight.settle(call, others, {})
        return honest(request, number)

    request, io = Request("text", ["a", "b"], range(2), range(2)), QuickBlocking()
    meeting = Isolated(lambda kind, inputs: [range(len(inputs))])
    result = drive(joined(request, lambda some: meeting(some, partial(Provider(answer), io), io), io))
    assert result.done.tolist() == [True, False]
    with pytest.raises(Ended):
        result.settled(request)


class Full(MemoryKVStore):
    def put_many(self, items):
        raise OSError("the disk is full")


@given(texts=TEXTS, bad=SOME, full=st.booleans())
@quickly
def test_remembered_stores_what_was_answered_and_fails_nobody(texts, bad, full):
    stores = []

    def make(heard):
        stores.append(Full() if full else MemoryKVStore())
        return Remembered(cache_of(stores[-1]))

    result, *_ = alike(make, texts, lambda: failing_at(bad, QuotaExceededError))
    answered = not bad & set(texts)
    assert not answered or result == vectors_of(texts).tolist()
    assert [len(store) for store in stores] == [len(set(texts)) if answered and not full else 0] * 3
    if answered and not full:
        assert all(dict(store._entries) == dict(stored(set(texts))._entries) for store in stores)


@given(texts=TEXTS, bad=SOME, asynchronous=st.booleans())
@quickly
def test_instrumented_tells_a_start_and_an_end_or_an_error(texts, bad, asynchronous):
    def make(heard):
        async def later(event):
            heard.append(event)

        listeners = lambda: (later,)
        return Instrumented("m", lambda: Origin("p"), listeners if asynchronous else listening(heard))

    _, asked, heard, *_ = alike(make, texts, lambda: failing_at(bad, QuotaExceededError))
    last = "EmbeddingErrorEvent" if bad & set(texts) else "EmbeddingEndEvent"
    assert Counter(record[0] for record in heard.elements()) == {"EmbeddingStartEvent": 1, last: 1}
    assert asked.total() == 1


@given(
    texts=TEXTS,
    failures=st.integers(0, 6),
    retries=st.integers(0, 4),
    asked_to_wait=st.one_of(st.none(), st.floats(0.1, 9)),
    final=st.booleans(),
)
@quickly
def test_retried_tries_as_often_as_the_policy_says_and_waits_as_asked(texts, failures, retries, asked_to_wait, final):
    def fail(request, number):
        if number <= failures:
            if final:
                raise QuotaExceededError("no credit")
            raise RateLimitError("slow down", retry_after=asked_to_wait)
        return honest(request, number)

    initial = 0.0 if asked_to_wait is None else 5.0  # jitter would differ
    policy = RetryPolicy(max_retries=retries, initial_seconds=initial, max_seconds=initial)
    result, asked, _, slept, *_ = alike(lambda heard: Retried(policy), texts, lambda: fail)
    attempts = min(failures, 0 if final else retries) + 1
    assert asked.total() == attempts
    assert (result == vectors_of(texts).tolist()) == (failures < attempts)
    assert slept == (Counter() if asked_to_wait is None else +Counter({asked_to_wait: attempts - 1}))


@pytest.mark.parametrize("runner", [QuickBlocking, QuickThreaded, QuickAsyncio])
def test_retried_waits_longer_each_time_with_jitter_and_within_the_cap(runner):
    def down(request, number):
        raise ProviderUnavailableError("down")

    policy = RetryPolicy(max_retries=8, initial_seconds=0.5, max_seconds=4, total_seconds=1e6)
    *_, slept, _, _ = play(runner, lambda heard: Retried(policy), ["a"], down)
    waits = list(slept.elements())
    assert len(waits) == 8
    assert all(0 < wait <= 4 for wait in waits)


@given(texts=TEXTS, budget=st.integers(1, 3), calls=st.integers(1, 6), bad=SOME)
@quickly
def test_rate_limited_waits_for_its_place_in_the_queue(texts, budget, calls, bad):
    def make(heard):
        limiter = RateLimiter(requests_per_minute=budget, tokens_per_minute=1000, clock=lambda: 0.0)
        limited = RateLimited(limiter, lambda inputs: sum(map(len, inputs)))

        async def several(request, onward, io):
            for _ in range(calls - 1):
                await limited(request.pick([0]), lambda some: onward_quietly(some, onward), io)
            return await limited(request, onward, io)

        return several

    async def onward_quietly(request, onward):
        try:
            return await onward(request)
        except QuotaExceededError:
            return None

    _, asked, _, slept, *_ = alike(make, texts, lambda: failing_at(bad, QuotaExceededError))
    assert asked.total() == calls
    assert sorted(slept.elements()) == pytest.approx([60 / budget * (n + 1) for n in range(max(0, calls - budget))])


ANSWERS = {
    "honest": lambda vectors: vectors,
    "lists": lambda vectors: vectors.tolist(),
    "reversed": lambda vectors: ProviderResponse(vectors[::-1], indices=range(len(vectors))[::-1]),
    "one too few": lambda vectors: vectors[:-1],
    "one too many": lambda vectors: np.vstack([vectors, vectors[:1]]),
    "not a number": lambda vectors: np.where(np.arange(len(vectors))[:, None] == 0, np.nan, vectors),
    "another dimension": lambda vectors: np.hstack([vectors, vectors]),
    "ragged": lambda vectors: [[*vector, 1.0] if row else vector for row, vector in enumerate(vectors.tolist())],
    "position twice": lambda vectors: ProviderResponse(vectors, indices=[0] * len(vectors)),
    "nothing": lambda vectors: None,
    "words": lambda vectors: ["no"] * len(vectors),
}


@given(texts=TEXTS, answer=st.sampled_from(sorted(ANSWERS)))
@settings(max_examples=80)
def test_checked_gives_rows_in_input_order_or_a_named_error(texts, answer):
    def make(heard):
        return Checked("m", Dense(), Dimension(2))

    result, *_ = alike(make, texts, lambda: lambda request, number: ANSWERS[answer](honest(request, number)))
    right = answer in {"honest", "lists", "reversed"} or (len(texts) == 1 and answer in {"ragged", "position twice"})
    assert (result == vectors_of(texts).tolist()) == right
    assert right or result[0] == "EmbeddingIntegrityError"


@given(texts=TEXTS, raised=st.sampled_from([ValueError, TimeoutError, ConnectionResetError, StopIteration, OSError]))
@quickly
def test_checked_names_what_a_hook_raises(texts, raised):
    def make(heard):
        return Checked("m", Dense(), Dimension())

    def fail(request, number):
        raise raised("no")

    result, asked, *_ = alike(make, texts, lambda: fail)
    assert asked.total() == 1
    assert issubclass(getattr(errors, result[0]), ProviderError)
    assert result[1] == tuple(range(len(texts)))
