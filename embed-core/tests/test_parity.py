"""Sync and async are one path: same vectors, same provider calls, same events, whatever happens."""

import asyncio
import threading
from collections import Counter

import numpy as np
import pytest
from embed_core import RateLimiter
from embed_core._engine import run
from embed_core._io import Asyncio
from embed_core.errors import (
    BatchError,
    EmbeddingIntegrityError,
    EmbedError,
    InputTooLongError,
    ProviderUnavailableError,
    QuotaExceededError,
)
from embed_core.instrumentation import CallbackManager
from embed_core.kvstore import MemoryKVStore
from embed_core.middleware.retried import RetryPolicy
from embed_core.testing import ScriptedEmbedding
from hypothesis import given, settings
from hypothesis import strategies as st

TEXTS = st.lists(st.one_of(st.text(alphabet="abc", min_size=1, max_size=2), st.just("ab a b ca c")), max_size=12)
SCENES = st.fixed_dictionaries(
    {
        "texts": TEXTS,
        "batch": st.integers(1, 5),
        "workers": st.integers(1, 4),
        "cached": st.booleans(),
        "warm": TEXTS,
        "bad": st.sets(st.sampled_from(["a", "ab", "c", "ca"]), max_size=2),
        "fault": st.sampled_from(["too long", "quota", "down once", "short", "nan", "other dimension"]),
        "on_error": st.sampled_from(["raise", "none"]),
        "long_text": st.sampled_from(["truncate", "error", "mean"]),
        "limited": st.booleans(),
    }
)


class CountingLimiter(RateLimiter):
    """Has room for everything, and counts."""

    def __init__(self):
        super().__init__(requests_per_minute=10**6)
        self.paid = 0
        self.counting = threading.Lock()

    def reserve(self, tokens, requests=1):
        with self.counting:
            self.paid += 1
        return super().reserve(tokens, requests)


def script(scene):
    """Fail, in the scene's way, on every batch that holds a bad text."""
    tried = Counter()

    def answer(turn):
        batch = tuple(turn.inputs)
        tried[batch] += 1
        if not scene["bad"] & set(batch):
            return turn.vectors
        match scene["fault"]:
            case "too long":
                raise InputTooLongError("too long")
            case "quota":
                raise QuotaExceededError("no credit")
            case "down once" if tried[batch] == 1:
                raise ProviderUnavailableError("down")
            case "short":
                return turn.vectors[:-1]
            case "nan":
                return np.full_like(turn.vectors, np.nan)
            case "other dimension":
                return np.ones((len(batch), 3), dtype=np.float32)
        return turn.vectors

    return answer


def play(scene, colour):
    """Return everything that can be observed of a call."""
    heard = []
    model = ScriptedEmbedding(
        embed_dim=16,
        embed_batch_size=scene["batch"],
        num_workers=scene["workers"],
        retry=RetryPolicy(max_retries=2, initial_seconds=0),
        callback_manager=CallbackManager(),
        long_text=scene["long_text"],
        max_input_tokens=2,
        rate_limiter=CountingLimiter() if scene["limited"] else None,
    )
    if scene["cached"]:
        model.embeddings_cache = MemoryKVStore()
        model.get_text_embedding_batch(scene["warm"], on_error="none")
        model.reset()
        if model.rate_limiter is not None:
            model.rate_limiter.paid = 0
    model.callback_manager.add_handler(lambda event: heard.append(type(event).__name__))
    model.script = script(scene)
    try:
        if colour == "sync":
            result = model.get_text_embedding_batch(scene["texts"], on_error=scene["on_error"])
        else:
            result = asyncio.run(model.aget_text_embedding_batch(scene["texts"], on_error=scene["on_error"]))
    except EmbedError as error:
        result = error
    calls = Counter(call.inputs for call in model.calls)
    if model.rate_limiter is not None:
        assert model.rate_limiter.paid == model.call_count
    kept = set(model.embeddings_cache._entries) if scene["cached"] else set()
    return result, calls, Counter(heard), kept


