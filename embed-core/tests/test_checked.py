"""An answer that does not fit the question is a named error, on every path."""

import asyncio
from io import BytesIO
from typing import Any, ClassVar

import numpy as np
import pytest
from embed_core import BaseEmbedding, BaseSparseEmbedding, MultiModalEmbedding, ProviderResponse
from embed_core.errors import (
    AuthenticationError,
    EmbeddingIntegrityError,
    InvalidInputError,
    ProviderError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RateLimitError,
)
from embed_core.instrumentation import CallbackManager, EmbeddingEndEvent
from embed_core.kvstore import MemoryKVStore, SQLiteKVStore
from embed_core.middleware.retried import RetryPolicy
from embed_core.testing import ScriptedEmbedding
from pydantic import PrivateAttr

TEXTS = [f"text {number}" for number in range(7)]

PATHS = {
    "array": lambda model: model.embed_texts(TEXTS),
    "lists": lambda model: np.array(model.get_text_embedding_batch(TEXTS)),
    "stream": lambda model: np.concatenate(list(model.stream_texts(TEXTS))),
    "async array": lambda model: asyncio.run(model.aembed_texts(TEXTS)),
    "async lists": lambda model: np.array(asyncio.run(model.aget_text_embedding_batch(TEXTS))),
    "queries": lambda model: model.embed_queries(TEXTS),
    "query lists": lambda model: np.array(model.get_query_embedding_batch(TEXTS)),
    "async query lists": lambda model: np.array(asyncio.run(model.aget_query_embedding_batch(TEXTS))),
    "async queries": lambda model: asyncio.run(model.aembed_queries(TEXTS)),
}


@pytest.fixture(params=PATHS)
def path(request):
    return PATHS[request.param]


@pytest.fixture(params=["cached", "not cached"])
def model(request):
    cache = MemoryKVStore() if request.param == "cached" else None
    return ScriptedEmbedding(embed_dim=6, embed_batch_size=3, num_workers=2, embeddings_cache=cache)


def reversed_with_indices(turn):
    return ProviderResponse(turn.vectors[::-1], indices=list(range(len(turn.inputs)))[::-1])


def as_lists(turn):
    return turn.vectors.tolist()


def as_float64_in_another_order(turn):
    return np.asfortranarray(turn.vectors.astype(np.float64))


@pytest.mark.parametrize("script", [reversed_with_indices, as_lists, as_float64_in_another_order])
def test_every_honest_answer_puts_each_vector_on_its_own_text(model, path, script):
    expected = ScriptedEmbedding(embed_dim=6).embed_texts(TEXTS)
    model.script = script
    assert np.array_equal(path(model), expected)
    assert np.array_equal(path(model), expected)


class Stubborn:
    """As a tensor on a GPU, or one that still needs its gradient."""

    def __len__(self):
        return 6

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("detach it first")


