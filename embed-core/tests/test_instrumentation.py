"""Events, spans and callbacks: one stream, told to whoever listens, and never a reason for another result."""

import asyncio
import dataclasses
import logging
import sys
import threading

import numpy as np
import pytest
from embed_core import MockEmbedding, MockMultiModalEmbedding, ProviderResponse, RetryPolicy
from embed_core.errors import ConfigurationError, InvalidInputError, ProviderError, RateLimitError
from embed_core.instrumentation import (
    CallbackManager,
    CBEventType,
    Dispatcher,
    EmbeddingCacheEvent,
    EmbeddingEndEvent,
    EmbeddingErrorEvent,
    EmbeddingStartEvent,
    EventPayload,
    TokenCountingHandler,
    dispatcher,
)
from embed_core.kvstore import MemoryKVStore
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field


class Recorder:
    """Hears everything there is to hear."""

    def __init__(self):
        self.events, self.begun, self.ended = [], [], []

    def __call__(self, event):
        self.events.append(event)

    def on_span_start(self, span):
        self.begun.append(span)

    def on_span_end(self, span):
        self.ended.append(span)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


class AsyncRecorder(Recorder):
    async def __call__(self, event):
        await asyncio.sleep(0)
        super().__call__(event)

    async def on_span_start(self, span):
        await asyncio.sleep(0)
        super().on_span_start(span)

    async def on_span_end(self, span):
        await asyncio.sleep(0)
        super().on_span_end(span)


class Counted(MockEmbedding):
    """A provider that reports tokens, and fails as often as told."""

    failures: int = 0
    tokens: int | None = 3
    hurdle: Exception | None = Field(default=None, exclude=True)

    def _get_text_embeddings(self, texts):
        if self.failures:
            self.__dict__["failures"] -= 1
            raise self.hurdle or RateLimitError("slow down", retry_after=0.0)
        usage = None if self.tokens is None else {"tokens": self.tokens * len(texts)}
        return ProviderResponse(super()._get_text_embeddings(texts), usage=usage, truncated=1, model="mock-002")

    async def _aget_text_embeddings(self, texts):
        await asyncio.sleep(0)
        return self._get_text_embeddings(texts)


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def everywhere(recorder):
    dispatcher.add_handler(recorder)
    yield recorder
    dispatcher.remove_handler(recorder)


def listening(*handlers, kind=MockEmbedding, **options):
    return kind(callback_manager=CallbackManager(handlers), **options)


# What is told


async def test_a_provider_call_is_a_start_and_an_end_with_one_id(recorder):
    model = listening(recorder, kind=Counted, failures=1, retry=RetryPolicy(initial_seconds=0))
    for embed in (model.embed_texts, model.aembed_texts):
        recorder.events.clear()
        vectors = embed(["a", "b"])
        vectors = await vectors if asyncio.iscoroutine(vectors) else vectors
        start, end = recorder.events
        assert isinstance(start, EmbeddingStartEvent)
        assert isinstance(end, EmbeddingEndEvent)
        assert start.id == end.id
        assert (start.kind, start.model, start.batch_size, list(start.chunks)) == ("text", "mock", 2, ["a", "b"])
        assert (end.attempts, end.usage, end.tokens, end.truncated) == (
            model.failures or end.attempts,
            {"tokens": 6},
            6,
            1,
        )
        assert end.response_model == "mock-002"
        assert end.origin.provider == "mock"
        assert end.duration >= 0
        assert np.array_equal(end.embeddings, vectors)


def test_attempts_are_counted_in_the_end_event(recorder):
    model = listening(recorder, kind=Counted, failures=2, retry=RetryPolicy(initial_seconds=0))
    model.get_text_embedding("a")
    assert recorder.of(EmbeddingEndEvent)[0].attempts == 3


def test_a_provider_call_that_fails_is_a_start_and_an_error(recorder):
    model = listening(recorder, kind=Counted, failures=9, hurdle=ValueError("no"))
    with pytest.raises(ProviderError) as caught:
        model.get_text_embedding("a")
    start, failed = recorder.events
    assert isinstance(failed, EmbeddingErrorEvent)
    assert failed.id == start.id
    assert failed.error is caught.value
    assert failed.attempts == 1


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_told_and_goes_on(recorder, interruption):
    class Interrupted(MockEmbedding):
        def _get_text_embeddings(self, texts):
            raise interruption

    with pytest.raises(interruption):
        listening(recorder, kind=Interrupted).get_text_embedding("a")
    assert isinstance(recorder.of(EmbeddingErrorEvent)[0].error, interruption)
    assert isinstance(recorder.ended[0].error, interruption)


