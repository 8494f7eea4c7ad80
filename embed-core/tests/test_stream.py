"""Any number of texts, a window at a time."""

import asyncio
import copy
import subprocess
import sys

import numpy as np
import pytest
from embed_core import MockEmbedding
from embed_core.errors import InvalidInputError
from embed_core.kvstore import MemoryKVStore

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
from embed_core import MockEmbedding

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