LIES = {
    "one too few": (lambda turn: turn.vectors[:-1], "answered 0 vectors for 1 inputs, .*; at input 4"),
    "one too few, as lists": (lambda turn: turn.vectors[:-1].tolist(), "answered 0 vectors for 1 inputs"),
    "one too many": (lambda turn: np.vstack([turn.vectors, turn.vectors[:1]]), "answered 2 vectors for 1 inputs"),
    "a set": (lambda turn: set(map(tuple, turn.vectors)), "answered one `set` where a sequence of vectors belongs"),
    "a mapping": (lambda turn: dict(enumerate(turn.vectors)), "answered one `dict` where a sequence of vectors"),
    "nothing": (lambda turn: None, "answered 0 vectors for 1 inputs"),
    "one number": (lambda turn: 5, "answered one `int` where a sequence of vectors belongs, .*; at input 4"),
    "one number, reported": (lambda turn: ProviderResponse(5.0), "one `float` where a sequence of vectors belongs"),
    "an array of one number": (lambda turn: np.array(5.0), "one `ndarray` where a sequence of vectors belongs"),
    "arrays of one number": (lambda turn: [np.array(5.0)] * len(turn.inputs), "shape"),
    "a generator of one too many": (
        lambda turn: (vector for vector in [*turn.vectors, [1.0]]),
        "answered 2 vectors for 1 inputs, .*; at input 4",
    ),
    "a number no float holds": (lambda turn: [[10**400] * 6] * len(turn.inputs), "no array of numbers"),
    "what refuses to be an array": (lambda turn: [Stubborn()] * len(turn.inputs), "no array of numbers"),
    "another dimension": (lambda turn: turn.vectors[:, :5], "dimension 5 where 6 was expected, .*; at input 4"),
    "words": (lambda turn: [["a"] * 6] * len(turn.inputs), "no array of numbers"),
    "numbers for vectors": (lambda turn: [1.0] * len(turn.inputs), "shape"),
    "no dimensions": (lambda turn: np.empty((len(turn.inputs), 0)), "shape"),
    "an index out of range": (
        lambda turn: ProviderResponse(turn.vectors, indices=[*list(range(len(turn.inputs)))[1:], 9]),
        "positions",
    ),
    "too few indices": (
        lambda turn: ProviderResponse(turn.vectors, indices=list(range(len(turn.inputs)))[1:]),
        "positions",
    ),
    "booleans for positions": (
        lambda turn: ProviderResponse(turn.vectors, indices=[False] * len(turn.inputs)),
        "False",
    ),
    "a fraction": (
        lambda turn: ProviderResponse(turn.vectors, indices=[0.9, *list(range(len(turn.inputs)))[1:]]),
        "0.9",
    ),
    "a position in words": (
        lambda turn: ProviderResponse(turn.vectors, indices=list(map(str, list(range(len(turn.inputs)))))),
        "'0'",
    ),
    "complex numbers": (lambda turn: turn.vectors + 1j, "complex numbers, of which a part would be lost"),
    "lists of complex arrays": (lambda turn: list(turn.vectors + 1j), "complex numbers"),
    "complex lists": (lambda turn: (turn.vectors + 1j).tolist(), "no array of numbers"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_a_named_error_and_never_a_shifted_vector(model, path, lie):
    answer, message = LIES[lie]
    model.script = lambda turn: answer(turn) if "text 4" in turn.inputs else turn.vectors
    with pytest.raises(EmbeddingIntegrityError, match=message) as caught:
        path(model)
    assert "'text 4'" in str(caught.value)
    assert_all_others_are_there(model, path, caught.value)


WRONG_ROWS = {
    "a NaN": (np.nan, "not finite"),
    "infinite": (np.inf, "not finite"),
    "more than float32 holds": (1e300, "not finite"),
    "zeros": (0.0, "a vector of zeros, which has no direction"),
}


@pytest.mark.parametrize("wrong", WRONG_ROWS)
def test_a_wrong_vector_fails_alone_and_costs_no_other_call(model, path, wrong):
    number, message = WRONG_ROWS[wrong]

    def answer(turn):
        vectors = turn.vectors.astype(np.float64)
        vectors[[text == "text 4" for text in turn.inputs]] = number
        return ProviderResponse(vectors[::-1], indices=list(range(len(turn.inputs)))[::-1])

    model.script = answer
    with pytest.raises(EmbeddingIntegrityError, match=message) as caught:
        path(model)
    assert model.call_count <= 3
    assert "input 4 ('text 4')" in str(caught.value)
    assert_all_others_are_there(model, path, caught.value)


@pytest.mark.parametrize("missing", [None, [], [1.0]], ids=["null", "empty", "short"])
def test_a_missing_vector_fails_alone(missing):
    model = ScriptedEmbedding(
        embed_dim=2, script=lambda turn: [missing if "1" in text else [1.0, 2.0] for text in turn.inputs]
    )
    found = model.get_text_embedding_batch(TEXTS, on_error="none")
    assert [row for row, vector in enumerate(found) if vector is None] == [1]
    assert model.call_count == 1


def test_a_position_twice_is_never_a_shifted_vector():
    model = ScriptedEmbedding(script=lambda turn: ProviderResponse(turn.vectors, indices=[0] * len(turn.inputs)))
    assert np.array_equal(model.embed_texts(TEXTS), ScriptedEmbedding().embed_texts(TEXTS))  # one at a time
    assert model.call_count > len(TEXTS)


def test_small_integers_are_the_numbers_that_they_are():
    model = ScriptedEmbedding(
        embed_dim=2, script=lambda turn: np.array([[-128, 127]] * len(turn.inputs), dtype=np.int8)
    )
    assert model.embed_texts(["a"]).tolist() == [[-128.0, 127.0]]


def assert_all_others_are_there(model, path, error):
    assert set(error.failed) == {4}
    assert error.indices == (4,)
    expected = ScriptedEmbedding(embed_dim=6).embed_texts(TEXTS)
    assert all(np.array_equal(vector, expected[row]) for row, vector in error.completed.items())
    assert {3, 5} <= set(error.completed)
    if model.embeddings_cache is not None:
        model.script = lambda turn: turn.vectors
        assert np.array_equal(path(model), expected)


def test_a_dimension_is_learned_from_the_first_answer_where_none_is_declared():
    class Undeclared(ScriptedEmbedding):
        def _declared_dimension(self):
            return None

    model = Undeclared(embed_dim=6)
    assert model.dimension is None
    model.embed_texts(["a"])
    assert model.dimension == 6
    model.script = lambda turn: turn.vectors[:, :4]
    with pytest.raises(EmbeddingIntegrityError, match="dimension 4 where 6"):
        model.embed_texts(["a"])


class StatusError(Exception):
    def __init__(self, status_code):
        super().__init__(f"HTTP {status_code}")
        self.status_code = status_code


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (TimeoutError("slow"), ProviderTimeoutError),
        (ConnectionResetError("gone"), ProviderUnavailableError),
        (StatusError(401), AuthenticationError),
        (StatusError(408), ProviderTimeoutError),
        (StatusError(409), ProviderUnavailableError),
        (StatusError(429), RateLimitError),
        (StatusError(503), ProviderUnavailableError),
        (StatusError(404), ProviderError),
        (KeyError("data"), ProviderError),
        (StopIteration(), ProviderError),
    ],
)
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_a_hook_raises_becomes_an_error_of_the_tree_with_its_cause(raised, expected, colour):
    def fail(turn):
        raise raised

    model = ScriptedEmbedding(script=fail, retry=RetryPolicy(max_retries=0))
    with pytest.raises(ProviderError, match="`mock` failed with") as caught:
        model.embed_texts(["a"]) if colour == "sync" else asyncio.run(model.aembed_texts(["a"]))
    assert type(caught.value) is expected
    cause = caught.value.__cause__
    assert cause is raised or cause.__cause__ is raised
    assert caught.value.status_code == getattr(raised, "status_code", None)