async def test_a_cancelled_call_is_told_as_an_error(recorder):
    class Endless(MockEmbedding):
        async def _aget_text_embeddings(self, texts):
            reached.set()
            await asyncio.Event().wait()

    reached = asyncio.Event()
    task = asyncio.create_task(listening(recorder, kind=Endless).aget_text_embedding("a"))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(recorder.of(EmbeddingErrorEvent)[0].error, asyncio.CancelledError)
    assert len(recorder.ended) == 1


def test_every_kind_is_told_alike(recorder):
    model = listening(recorder, kind=MockMultiModalEmbedding)
    model.get_query_embedding("a query")
    model.get_text_embedding("a text")
    model.get_image_embedding(np.zeros((2, 2, 3), dtype=np.uint8))
    assert [event.kind for event in recorder.events] == ["query", "query", "text", "text", "image", "image"]
    assert [span.kind for span in recorder.begun] == ["query", "text", "image"]


def test_the_cache_is_summed_up_once_a_call(recorder):
    model = listening(recorder, embeddings_cache=MemoryKVStore(), embed_batch_size=1)
    model.embed_texts(["a", "b"])
    model.embed_texts(["a", "b", "c", "a"])
    model.embed_texts(["a"])
    cache = recorder.of(EmbeddingCacheEvent)
    assert [(event.hits, event.misses) for event in cache] == [(0, 2), (3, 1), (1, 0)]
    assert [event.call_id for event in cache] == [span.id for span in recorder.begun]


def test_events_and_spans_are_frozen(recorder):
    listening(recorder).get_text_embedding("a")
    for record in (*recorder.events, *recorder.begun, *recorder.ended):
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.kind = "query"


@pytest.mark.parametrize("workers", [1, 3])
async def test_a_span_begins_before_and_ends_after_all_events_of_its_call(recorder, workers):
    order = []

    class Ordered(Recorder):
        def __call__(self, event):
            order.append(event.call_id)

        def on_span_start(self, span):
            order.append(span.id)

        on_span_end = on_span_start

    model = listening(Ordered(), embed_batch_size=1, num_workers=workers)
    for round_ in range(2):
        order.clear()
        vectors = model.embed_texts(list("abcd")) if round_ else await model.aembed_texts(list("abcd"))
        assert len(vectors) == 4
        assert len(order) == 10
        assert len(set(order)) == 1
        assert order[0] is not None


def test_a_span_tells_size_duration_and_error(recorder):
    model = listening(recorder)
    model.embed_texts(["a", "b", "c"])
    with pytest.raises(InvalidInputError) as caught:
        model.embed_texts(["a", None])
    assert [span.size for span in recorder.begun] == [3, 2]
    assert [span.error for span in recorder.ended] == [None, caught.value]
    assert [span.id for span in recorder.begun] == [span.id for span in recorder.ended]
    assert all(span.duration is None for span in recorder.begun)
    assert all(span.duration >= 0 for span in recorder.ended)


def test_no_input_is_no_event(recorder):
    assert len(listening(recorder).embed_texts([])) == 0
    assert (recorder.events, recorder.begun) == ([], [])


# Who hears it


def test_the_dispatcher_hears_every_model_and_a_manager_its_own(everywhere):
    mine = Recorder()
    listening(mine).get_text_embedding("a")
    MockEmbedding().get_text_embedding("b")
    assert len(everywhere.events) == 4
    assert len(mine.events) == 2
    assert len({span.id for span in everywhere.begun}) == 2


def test_a_removed_handler_hears_nothing_more(recorder):
    model = listening(recorder)
    model.callback_manager.remove_handler(recorder)
    model.callback_manager.remove_handler(recorder)
    model.get_text_embedding("a")
    assert recorder.events == []
    model.callback_manager.set_handlers([recorder])
    model.get_text_embedding("a")
    assert len(recorder.events) == 2


def test_a_bound_method_can_be_removed_again():
    heard, others = [], Dispatcher()
    others.add_handler(heard.append)
    others.remove_handler(heard.append)
    assert others.handlers == ()


