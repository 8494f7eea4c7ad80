"""Any number of texts, a window at a time."""

import asyncio
import contextvars
import copy
import subprocess
import sys
import threading
from collections import defaultdict

import numpy as np
import pytest
from embed_core import MockEmbedding, in_thread
from embed_core.errors import InvalidInputError
from embed_core.kvstore import MemoryKVStore
from embed_core.testing import ScriptedEmbedding

TEXTS = [f"text {number}" for number in range(100)]


def test_blocks_are_in_order_and_inputs_are_taken_as_needed():
    taken = []

    def source():
        for text in TEXTS:
            taken.append(text)
            yield text

    model = MockEmbedding(embed_batch_size=3, num_workers=2)
    blocks = model.stream_texts(source())
    first = next(blocks)
    assert len(taken) == len(first) == 24
    vectors = np.concatenate([first, *blocks])
    assert np.array_equal(vectors, model.embed_texts(TEXTS))


def test_async_sources_are_taken_too():
    async def source():
        for text in TEXTS:
            yield text

    async def main():
        model = MockEmbedding(embed_batch_size=7)
        return np.concatenate([block async for block in model.astream_texts(source())])

    assert np.array_equal(asyncio.run(main()), MockEmbedding().embed_texts(TEXTS))


def test_an_error_gives_the_position_in_the_whole_stream():
    with pytest.raises(InvalidInputError) as caught:
        list(MockEmbedding(embed_batch_size=2).stream_texts([*TEXTS, None]))
    assert caught.value.indices == (100,)


@pytest.mark.parametrize(("texts", "shown"), [(TEXTS, "100/100"), (iter(TEXTS), "100/100"), (None, "100 texts [")])
@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("cached", [False, True])
def test_a_stream_shows_one_bar(texts, shown, colour, cached, capsys):
    model = MockEmbedding(embed_batch_size=3, embeddings_cache=MemoryKVStore() if cached else None)
    texts = copy.copy(texts) if texts else (text for text in TEXTS)

    async def main():
        return [len(block) async for block in model.astream_texts(texts, show_progress=True)]

    if colour == "async":
        assert sum(asyncio.run(main())) == 100
    else:
        assert sum(len(block) for block in model.stream_texts(texts, show_progress=True)) == 100
    said = capsys.readouterr().err
    assert shown in said.replace("texts: ", "")
    assert said.count("\n") == 1  # one bar, closed once


def test_an_abandoned_stream_closes_its_bar(capsys):
    stream = MockEmbedding(embed_batch_size=3).stream_texts(TEXTS, show_progress=True)
    next(stream)
    stream.close()
    assert capsys.readouterr().err.endswith("\n")


SEVERAL = {
    "array": lambda model, texts: model.embed_texts(texts),
    "lists": lambda model, texts: model.get_text_embedding_batch(texts),
    "queries": lambda model, texts: model.embed_queries(texts),
    "stream": lambda model, texts: list(model.stream_texts(texts)),
    "async array": lambda model, texts: asyncio.run(model.aembed_texts(texts)),
    "async stream": lambda model, texts: asyncio.run(drained(model.astream_texts(texts))),
}
SINGLE = ["a text", b"bytes", bytearray(b"b"), memoryview(b"b"), {"a": 1}, 7, None, np.array("a text"), object()]


async def drained(blocks):
    return [block async for block in blocks]


@pytest.mark.parametrize("method", SEVERAL)
@pytest.mark.parametrize("bad", SINGLE, ids=lambda one: type(one).__name__)
def test_one_value_is_refused_where_several_belong(method, bad):
    with pytest.raises(InvalidInputError, match="wrap it in a list or use `get_"):
        SEVERAL[method](MockEmbedding(), bad)


class Numbered:
    """Can be iterated over by number only, as many datasets can."""

    def __getitem__(self, number):
        return TEXTS[number]


ITERABLES = {
    "tuple": lambda: tuple(TEXTS),
    "iterator": lambda: iter(TEXTS),
    "array": lambda: np.array(TEXTS),
    "keys": lambda: dict.fromkeys(TEXTS).keys(),
    "by number": Numbered,
}


@pytest.mark.parametrize("method", SEVERAL)
@pytest.mark.parametrize("source", ITERABLES)
def test_every_iterable_is_taken(method, source):
    vectors = np.concatenate(SEVERAL[method](MockEmbedding(), ITERABLES[source]()), axis=None)
    assert np.array_equal(vectors, MockEmbedding().embed_texts(TEXTS).ravel())


WINDOW = 8  # four batches for each worker
where = contextvars.ContextVar("where", default="nowhere")


class InThreads(ScriptedEmbedding):
    """Runs its script in a thread for async callers, so that it may wait."""

    async def _aget_text_embeddings(self, texts):
        return await in_thread(lambda: self._get_text_embeddings(texts))


