"""Long texts: cut, refused, or averaged over windows."""

import asyncio
import sys
import unicodedata

import numpy as np
import pytest
from embed_core import MockEmbedding
from embed_core.errors import InputTooLongError, QuotaExceededError
from embed_core.instrumentation import CallbackManager, EmbeddingEndEvent
from embed_core.kvstore import MemoryKVStore
from embed_core.middleware.fitted import _most_tokens, byte_windows
from embed_core.testing import ScriptedEmbedding
from hypothesis import given
from hypothesis import strategies as st

LONG = "one two three four five six seven eight nine ten"


@given(text=st.text(max_size=200), limit=st.integers(1, 20))
def test_windows_are_the_text_and_each_fits(text, limit):
    windows = byte_windows(text, limit)
    assert "".join(window for window, _ in windows) == text
    assert all(tokens <= limit for _, tokens in windows)
    assert all(window for window, _ in windows) or text == ""


def test_windows_break_at_white_space_where_there_is_some():
    windows = [window for window, _ in byte_windows("one two three four five six", 3)]
    assert windows == ["one two ", "three four ", "five six"]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_mean_is_the_weighted_unit_mean_of_the_windows(colour):
    model = MockEmbedding(long_text="mean", max_input_tokens=4)
    texts = ["short", LONG, "also short"]
    vectors = model.embed_texts(texts) if colour == "sync" else asyncio.run(model.aembed_texts(texts))
    windows = byte_windows(LONG, 4)
    parts = MockEmbedding().embed_texts([window for window, _ in windows]).astype(np.float64)
    mean = np.average(parts, axis=0, weights=[tokens for _, tokens in windows])
    assert np.array_equal(vectors[1], (mean / np.linalg.norm(mean)).astype(np.float32))
    assert np.array_equal(vectors[[0, 2]], MockEmbedding().embed_texts(["short", "also short"]))


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_windows_that_cancel_out_have_a_mean_of_zeros(colour):
    def opposite(turn):
        return [[1.0, 0.0] if row % 2 else [-1.0, 0.0] for row in range(len(turn.inputs))]

    model = ScriptedEmbedding(embed_dim=2, script=opposite, long_text="mean", max_input_tokens=1)
    text = "abc abd "
    vectors = model.embed_texts([text]) if colour == "sync" else asyncio.run(model.aembed_texts([text]))
    assert vectors.tolist() == [[0.0, 0.0]]


def test_windows_share_batches_and_are_cached_one_by_one():
    model = MockEmbedding(long_text="mean", max_input_tokens=4, embeddings_cache=MemoryKVStore())
    first = model.embed_texts([LONG])
    assert model.call_count == 1
    assert np.array_equal(first, model.embed_texts([LONG]))
    assert model.call_count == 1
    model.embed_texts([LONG + " eleven"])
    assert model.calls[-1].inputs == (byte_windows(LONG + " eleven", 4)[-1][0],)


def test_error_refuses_by_index_before_anything_is_sent():
    model = MockEmbedding(long_text="error", max_input_tokens=4)
    with pytest.raises(InputTooLongError, match=r"longer than the 4 tokens .* input 1 \(") as caught:
        model.embed_texts(["short", LONG])
    assert caught.value.indices == (1,)
    assert model.call_count == 0
    assert model.get_text_embedding_batch(["short", LONG], on_error="none")[1] is None


def test_truncate_keeps_the_start_is_counted_and_said_once(caplog):
    ended = []
    model = MockEmbedding(max_input_tokens=4, callback_manager=CallbackManager())
    model.callback_manager.add_handler(lambda event: isinstance(event, EmbeddingEndEvent) and ended.append(event))
    vector = model.get_text_embedding(LONG)
    assert vector == MockEmbedding().get_text_embedding(byte_windows(LONG, 4)[0][0])
    model.embed_texts([LONG + " eleven", LONG])
    assert [event.truncated for event in ended] == [1, 2]
    assert caplog.messages == [
        "1 texts of this call have more than 4 tokens and are cut; set `long_text` for something else"
    ]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_failing_window_fails_its_own_text_only(colour):
    windows = [window for window, _ in byte_windows(LONG, 4)]

    def fail(turn):
        if windows[1] in turn.inputs:
            raise QuotaExceededError("no credit")
        return turn.vectors

    other = "alpha beta gamma delta epsilon zeta"
    texts = ["a", LONG, "b", other]
    model = ScriptedEmbedding(script=fail, embed_batch_size=1, long_text="mean", max_input_tokens=4)
    if colour == "sync":
        found = model.get_text_embedding_batch(texts, on_error="none")
    else:
        found = asyncio.run(model.aget_text_embedding_batch(texts, on_error="none"))
    honest = ScriptedEmbedding(long_text="mean", max_input_tokens=4).get_text_embedding_batch(texts)
    assert found == [honest[0], None, honest[2], honest[3]]
    with pytest.raises(QuotaExceededError) as caught:
        model.embed_texts(texts)
    assert list(caught.value.failed) == [1]
    assert list(caught.value.completed) == [0]


def test_no_form_of_a_character_has_more_tokens_than_are_reckoned_with():
    for number in {*range(sys.maxunicode + 1)} - {*range(0xD800, 0xE000)}:
        longest = unicodedata.normalize("NFKD", chr(number)).encode()
        assert len(longest) <= _most_tokens(chr(number))
