import pytest
from embed_core import load_embedding, save_embedding
from embed_core.errors import InvalidInputError
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_every_bit_comes_back(tmp_path_factory, embedding):
    path = tmp_path_factory.mktemp("vectors") / "one.txt"
    save_embedding(embedding, path)
    assert load_embedding(path) == embedding


@pytest.mark.parametrize("content", [b"", b"1,two", b"\xff\xfe"])
def test_a_file_with_something_else_is_named(tmp_path, content):
    path = tmp_path / "other.txt"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"other.txt` holds no embedding"):
        load_embedding(path)