def honest(scene):
    model = ScriptedEmbedding(embed_dim=16, long_text=scene["long_text"], max_input_tokens=2)
    return model.get_text_embedding_batch(scene["texts"], on_error="none")


@given(scene=SCENES)
@settings(max_examples=60)
def test_sync_and_async_do_the_same(scene):
    one, other = play(scene, "sync"), play(scene, "async")
    in_turn = scene["workers"] == 1 or scene["on_error"] == "none"
    if isinstance(one[0], EmbedError):
        assert isinstance(other[0], EmbedError)
        if in_turn:  # with several workers, what was sent before the failure depends on timing
            assert type(one[0]) is type(other[0])
            assert one[0].failed.keys() == other[0].failed.keys()
            assert one[0].completed.keys() == other[0].completed.keys()
    else:
        assert one[0] == other[0]
    if in_turn or not isinstance(one[0], EmbedError):
        assert one[1:] == other[1:]


@given(scene=SCENES, colour=st.sampled_from(["sync", "async"]))
@settings(max_examples=60)
def test_every_vector_is_on_its_own_text_or_there_is_a_named_error(scene, colour):
    result, calls, _, kept = play(scene, colour)
    expected = honest(scene)
    if isinstance(result, EmbedError):
        assert result.failed
        assert all(reason is not None for reason in result.failed.values())
        for index, vector in result.completed.items():
            assert vector.tolist() == expected[index]
        if scene["cached"]:
            assert len(kept) >= len({scene["texts"][index] for index in result.completed})
        return
    for index, vector in enumerate(result):
        assert vector is None or vector == expected[index]
    if scene["cached"]:
        sent = Counter(text for batch, times in calls.items() for text in batch * times)
        assert not sent.keys() & set(scene["warm"])


@given(scene=SCENES)
@settings(max_examples=100)
def test_one_bad_text_never_fails_its_neighbours(scene):
    scene |= {"fault": "too long", "on_error": "none", "long_text": "truncate"}
    for colour in ("sync", "async"):
        result, calls, _, _ = play(scene, colour)
        known = set(scene["warm"]) if scene["cached"] else set()
        for text, vector in zip(scene["texts"], result, strict=True):
            assert (vector is None) == (text in scene["bad"] and text not in known)
        bad = sum(text in scene["bad"] for text in scene["texts"])
        batches = -(-len(scene["texts"]) // scene["batch"])
        assert calls.total() <= batches + bad * 2 * (scene["batch"].bit_length() + 1)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_errors_of_one_type_are_raised_as_that_type_and_mixed_ones_as_a_batch_error(colour):
    def fail(error_of):
        def answer(turn):
            raise error_of(turn.inputs[0])

        return answer

    model = ScriptedEmbedding(embed_batch_size=1, num_workers=2, script=fail(lambda _: QuotaExceededError("no credit")))

    def embed():
        if colour == "sync":
            return model.embed_texts(["a", "b"])
        return asyncio.run(model.aembed_texts(["a", "b"]))

    with pytest.raises(QuotaExceededError):
        embed()
    model.script = fail(lambda text: {"a": QuotaExceededError, "b": EmbeddingIntegrityError}[text]("no"))
    model.num_workers = 1
    with pytest.raises(QuotaExceededError):
        embed()
    gaps = model.get_text_embedding_batch(["a", "b"], on_error="none")
    assert gaps == [None, None]


def test_a_mix_of_reasons_is_a_batch_error_that_names_them():
    reasons = {"a": QuotaExceededError("no credit"), "b": InputTooLongError("too long")}

    def answer(turn):
        if turn.inputs[0] in reasons:
            raise reasons[turn.inputs[0]]
        return turn.vectors

    model = ScriptedEmbedding(embed_batch_size=1, script=answer)
    with pytest.raises(BatchError, match="2 of 3 inputs failed") as caught:
        asyncio.run(run_async(model, ["a", "c", "b"]))
    assert caught.value.failed == {0: reasons["a"], 2: reasons["b"]}
    assert list(caught.value.completed) == [1]
    assert caught.value.__cause__ is reasons["a"]


async def run_async(model, texts):
    return await run(model, Asyncio(), "text", texts, keep_going=True)