def test_a_hook_names_positions_in_its_batch_and_the_caller_hears_its_own():
    def fail(turn):
        if "text 5" in turn.inputs:
            raise ProviderError("no", indices=[turn.inputs.index("text 5")])
        return turn.vectors

    with pytest.raises(InvalidInputError, match=r"input 5 \('text 5'\)") as caught:
        ScriptedEmbedding(embed_batch_size=3, script=fail).embed_texts(TEXTS)
    assert set(caught.value.failed) == {5}
    assert caught.value.__cause__.indices == (5,)


class Reusing(ScriptedEmbedding):
    """Answers with the same array every time, as code that saves allocations does; one thread at a time can use it."""

    io_bound: ClassVar[bool] = False
    _array: np.ndarray = PrivateAttr(default_factory=lambda: np.zeros((64, 6), np.float32))

    def _get_text_embeddings(self, texts):
        answer = self._array[: len(texts)]
        answer[:] = super()._get_text_embeddings(texts)
        return answer

    async def _aget_text_embeddings(self, texts):
        return self._get_text_embeddings(texts)


@pytest.mark.parametrize("batch", [2, 7, 64])
@pytest.mark.parametrize("store", [None, "memory", "file"])
def test_an_array_that_a_hook_uses_again_changes_no_vector(tmp_path, batch, store):
    expected = ScriptedEmbedding(embed_dim=6).embed_texts(TEXTS)
    stores = {"memory": MemoryKVStore, "file": lambda: SQLiteKVStore(tmp_path / "cache.db")}
    cache = stores[store]() if store else None
    model = Reusing(embed_dim=6, embed_batch_size=batch, num_workers=3, embeddings_cache=cache)
    told = []

    async def tell(event):
        if isinstance(event, EmbeddingEndEvent):
            told.append((event.chunks, event.embeddings))
            for _ in range(5):  # other calls go on meanwhile
                await asyncio.sleep(0)

    async def main():
        calls = (model.aembed_texts([*TEXTS, f"call {number}"]) for number in range(5))
        return [vectors[: len(TEXTS)] for vectors in await asyncio.gather(*calls)]

    model.callback_manager = CallbackManager([tell])
    found = [*asyncio.run(main()), model.embed_texts(TEXTS), np.concatenate(list(model.stream_texts(TEXTS)))]
    model.embed_texts(["another"])
    assert all(np.array_equal(vectors, expected) for vectors in found)
    for texts, vectors in told:
        assert np.array_equal(vectors, ScriptedEmbedding(embed_dim=6).embed_texts(texts))
    if cache is not None:
        cache.close()


