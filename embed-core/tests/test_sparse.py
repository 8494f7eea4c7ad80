"""Sparse vectors take the same way as all others: same cache, order, checks, retries and events."""

import asyncio
import pickle

import numpy as np
import pytest
from embed_core import BaseSparseEmbedding, ProviderResponse, SparseVector
from embed_core.errors import EmbeddingIntegrityError, InputTooLongError, InvalidInputError
from embed_core.instrumentation import CallbackManager
from embed_core.kvstore import MemoryKVStore
from hypothesis import given
from hypothesis import strategies as st

TEXTS = ["a bread", "b", "a bread", "some more words", ""]
ENTRIES = st.dictionaries(st.integers(0, 30_000), st.floats(-1e3, 1e3, width=32).filter(bool), max_size=20)


class Words(BaseSparseEmbedding):
    """Counts words; a vocabulary of hashes is enough for a test."""

    answer: object = None

    def _get_query_embedding(self, query):
        return self._get_text_embeddings([query])[0]

    def _get_text_embedding(self, text):
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts):
        self.__dict__.setdefault("sent", []).append(list(texts))
        vectors = [{sum(word.encode()): float(len(word)) for word in text.split()} for text in texts]
        return self.answer(texts, vectors) if self.answer else vectors


@given(ENTRIES)
def test_a_sparse_vector_is_the_mapping_it_was_made_from(entries):
    vector = SparseVector.of(entries)
    assert dict(vector) == entries
    assert vector.indices.tolist() == sorted(entries)
    assert vector == entries
    assert pickle.loads(pickle.dumps(vector)) == vector
    assert SparseVector(list(entries)[::-1], list(entries.values())[::-1]) == vector


@given(ENTRIES)
def test_a_pair_of_arrays_is_a_sparse_vector_too(entries):
    pair = np.array(list(entries), dtype=np.int64), np.array(list(entries.values()), dtype=np.float32)
    assert SparseVector.of(pair) == entries
    model = Words(answer=lambda texts, vectors: [pair] * len(texts))
    assert model.get_text_embedding_batch(["a", "b"]) == [entries, entries]


@given(ENTRIES, ENTRIES)
def test_the_dot_product_is_that_of_the_dense_vectors(one, other):
    expected = sum(value * other.get(index, 0.0) for index, value in one.items())
    assert BaseSparseEmbedding.similarity(SparseVector.of(one), SparseVector.of(other)) == pytest.approx(expected)


@given(st.lists(ENTRIES, min_size=1, max_size=4))
def test_the_mean_is_that_of_the_dense_vectors(all_entries):
    mean, indices = SparseVector.mean(all_entries), {index for one in all_entries for index in one}
    assert set(mean) <= indices
    for index in indices:
        expected = np.mean([one.get(index, 0.0) for one in all_entries])
        assert mean.get(index, 0.0) == pytest.approx(expected, rel=1e-6)


def test_the_mean_of_nothing_is_refused():
    with pytest.raises(InvalidInputError, match="no embeddings to average"):
        SparseVector.mean([])


def largest(vectors):
    return {index: max(vector.get(index, 0.0) for vector in vectors) for vector in vectors for index in vector}


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(("aggregate", "expected"), [(None, {97: 1.0, 98: 0.5}), (largest, {97: 2.0, 98: 1.0})])
def test_queries_are_reduced_to_one_vector(colour, aggregate, expected):
    model, queries = Words(answer=lambda texts, _: [{ord(text[0]): len(text)} for text in texts]), iter(["aa", "b"])
    if colour == "sync":
        assert model.get_agg_embedding_from_queries(queries, aggregate) == expected
    else:
        assert asyncio.run(model.aget_agg_embedding_from_queries(queries, aggregate)) == expected
    with pytest.raises(InvalidInputError):
        model.get_agg_embedding_from_queries([])


@pytest.mark.parametrize(
    ("indices", "values"),
    [([1, 1], [1, 2]), ([-1], [1]), ([1], [np.nan]), ([1], [1e300]), ([1], [1, 2]), ([1.5], [1])]
    + [([index], [1.0]) for index in (2**31, 2**32 + 5, 2**63, 2**64, -(2**32))],
)
def test_what_is_no_sparse_vector_is_refused(indices, values):
    with pytest.raises(InvalidInputError):
        SparseVector(indices, values)
    with pytest.raises(InvalidInputError):
        SparseVector.of((indices, values))
    if len(set(indices)) == len(values):
        with pytest.raises(InvalidInputError):
            SparseVector.of(dict(zip(indices, values, strict=True)))


