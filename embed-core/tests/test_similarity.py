"""How alike two vectors are."""

import math

import numpy as np
import pytest
from embed_core import MockEmbedding, SimilarityMode, mean_agg, similarity
from embed_core.errors import ConfigurationError, InvalidInputError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

vectors = arrays.arrays(np.float32, 5, elements=st.floats(-1e6, 1e6, width=32))


def test_the_values_are_llama_index_s():
    assert [str(mode) for mode in SimilarityMode] == ["cosine", "dot_product", "euclidean"]
    assert SimilarityMode.DEFAULT == "cosine"


@pytest.mark.parametrize(("mode", "expected"), [("cosine", 0.96), ("dot_product", 24.0), ("euclidean", -math.sqrt(2))])
def test_each_mode_on_a_hand_made_pair(mode, expected):
    assert similarity([3.0, 4.0], [4.0, 3.0], SimilarityMode(mode)) == pytest.approx(expected)
    assert MockEmbedding.similarity([3.0, 4.0], [4.0, 3.0], SimilarityMode(mode)) == pytest.approx(expected)


@given(vectors, vectors, st.sampled_from(SimilarityMode))
def test_it_is_symmetric_and_a_float(one, other, mode):
    assert similarity(one, other, mode) == pytest.approx(similarity(other, one, mode))
    assert type(similarity(one, other, mode)) is float


@given(vectors, vectors)
def test_a_cosine_is_between_minus_one_and_one_and_knows_no_length(one, other):
    cosine = similarity(one, other)
    assert -1.0 <= cosine <= 1.0
    assert similarity(np.float64(1000) * one, other) == pytest.approx(cosine, abs=1e-9)


@given(vectors, vectors)
def test_nothing_is_more_alike_than_a_vector_to_itself(one, other):
    for mode in (SimilarityMode.DEFAULT, SimilarityMode.EUCLIDEAN):
        if one.any():
            assert similarity(one, one, mode) >= similarity(one, other, mode) - 1e-9


def test_a_zero_vector_is_like_nothing():
    assert similarity([0.0, 0.0], [1.0, 2.0]) == 0.0


def test_what_is_not_finite_is_not_called_alike():
    assert math.isnan(similarity([math.nan, 1.0], [1.0, 1.0]))


def test_products_are_accumulated_in_float64():
    one = np.array([2.0**12, 1.0, -(2.0**12)], dtype=np.float32)
    other = np.array([2.0**13, 1.0, 2.0**13], dtype=np.float32)
    assert similarity(one, other, SimilarityMode.DOT_PRODUCT) == 1.0
    assert similarity(np.full(1000, 6e4, dtype=np.float16), np.full(1000, 6e4, dtype=np.float16)) == pytest.approx(1.0)


@pytest.mark.parametrize("other", [[1.0], [[1.0, 2.0]], 1.0])
def test_what_is_no_pair_of_vectors_is_refused(other):
    with pytest.raises(InvalidInputError, match="both must be vectors of one dimension"):
        similarity([1.0, 2.0], other)


def test_an_unknown_mode_names_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"'manhattan'.*'cosine', 'dot_product', 'euclidean'"):
        similarity([1.0], [1.0], "manhattan")


def test_a_mean_of_embeddings_is_accumulated_in_float64():
    assert mean_agg([[2.0**25, 1.0]] + [[1.0, 3.0]] * 3) == [(2**25 + 3) / 4, 2.5]


def test_a_mean_of_nothing_is_refused():
    with pytest.raises(InvalidInputError, match="at least one"):
        mean_agg([])