class OneBuffer:
    """Single hooks that write every vector into the same buffer."""

    _buffer: ClassVar[Any] = np.zeros(2, np.float32)

    def _single(self, one):
        content = one.getvalue() if isinstance(one, BytesIO) else one
        self._buffer[:] = [len(content), 1]
        return self._buffer

    def _get_text_embedding(self, text):
        return self._single(text)

    def _get_query_embedding(self, query):
        return self._single(query)

    def _get_image_embedding(self, image):
        return self._single(image)


class OneBufferAsync(OneBuffer):
    async def _aget_text_embedding(self, text):
        return self._single(text)

    async def _aget_query_embedding(self, query):
        return self._single(query)


class OneList(OneBuffer):
    _buffer: ClassVar[Any] = [0.0, 0.0]


class Clients(list):
    """A list of an SDK, which holds its client."""

    def __reduce_ex__(self, protocol):
        raise TypeError("cannot pickle '_thread.lock' object")


class OneClients(OneBuffer):
    _buffer: ClassVar[Any] = Clients([0.0, 0.0])


class OneBufferSparse(OneBuffer):
    def _single(self, one):
        return np.arange(2), super()._single(one)


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("kind", ["text", "query"])
@pytest.mark.parametrize("hooks", [OneBuffer, OneBufferAsync, OneList, OneClients])
def test_single_hooks_may_use_one_buffer_again(hooks, kind, colour):
    class Model(hooks, BaseEmbedding):
        pass

    batch = getattr(Model(), f"{'a' if colour == 'async' else ''}get_{kind}_embedding_batch")(["a", "bb"])
    assert (asyncio.run(batch) if colour == "async" else batch) == [[1, 1], [2, 1]]


def test_an_image_hook_may_use_one_buffer_again():
    class Model(OneBuffer, MultiModalEmbedding):
        pass

    small, large = (np.full((size, size, 3), 7, np.uint8) for size in (1, 9))
    one, other = (Model().get_image_embedding(image) for image in (small, large))
    assert one != other
    assert Model().get_image_embedding_batch([small, large]) == [one, other]


@pytest.mark.parametrize("hook", ["text", "query"])
def test_a_sparse_hook_may_use_one_buffer_again(hook):
    class Model(OneBufferSparse, BaseSparseEmbedding):
        pass

    vectors = getattr(Model(), f"get_{hook}_embedding_batch")(["a", "bb"])
    assert [dict(vector) for vector in vectors] == [{0: 1, 1: 1}, {0: 2, 1: 1}]