def test_what_hears_nothing_is_no_handler():
    with pytest.raises(ConfigurationError, match="`int` is no handler"):
        CallbackManager().add_handler(7)


def test_a_handler_may_hear_spans_only(recorder):
    class Spans:
        on_span_start = recorder.on_span_start
        on_span_end = recorder.on_span_end

    listening(Spans()).get_text_embedding("a")
    assert len(recorder.begun) == len(recorder.ended) == 1


@pytest.mark.parametrize("workers", [1, 3])
async def test_coroutine_functions_hear_as_functions_do_sync_and_async(workers):
    heard, awaited = Recorder(), AsyncRecorder()
    model = listening(heard, awaited, embed_batch_size=1, num_workers=workers)
    model.embed_texts(list("abc"))  # inside a running loop
    await model.aembed_texts(list("abc"))
    await asyncio.to_thread(model.embed_texts, list("abc"))
    assert sorted(event.id for event in awaited.events) == sorted(event.id for event in heard.events)
    assert len(awaited.events) == 18
    assert len(awaited.begun) == len(awaited.ended) == 3


def test_an_async_handler_of_a_sync_call_runs_in_the_callers_context():
    from contextvars import ContextVar

    variable, seen = ContextVar("variable", default="outside"), []

    async def handler(event):
        seen.append(variable.get())

    variable.set("inside")
    listening(handler).get_text_embedding("a")
    assert seen == ["inside", "inside"]


# It never changes a result


class Raising:
    def __call__(self, event):
        raise ValueError("a bad handler")

    on_span_start = on_span_end = __call__


class AsyncRaising:
    async def __call__(self, event):
        raise ValueError("a bad handler")

    on_span_start = on_span_end = __call__


@pytest.mark.parametrize("bad", [Raising(), AsyncRaising()])
async def test_a_handler_that_raises_is_logged_and_changes_nothing(bad, recorder, caplog):
    model = listening(bad, recorder, embeddings_cache=MemoryKVStore())
    expected = MockEmbedding().embed_texts(["a", "b"])
    assert np.array_equal(model.embed_texts(["a", "b"]), expected)
    assert np.array_equal(await model.aembed_texts(["a", "b"]), expected)
    assert len(recorder.events) == 4
    assert len(recorder.ended) == 2
    records = [record for record in caplog.records if record.name == "embed_core.events"]
    assert len(records) == 8
    assert all(record.levelno == logging.ERROR and "a bad handler" in record.exc_text for record in records)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_interruption_inside_a_handler_is_never_swallowed(interruption, asynchronous):
    def sync(event):
        raise interruption

    async def later(event):
        raise interruption

    with pytest.raises(interruption):
        listening(later if asynchronous else sync).get_text_embedding("a")


async def test_a_handler_that_blocks_changes_no_result():
    model = listening(lambda event: threading.Event().wait(0.01), embed_batch_size=1, num_workers=2)
    expected = MockEmbedding().embed_texts(list("abcd"))
    assert np.array_equal(model.embed_texts(list("abcd")), expected)
    assert np.array_equal(await model.aembed_texts(list("abcd")), expected)


def test_a_handler_removed_in_the_middle_hears_the_end_of_what_it_heard_begin(recorder):
    class Leaving(Recorder):
        def __call__(self, event):
            super().__call__(event)
            model.callback_manager.remove_handler(self)

    leaving = Leaving()
    model = listening(leaving, recorder, embed_batch_size=1)
    assert np.array_equal(model.embed_texts(["a", "b"]), MockEmbedding().embed_texts(["a", "b"]))
    assert [type(event) for event in leaving.events] == [EmbeddingStartEvent, EmbeddingEndEvent]
    assert len(leaving.ended) == 1
    assert len(recorder.events) == 4


def test_handlers_come_and_go_while_many_threads_embed():
    model, stop = listening(), threading.Event()

    def unrest():
        while not stop.is_set():
            one = Recorder()
            model.callback_manager.add_handler(one)
            model.callback_manager.remove_handler(one)

    def embed():
        results.append(np.array_equal(model.embed_texts(["a", "b"]), expected))

    expected, results = MockEmbedding().embed_texts(["a", "b"]), []
    threads = [threading.Thread(target=embed) for _ in range(20)]
    restless = threading.Thread(target=unrest)
    restless.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    restless.join()
    assert results == [True] * 20
    assert model.callback_manager.handlers == ()