class Calls:
    """A provider of single texts, and a source of them, of which each step can be waited for."""

    def __init__(self, workers=2):
        self.begun, self.go_on = defaultdict(threading.Event), defaultdict(threading.Event)
        self.read, self.sent, self.in_flight, self.most, self.contexts = 0, 0, 0, 0, set()
        self.lock, self.fails = threading.Lock(), None
        self.model = InThreads(script=self.answer, embed_batch_size=1, num_workers=workers)

    def source(self):
        for self.read, text in enumerate(TEXTS, 1):
            yield text

    def answer(self, turn):
        with self.lock:
            self.sent += 1
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
            self.contexts.add(where.get())
        number = TEXTS.index(turn.inputs[0])
        self.begun[number].set()
        assert number not in self.go_on or self.go_on[number].wait(20)
        with self.lock:
            self.in_flight -= 1
        if number == self.fails:
            raise InvalidInputError("no", indices=[0])
        return turn.vectors

    def blocks(self, colour):
        """Return a stream; an async one runs in a loop of its own."""
        if colour == "sync":
            return self.model.stream_texts(self.source())
        return InLoop(self.model.astream_texts(self.source()))


class InLoop:
    """An async stream for a consumer that blocks; the loop runs in a thread, and goes on meanwhile."""

    def __init__(self, stream):
        self.stream, self.loop = stream, asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def __iter__(self):
        return self

    def __next__(self):
        async def step():
            return await anext(self.stream, None)

        block = asyncio.run_coroutine_threadsafe(step(), self.loop).result()
        if block is None:
            self.close()
            raise StopIteration
        return block

    def close(self):
        async def end():
            await self.stream.aclose()
            return len(asyncio.all_tasks())

        left = asyncio.run_coroutine_threadsafe(end(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        assert left == 1  # its own


both = pytest.mark.parametrize("colour", ["sync", "async"])


@both
def test_the_workers_of_a_window_begin_the_next(colour):
    calls = Calls()
    for first in range(WINDOW, len(TEXTS), WINDOW):
        calls.go_on[first - 1] = calls.begun[first]  # the last call of a window waits for the first of the next
    vectors = np.concatenate(list(calls.blocks(colour)))
    assert np.array_equal(vectors, MockEmbedding().embed_texts(TEXTS))
    assert (calls.sent, calls.most) == (len(TEXTS), 2)


@both
def test_the_next_window_is_embedded_while_the_consumer_works_and_no_more(colour):
    calls = Calls()
    blocks = calls.blocks(colour)
    token = where.set("here")
    assert len(next(blocks)) == WINDOW
    where.reset(token)
    assert calls.begun[2 * WINDOW - 1].wait(20)
    assert calls.read == 2 * WINDOW
    assert calls.contexts == {"here"}
    blocks.close()
    assert calls.sent == 2 * WINDOW


@both
def test_a_closed_stream_sends_nothing_more(colour):
    calls, size = Calls(workers=1), WINDOW // 2
    calls.go_on[size + 1] = threading.Event()
    calls.model.embeddings_cache = kept = Kept()
    blocks = calls.blocks(colour)
    next(blocks)
    assert calls.begun[size + 1].wait(20)
    blocks.close()
    calls.go_on[size + 1].set()
    assert colour == "async" or kept.all[size + 2].wait(20)
    assert calls.sent == size + 2


class Kept(MemoryKVStore):
    """Tells when it holds a number of entries."""

    def __init__(self):
        super().__init__()
        self.all = defaultdict(threading.Event)

    def put_many(self, items):
        super().put_many(items)
        self.all[len(self)].set()


@both
def test_a_window_that_fails_comes_after_the_blocks_before_it_and_ends_those_behind(colour):
    calls, size = Calls(workers=1), WINDOW // 2
    calls.fails, blocks = size + 1, calls.blocks(colour)
    assert len(next(blocks)) == size
    with pytest.raises(InvalidInputError) as caught:
        next(blocks)
    assert caught.value.indices == (size + 1,)
    assert not calls.begun[2 * size].is_set()
    blocks.close()


@both
def test_the_error_of_a_source_comes_after_the_blocks_before_it(colour):
    calls = Calls()

    def source():
        yield from TEXTS[:WINDOW]
        raise OSError("disk")

    calls.source = source
    blocks = calls.blocks(colour)
    assert len(next(blocks)) == WINDOW
    with pytest.raises(OSError, match="disk"):
        next(blocks)
    blocks.close()


def test_a_source_that_fails_fails_as_itself():
    def source():
        yield "a"
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(MockEmbedding().stream_texts(source()))
    with pytest.raises(OSError, match="disk"):
        MockEmbedding().embed_texts(source())


def test_a_hundred_thousand_texts_take_little_memory():
    program = """
import resource
from embed_core import MockEmbedding, in_thread

model = MockEmbedding(embed_dim=1536)
model.embed_texts(["warm"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(len(block) for block in model.stream_texts(f"text {number}" for number in range(100_000)))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(count, (after - before) // 1024)
"""
    pytest.importorskip("resource", reason="peak memory is read the POSIX way")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    count, grown = map(int, done.stdout.split())
    assert count == 100_000
    assert grown < 200
