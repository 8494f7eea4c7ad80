"""How vectors lie in a store: every bit comes back, and no damaged one ever does."""

import numpy as np
import pytest
from embed_core._rows import Dense
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

encode, decode = Dense().encode, Dense().decode

rows = arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 24)), elements=st.floats(width=32))


@given(rows)
def test_every_bit_comes_back(vectors):
    stored = dict(enumerate(encode(vectors)))
    decoded = decode(stored)
    assert [decoded[row].tobytes() for row in range(len(vectors))] == [vector.tobytes() for vector in vectors]
    assert all(vector.dtype == np.float32 and not vector.flags.writeable for vector in decoded.values())


@given(rows, st.data())
def test_a_flipped_bit_is_a_miss(vectors, data):
    whole, *others = encode(vectors)
    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    decoded = decode({"damaged": bytes(damaged)} | dict(enumerate(others)))
    assert sorted(decoded) == list(range(len(others)))


@given(rows, st.data())
def test_a_shortened_or_lengthened_blob_is_a_miss(vectors, data):
    (blob, *_) = encode(vectors)
    cut = blob[: data.draw(st.integers(0, len(blob) - 1))]
    assert decode({b"cut": cut, b"longer": blob + b"\x01", b"doubled": blob + blob}) == {}


@given(st.binary(max_size=64))
def test_foreign_bytes_are_a_miss(blob):
    assert decode({b"foreign": blob}) == {} or len(blob) % 4 == 0


def test_another_dimension_is_a_miss_where_the_dimension_is_known():
    stored = {b"two": encode(np.ones((1, 2)))[0], b"three": encode(np.ones((1, 3)))[0]}
    assert list(decode(stored, 3)) == [b"three"]
    assert list(decode(stored)) == [b"two", b"three"]


def test_the_form_is_little_endian_float32_on_every_machine():
    (blob,) = encode(np.array([[1.0, -2.0]], dtype=">f8"))
    assert blob[:8] == bytes.fromhex("0000803f000000c0")
    assert len(blob) == 12


@pytest.mark.parametrize("dimension", [384, 1536])
def test_a_stored_vector_takes_four_bytes_a_number_and_a_checksum(dimension):
    assert [len(blob) for blob in encode(np.zeros((2, dimension)))] == [4 * dimension + 4] * 2