@given(
    size=st.integers(1, 4),
    workers=st.integers(1, 3),
    failures=st.integers(0, 3),
    cached=st.booleans(),
    texts=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12),
)
@settings(max_examples=60)
def test_sync_and_async_callers_hear_the_same(size, workers, failures, cached, texts):
    def told(run):
        recorder = Recorder()
        model = listening(
            recorder,
            kind=Counted,
            embed_batch_size=size,
            num_workers=workers,
            failures=failures,
            retry=RetryPolicy(initial_seconds=0, max_retries=9),
            embeddings_cache=MemoryKVStore() if cached else None,
        )
        vectors = run(model)
        ended = [(tuple(event.chunks), event.usage, event.truncated) for event in recorder.of(EmbeddingEndEvent)]
        cache = [(event.hits, event.misses) for event in recorder.of(EmbeddingCacheEvent)]
        pairs = [event.id for event in recorder.of(EmbeddingStartEvent)]
        assert sorted(pairs) == sorted(event.id for event in recorder.of(EmbeddingEndEvent))
        assert sum(event.attempts for event in recorder.of(EmbeddingEndEvent)) == len(ended) + failures
        return vectors.tolist(), sorted(ended, key=repr), cache

    assert told(lambda model: model.embed_texts(texts)) == told(lambda model: asyncio.run(model.aembed_texts(texts)))


async def test_interleaved_async_batches_pair_up_by_id(recorder):
    class Slow(MockEmbedding):
        async def _aget_text_embeddings(self, texts):
            for _ in range(ord(texts[0]) % 5):
                await asyncio.sleep(0)
            return self._get_text_embeddings(texts)

    model = listening(recorder, kind=Slow, embed_batch_size=1, num_workers=4)
    await asyncio.gather(*(model.aembed_texts(list("abcdefgh")) for _ in range(5)))
    starts = {event.id: event for event in recorder.of(EmbeddingStartEvent)}
    ends = recorder.of(EmbeddingEndEvent)
    assert len(starts) == len(ends) == 40
    expected = MockEmbedding()
    for end in ends:
        assert starts[end.id].chunks == end.chunks
        assert starts[end.id].call_id == end.call_id
        assert end.embeddings.tolist() == [expected.get_text_embedding(end.chunks[0])]
    assert [type(event) for event in recorder.events] != [EmbeddingStartEvent, EmbeddingEndEvent] * 40  # interleaved
    assert len({event.call_id for event in ends}) == 5


# In LlamaIndex's words


class Callbacks:
    """A handler as LlamaIndex integrations write them."""

    def __init__(self, starts_to_ignore=(), ends_to_ignore=()):
        self.event_starts_to_ignore, self.event_ends_to_ignore = starts_to_ignore, ends_to_ignore
        self.heard, self.traces = [], []

    def on_event_start(self, event_type, payload=None, event_id="", parent_id="", **kwargs):
        self.heard.append(("start", event_type, payload, event_id, parent_id))
        return event_id

    def on_event_end(self, event_type, payload=None, event_id="", **kwargs):
        self.heard.append(("end", event_type, payload, event_id))

    def start_trace(self, trace_id=None):
        self.traces.append(("start", trace_id))

    def end_trace(self, trace_id=None, trace_map=None):
        self.traces.append(("end", trace_id, trace_map))


class AsyncCallbacks(Callbacks):
    async def on_event_start(self, *args, **kwargs):
        await asyncio.sleep(0)
        return super().on_event_start(*args, **kwargs)

    async def on_event_end(self, *args, **kwargs):
        await asyncio.sleep(0)
        super().on_event_end(*args, **kwargs)

    async def start_trace(self, *args, **kwargs):
        super().start_trace(*args, **kwargs)

    async def end_trace(self, *args, **kwargs):
        super().end_trace(*args, **kwargs)


