"""How vectors lie in a store: every bit comes back, and no damaged one ever does."""

import zlib

import numpy as np
import pytest
from embed_core._rows import Dense
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

encode, decode = Dense().encode, Dense().decode

rows = arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 24)), elements=st.floats(width=32))
KEYS = [bytes([number]) * 24 for number in range(4)]


def encoded(vectors):
    return encode(KEYS[: len(vectors)], vectors)


def flipped(data, bit):
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@given(rows)
def test_every_bit_comes_back(vectors):
    decoded = decode(encoded(vectors))
    assert [decoded[key].tobytes() for key in KEYS[: len(vectors)]] == [vector.tobytes() for vector in vectors]
    assert all(vector.dtype == np.float32 and not vector.flags.writeable for vector in decoded.values())


@given(rows, st.data())
def test_a_flipped_bit_is_a_miss(vectors, data):
    (key, whole), *others = encoded(vectors).items()
    damaged = flipped(whole, data.draw(st.integers(0, 8 * len(whole) - 1)))
    assert sorted(decode({key: damaged} | dict(others))) == [other for other, _ in others]


@given(rows, st.integers(0, 8 * 24 - 1))
def test_a_vector_under_another_key_is_a_miss(vectors, bit):
    (key, whole), *others = encoded(vectors).items()
    assert decode({flipped(key, bit): whole}) == {}
    assert decode({other: whole for other, _ in others}) == {}


@given(rows)
def test_a_checksum_that_does_not_cover_the_key_is_a_miss(vectors):
    blobs = {
        key: row + zlib.crc32(row).to_bytes(4, "little") for key, row in zip(KEYS, map(bytes, vectors), strict=False)
    }
    assert decode(blobs) == {}


@given(rows, st.data())
def test_a_shortened_or_lengthened_blob_is_a_miss(vectors, data):
    key, blob = next(iter(encoded(vectors).items()))
    cut = blob[: data.draw(st.integers(0, len(blob) - 1))]
    for damaged in (cut, blob + b"\x01", blob + blob):
        assert decode({key: damaged}) == {}


@given(st.binary(max_size=64))
def test_foreign_bytes_are_a_miss(blob):
    assert decode({b"foreign": blob}) == {} or len(blob) % 4 == 0


def test_another_dimension_is_a_miss_where_the_dimension_is_known():
    stored = encode([b"two"], np.ones((1, 2))) | encode([b"three"], np.ones((1, 3)))
    assert list(decode(stored, 3)) == [b"three"]
    assert list(decode(stored)) == [b"two", b"three"]


def test_the_form_is_little_endian_float32_on_every_machine():
    blob = encode([b"key"], np.array([[1.0, -2.0]], dtype=">f8"))[b"key"]
    assert blob[:8] == bytes.fromhex("0000803f000000c0")
    assert len(blob) == 12


@pytest.mark.parametrize("dimension", [384, 1536])
def test_a_stored_vector_takes_four_bytes_a_number_and_a_checksum(dimension):
    assert [len(blob) for blob in encoded(np.zeros((2, dimension))).values()] == [4 * dimension + 4] * 2