def test_the_largest_index_is_that_of_int32():
    assert SparseVector([2**31 - 1, 0], [1.0, 2.0]) == {0: 2.0, 2**31 - 1: 1.0}


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("batch", [1, 2, 10])
def test_every_path_gives_the_same_vectors(cached, batch):
    model = Words(embed_batch_size=batch, num_workers=2, embeddings_cache=MemoryKVStore() if cached else None)
    expected = [model.get_text_embedding(text) for text in TEXTS]
    assert expected[0] == {sum(b"a"): 1.0, sum(b"bread"): 5.0}
    for _ in range(2):
        assert model.get_text_embedding_batch(TEXTS) == expected
        assert asyncio.run(model.aget_text_embedding_batch(iter(TEXTS))) == expected
    assert asyncio.run(model.aget_text_embedding(TEXTS[0])) == model.get_query_embedding(TEXTS[0]) == expected[0]
    assert asyncio.run(model.aget_query_embedding(TEXTS[0])) == expected[0]
    if cached:
        assert sorted({text for batch in model.__dict__["sent"] for text in batch}) == sorted(set(TEXTS))
        assert model.get_text_embedding_batch([]) == []
    assert model.dimension is None


@pytest.mark.parametrize("cached", [True, False])
def test_queries_have_a_batch_of_their_own(cached):
    class Asked(Words):
        def _get_query_embeddings(self, queries):
            return [{7: 2.0 * len(query) + 1} for query in queries]

    model = Asked(embed_batch_size=2, embeddings_cache=MemoryKVStore() if cached else None)
    expected = [model.get_query_embedding(text) for text in TEXTS]
    assert expected[0] == {7: 15.0}
    assert model.get_query_embedding_batch(iter(TEXTS)) == expected
    assert asyncio.run(model.aget_query_embedding_batch(TEXTS)) == expected
    assert model.get_query_embedding_batch([TEXTS[0], None], on_error="none") == [expected[0], None]
    assert asyncio.run(model.aget_query_embedding_batch([None, TEXTS[0]], on_error="none")) == [None, expected[0]]
    assert model.get_text_embedding_batch(TEXTS) == Words().get_text_embedding_batch(TEXTS)


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (lambda _, vectors: vectors[:-1], "answered 0 vectors for 1 inputs"),
        (lambda _, vectors: [vectors[0], {3: np.nan}], "not finite.* at input 1 "),
        (lambda _, vectors: [vectors[0], ([3], [np.inf])], "not finite.* at input 1 "),
        (lambda _, vectors: [vectors[0], ([3, 4], [1.0])], "make no sparse vector.* at input 1 "),
        (lambda _, vectors: [vectors[0], "words"], "`str` is no sparse vector.* at input 1 "),
        (lambda _, vectors: np.ones((2, 3)), "something else than sparse vectors"),
        (lambda _, vectors: np.ones((2, 0)), "something else than sparse vectors"),
        (lambda _, vectors: 5, "one `int` where a sequence of vectors belongs"),
        (lambda _, vectors: (vector for vector in [*vectors, 5]), "answered 2 vectors for 1 inputs"),
        (lambda _, vectors: [vectors[0], {2**32 + 5: 1.0}], "above 2147483647.* at input 1 "),
        (lambda _, vectors: [vectors[0], {3: 10**400}], "too large.* at input 1 "),
    ],
)
def test_a_lie_is_a_named_error(lie, message):
    with pytest.raises(EmbeddingIntegrityError, match=message):
        Words(answer=lie).get_text_embedding_batch(["a", "b"])


def test_answers_out_of_order_are_put_back():
    model = Words(answer=lambda texts, vectors: ProviderResponse(vectors[::-1], indices=[1, 0]))
    assert model.get_text_embedding_batch(["a", "bb"]) == Words().get_text_embedding_batch(["a", "bb"])


def test_a_bad_text_leaves_a_gap_and_its_neighbours():
    def refuse(texts, vectors):
        if "bad" in texts:
            raise InputTooLongError("too long")
        return vectors

    found = Words(answer=refuse).get_text_embedding_batch(["a", "bad", "b"], on_error="none")
    assert found == [{sum(b"a"): 1.0}, None, {sum(b"b"): 1.0}]


def test_events_are_told_of_sparse_vectors_too():
    heard = []
    model = Words(callback_manager=CallbackManager())
    model.callback_manager.add_handler(lambda event: heard.append(type(event).__name__))
    model.get_text_embedding("a")
    assert heard == ["EmbeddingStartEvent", "EmbeddingEndEvent"]


def test_a_mean_of_windows_is_not_sparse_and_is_refused():
    with pytest.raises(ValueError, match="long_text"):
        Words(long_text="mean")


def test_it_is_closed_like_every_other_model():
    class Held(Words):
        def _close(self):
            self.__dict__.setdefault("closed", []).append(True)

    async def used():
        async with Held() as model:
            await model.aget_text_embedding("a")
        return model

    with Held() as model:
        model.get_text_embedding("a")
    assert len(model.__dict__["closed"]) == len(asyncio.run(used()).__dict__["closed"]) == 1
