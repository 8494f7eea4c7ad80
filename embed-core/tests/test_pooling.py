"""Pooling of numpy arrays and torch tensors, which give the same numbers."""

import subprocess
import sys

import numpy as np
import pytest
from embed_core import Pooling
from embed_core.errors import ConfigurationError, InvalidInputError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

TOKENS = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
MASK = np.array([[1, 1, 0, 0], [0, 1, 1, 1]])


def as_numpy(array):
    return array


def as_torch(array):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.array(array))


@pytest.fixture(params=[as_numpy, as_torch])
def kind(request):
    return request.param


def test_the_values_are_llama_index_s():
    assert [str(pooling) for pooling in Pooling] == ["cls", "mean"]
    assert Pooling("cls") is Pooling.CLS


def test_cls_takes_the_first_token(kind):
    assert np.array_equal(Pooling.CLS(kind(TOKENS)), TOKENS[:, 0])
    assert np.array_equal(Pooling.CLS(kind(TOKENS[1])), TOKENS[1, 0])


def test_cls_takes_the_first_token_that_is_no_padding(kind):
    assert np.array_equal(Pooling.CLS(kind(TOKENS), kind(MASK)), [TOKENS[0, 0], TOKENS[1, 1]])
    assert np.array_equal(Pooling.CLS(kind(TOKENS[1]), kind(MASK[1])), TOKENS[1, 1])


def test_mean_takes_every_token_without_a_mask(kind):
    assert np.array_equal(Pooling.MEAN(kind(TOKENS)), TOKENS.mean(axis=1))
    assert np.array_equal(Pooling.MEAN(kind(TOKENS[0])), TOKENS[0].mean(axis=0))


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.float32])
def test_mean_leaves_padding_out(kind, dtype):
    expected = [TOKENS[0, :2].mean(axis=0), TOKENS[1, 1:].mean(axis=0)]
    assert np.array_equal(Pooling.MEAN(kind(TOKENS), kind(MASK.astype(dtype))), expected)
    assert np.array_equal(Pooling.MEAN(kind(TOKENS[1]), kind(MASK[1].astype(dtype))), expected[1])


def test_what_stands_in_the_padding_changes_nothing(kind):
    spoiled = np.where(MASK[..., None] == 1, TOKENS, np.array([np.nan, np.inf, 1e30], dtype=np.float32))
    for pooling in Pooling:
        assert np.array_equal(pooling(kind(spoiled), kind(MASK)), pooling(kind(TOKENS), kind(MASK)))


def test_a_mask_may_be_a_plain_list(kind):
    assert np.array_equal(Pooling.MEAN(kind(TOKENS), MASK.tolist()), Pooling.MEAN(TOKENS, MASK))
    assert np.array_equal(Pooling.MEAN(TOKENS.tolist(), MASK), Pooling.MEAN(TOKENS, MASK))


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5)),
        elements=st.floats(-100, 100, width=32),
    ),
    st.data(),
)
def test_a_batch_is_pooled_as_its_texts_are_alone(tokens, data):
    lengths = [data.draw(st.integers(1, tokens.shape[1])) for _ in tokens]
    mask = np.array([[position < length for position in range(tokens.shape[1])] for length in lengths])
    for pooling in Pooling:
        alone = [pooling(text[:length]) for text, length in zip(tokens, lengths, strict=True)]
        assert np.allclose(pooling(tokens, mask), alone, rtol=1e-6, atol=1e-6)


def test_a_mean_is_accumulated_in_float64(kind):
    tokens = np.concatenate([np.full((1, 1), 2.0**25), np.ones((1023, 1))]).astype(np.float32)
    assert Pooling.MEAN(kind(tokens)).tolist() == [np.float32((2**25 + 1023) / 1024)]


def test_half_precision_becomes_float32(kind):
    tokens = np.full((3, 2), 60000, dtype=np.float16)  # whose sum is no float16
    for pooling in Pooling:
        assert pooling(kind(tokens)).tolist() == [60000, 60000]
        assert "float32" in str(pooling(kind(tokens), kind(np.ones(3))).dtype)


def test_bfloat16_becomes_float32():
    torch = pytest.importorskip("torch")
    pooled = Pooling.MEAN(torch.tensor([[1.0], [2.0]], dtype=torch.bfloat16), torch.tensor([1, 1]))
    assert pooled.dtype == torch.float32
    assert pooled.tolist() == [1.5]


@pytest.mark.parametrize(("given", "expected"), [(np.float32, "float32"), (np.float64, "float64")])
def test_other_precisions_stay(kind, given, expected):
    assert expected in str(Pooling.MEAN(kind(TOKENS.astype(given))).dtype)


def test_what_comes_in_as_a_tensor_goes_out_as_one():
    torch = pytest.importorskip("torch")
    assert isinstance(Pooling.MEAN(torch.nn.Parameter(torch.ones(2, 3, 4)), MASK[:, :3]), torch.Tensor)
    assert isinstance(Pooling.CLS(TOKENS), np.ndarray)


def test_gradients_flow_through():
    torch = pytest.importorskip("torch")
    tokens = torch.ones(1, 2, 2, requires_grad=True)
    Pooling.MEAN(tokens, [[1, 0]]).sum().backward()
    assert tokens.grad.tolist() == [[[1, 1], [0, 0]]]


@pytest.mark.parametrize("shape", [(), (3,), (1, 2, 3, 4)])
def test_other_shapes_are_refused(kind, shape):
    with pytest.raises(InvalidInputError, match=r"it must be \(tokens, hidden\) or \(batch, tokens, hidden\)"):
        Pooling.MEAN(kind(np.zeros(shape)))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_a_text_without_tokens_is_refused(kind, shape):
    with pytest.raises(InvalidInputError, match="no tokens"):
        Pooling.CLS(kind(np.zeros(shape)))


def test_a_ragged_list_is_refused():
    with pytest.raises(InvalidInputError, match="pad the texts"):
        Pooling.MEAN([[[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]])


@pytest.mark.parametrize("shape", [(2, 3), (4,), (2, 4, 3), (1, 4), ()])
def test_a_mask_that_does_not_fit_is_refused(kind, shape):
    with pytest.raises(InvalidInputError, match=r"need \(2, 4\)"):
        Pooling.MEAN(kind(TOKENS), kind(np.ones(shape)))


def test_a_mask_of_zeros_is_refused_by_index(kind):
    for pooling in Pooling:
        with pytest.raises(InvalidInputError, match="no token of text 1") as caught:
            pooling(kind(TOKENS), kind(np.array([[1, 1, 1, 1], [0, 0, 0, 0]])))
        assert caught.value.indices == (1,)
    with pytest.raises(InvalidInputError, match="no token of text 0"):
        Pooling.MEAN(kind(TOKENS[0]), kind(np.zeros(4)))


def test_an_empty_batch_gives_no_vectors(kind):
    assert Pooling.MEAN(kind(np.zeros((0, 4, 3))), kind(np.zeros((0, 4)))).shape == (0, 3)


def test_an_unknown_pooling_names_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"'max'.*choose 'cls' or 'mean'"):
        Pooling("max")


def test_torch_is_never_imported_for_an_array():
    code = "import sys; from embed_core import Pooling; Pooling.MEAN([[1.0], [2.0]]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