@pytest.mark.parametrize("kind", [Callbacks, AsyncCallbacks])
async def test_a_callback_handler_hears_start_and_end_with_payloads(kind):
    callbacks, recorder = kind(), Recorder()
    model = listening(callbacks, recorder, embed_dim=2)
    vectors = [model.get_text_embedding_batch(["a", "b"]), await model.aget_text_embedding_batch(["a", "b"])]
    for start, end, expected in zip(callbacks.heard[::2], callbacks.heard[1::2], vectors, strict=True):
        assert start[:2] == ("start", "embedding")
        assert start[2]["serialized"]["provider"] == "mock"
        assert start[3] == end[3]
        assert start[4] == "root"
        assert end[:2] == ("end", CBEventType.EMBEDDING)
        assert end[2] == {"chunks": ["a", "b"], "embeddings": expected}
        assert end[2][EventPayload.CHUNKS] == ["a", "b"]
    assert [heard[3] for heard in callbacks.heard] == [event.id for event in recorder.events]  # the same stream


def test_a_callback_handler_hears_the_exception():
    callbacks = Callbacks()
    with pytest.raises(ProviderError) as caught:
        listening(callbacks, kind=Counted, failures=1, hurdle=ValueError("no")).get_text_embedding("a")
    assert callbacks.heard[-1][2] == {EventPayload.EXCEPTION: caught.value}


def test_a_model_that_cannot_be_described_is_told_by_name():
    callbacks = Callbacks()
    listening(callbacks, middlewares=(), kind=Undescribed).get_text_embedding("a")
    assert callbacks.heard[0][2] == {"serialized": {"model_name": "mock"}}
    assert len(callbacks.heard) == 2


class Undescribed(MockEmbedding):
    thing: object = object()


def test_a_callback_handler_may_ignore_starts_or_ends():
    ends, starts = Callbacks(starts_to_ignore=("embedding",)), Callbacks(ends_to_ignore=[CBEventType.EMBEDDING])
    listening(ends, starts).get_text_embedding("a")
    assert [heard[0] for heard in (*ends.heard, *starts.heard)] == ["end", "start"]


def test_cache_summaries_are_not_told_to_callback_handlers():
    callbacks = Callbacks()
    listening(callbacks, embeddings_cache=MemoryKVStore()).get_text_embedding("a")
    assert len(callbacks.heard) == 2


@pytest.mark.parametrize("kind", [Callbacks, AsyncCallbacks])
async def test_a_trace_names_the_events_of_a_block_and_of_no_other(kind):
    first, second = kind(), kind()
    model = listening(first, second, embed_batch_size=1, num_workers=2)
    model.get_text_embedding("outside")
    with model.callback_manager.as_trace("ingest"):
        model.embed_texts(["a", "b"])
        with model.callback_manager.as_trace("inner"):
            await model.aembed_texts(["c", "d"])
    model.get_text_embedding("outside")
    inside = [heard[3] for heard in first.heard if heard[0] == "start"][1:-1]
    for callbacks in (first, second):
        assert callbacks.traces == [("start", "ingest"), ("end", "ingest", {"root": inside})]
        assert callbacks.traces[-1][2]["an event without children"] == []
    assert len(inside) == 4


def test_a_trace_of_another_manager_is_a_trace_of_its_own():
    one, other = Callbacks(), Callbacks()
    first, second = listening(one), listening(other)
    with first.callback_manager.as_trace("one"), second.callback_manager.as_trace("other"):
        first.get_text_embedding("a")
        second.get_text_embedding("a")
    assert [trace[1] for trace in (*one.traces, *other.traces)] == ["one", "one", "other", "other"]
    assert list(other.traces[-1][2]["root"]) == [other.heard[0][3]]


def test_an_exception_in_a_trace_is_told_once():
    callbacks = Callbacks()
    model = listening(callbacks, kind=Counted, failures=1, hurdle=ValueError("no"))
    with pytest.raises(ProviderError), model.callback_manager.as_trace("t"):
        model.get_text_embedding("a")
    assert [heard[1] for heard in callbacks.heard] == ["embedding", "embedding"]
    with pytest.raises(ZeroDivisionError), model.callback_manager.as_trace("t"):
        raise ZeroDivisionError
    assert callbacks.heard[-1][:2] == ("start", CBEventType.EXCEPTION)
    assert isinstance(callbacks.heard[-1][2]["exception"], ZeroDivisionError)
    assert len(callbacks.traces) == 4


