"""The mock: the same unit vectors on every machine, and a count of what it was asked."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from embed_core import MockCall, MockEmbedding, MockMultiModalEmbedding, MockSparseEmbedding
from embed_core._mock import hashed_unit_vector
from hypothesis import given
from hypothesis import strategies as st


@given(one=st.text(), other=st.text(), dimension=st.integers(2, 100))
def test_texts_get_unit_vectors_of_their_own(one, other, dimension):
    model = MockEmbedding(embed_dim=dimension)
    vectors = model.embed_texts([one, other])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    if dimension >= 8:
        assert np.array_equal(vectors[0], vectors[1]) == (one == other)
    assert model.get_query_embedding(one) == model.get_text_embedding(one)


def test_the_vectors_are_these_on_every_machine():
    digest = hashlib.sha256(MockEmbedding(embed_dim=1536).embed_texts(["a", "Ä", "a longer text"]).tobytes())
    assert digest.hexdigest() == "d17c092f158a0696f7f11846d8828fb2c6812af9e30d5db101bb77b7dc3f6803"


def test_another_process_with_another_hash_seed_agrees():
    code = "from embed_core import MockEmbedding; print(MockEmbedding().get_text_embedding('a'))"
    other = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert eval(other.stdout) == MockEmbedding().get_text_embedding("a")


def test_calls_are_counted_by_kind_and_input():
    model = MockEmbedding(embed_batch_size=2)
    model.get_text_embedding_batch(["a", "b", "c"])
    model.get_query_embedding("q")
    assert model.calls == [MockCall("text", ("a", "b")), MockCall("text", ("c",)), MockCall("query", ("q",))]
    assert (model.call_count, model.input_count) == (3, 4)
    model.reset()
    assert (model.call_count, model.input_count, model.calls) == (0, 0, [])


def test_one_dimension_has_a_unit_vector_too():
    assert abs(MockEmbedding(embed_dim=1).get_text_embedding("a")[0]) == 1.0
    assert np.linalg.norm(hashed_unit_vector(b"", 3)) > 0.99


def test_a_sparse_mock_counts_words_and_calls():
    model = MockSparseEmbedding(embed_batch_size=2)
    bread, twice, none = model.get_text_embedding_batch(["rye bread", "bread and bread", " "])
    assert sorted(twice.values()) == [1.0, 2.0]
    assert model.similarity(bread, twice) == 2.0
    assert len(none) == 0
    assert model.get_query_embedding("rye bread") == bread == MockSparseEmbedding().get_text_embedding("bread rye")
    assert (model.call_count, model.input_count) == (3, 4)
    assert model.model_name == "mock"
    with pytest.raises(ValueError, match="long_text"):
        MockSparseEmbedding(long_text="mean")
    assert set(MockSparseEmbedding(embed_dim=1).get_text_embedding("a b")) == {0}


@pytest.mark.parametrize("cls", [MockEmbedding, MockMultiModalEmbedding, MockSparseEmbedding])
def test_the_fields_have_a_json_schema(cls):
    schema = cls.model_json_schema()
    assert {"model_name", "embed_dim", "embeddings_cache"} <= schema["properties"].keys()
    assert schema["properties"]["embed_dim"]["type"] == "integer"