def test_events_of_ones_own_can_be_told_too():
    callbacks = Callbacks()
    manager = CallbackManager([callbacks])
    with manager.as_trace("t"):
        own = manager.on_event_start("chunking", {"documents": 3})
        child = manager.on_event_start(CBEventType.EMBEDDING, event_id="mine", parent_id=own)
        manager.on_event_end("chunking", event_id=own)
    assert child == "mine"
    assert [heard[:2] for heard in callbacks.heard] == [
        ("start", "chunking"),
        ("start", "embedding"),
        ("end", "chunking"),
    ]
    assert callbacks.traces[-1] == ("end", "t", {"root": [own], own: ["mine"]})


def test_a_callback_handler_that_raises_breaks_neither_trace_nor_result():
    class Broken(Callbacks):
        def start_trace(self, trace_id=None):
            raise ValueError("a bad handler")

        on_event_start = on_event_end = end_trace = start_trace

    fine = Callbacks()
    model = listening(Broken(), fine)
    with model.callback_manager.as_trace("t"):
        assert len(model.get_text_embedding("a")) == 8
    assert len(fine.heard) == 2
    assert len(fine.traces) == 2


# Tokens


def test_what_the_provider_reports_counts():
    counter = TokenCountingHandler(tokenizer=list)
    listening(counter, kind=Counted, tokens=7, embed_batch_size=2).embed_texts(["a", "b", "c"])
    assert counter.total_embedding_token_count == 21
    assert [(count.tokens, count.reported) for count in counter.embedding_token_counts] == [(14, True), (7, True)]


def test_a_given_tokenizer_counts_where_the_provider_reports_nothing():
    counter = TokenCountingHandler(tokenizer=str.split)
    model = listening(counter, kind=MockMultiModalEmbedding)
    model.embed_texts(["three short words", "one"])
    model.get_query_embedding("two words")
    model.get_image_embedding(np.zeros((2, 2), dtype=np.uint8))
    assert counter.total_embedding_token_count == 6
    assert {count.reported for count in counter.embedding_token_counts} == {False}
    counter.reset_counts()
    assert counter.total_embedding_token_count == 0
    assert counter.embedding_token_counts == []


def test_the_models_own_count_is_the_last_resort():
    class Letters(MockEmbedding):
        def _count_tokens(self, inputs):
            return sum(map(len, inputs))

    counter = TokenCountingHandler()
    listening(counter, kind=Letters).embed_texts(["abc", "de"])
    assert counter.total_embedding_token_count == 5


def test_cached_and_failed_calls_cost_no_tokens():
    counter = TokenCountingHandler()
    model = listening(counter, kind=Counted, embeddings_cache=MemoryKVStore(), failures=1, hurdle=ValueError("no"))
    with pytest.raises(ProviderError):
        model.get_text_embedding("a")
    assert counter.total_embedding_token_count == 0
    model.get_text_embedding("a")
    model.get_text_embedding("a")
    assert counter.total_embedding_token_count == 3


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 4, "total_tokens": 4}, 4),
        ({"input_tokens": 5}, 5),
        ({"total_tokens": 0}, 0),
        ({"cost": 1}, None),
        ({}, None),
    ],
)
def test_the_names_other_clients_use_for_usage_are_known(recorder, usage, tokens):
    class Reporting(MockEmbedding):
        def _get_text_embeddings(self, texts):
            return ProviderResponse(super()._get_text_embeddings(texts), usage=usage)

    listening(recorder, kind=Reporting).get_text_embedding("a")
    assert recorder.events[-1].tokens == tokens


def test_tokens_of_many_threads_add_up():
    counter = TokenCountingHandler()
    model = listening(counter, kind=Counted)
    threads = [threading.Thread(target=model.embed_texts, args=(list("abcde"),)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.total_embedding_token_count == 300


# What it costs


def functions_run(model):
    """Count the functions of the instrumentation that one call runs; `__init__` of an event is one."""
    told = ("embed_core.instrumentation", "embed_core.middleware.instrumented", "embed_core.middleware.traced")
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event == "call" and frame.f_globals["__name__"].startswith(told)

    model.embed_texts(["a"])
    sys.setprofile(profile)
    try:
        model.embed_texts(["a"])
    finally:
        sys.setprofile(None)
    return count


def test_an_event_without_a_handler_is_never_made():
    assert functions_run(MockEmbedding()) <= 8 < functions_run(listening(lambda event: None))
