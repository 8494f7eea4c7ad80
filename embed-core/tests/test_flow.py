"""Batches in flight, retries, limits, progress and interruption."""

import asyncio
import itertools
import os
import pickle
import signal
import sys
import textwrap
import threading

import numpy as np
import pytest
from embed_core import RateLimiter
from embed_core.errors import (
    ConfigurationError,
    EmbeddingIntegrityError,
    InvalidInputError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
)
from embed_core.kvstore import MemoryKVStore
from embed_core.middleware.retried import RetryPolicy
from embed_core.testing import ScriptedEmbedding
from hypothesis import given
from hypothesis import strategies as st

TEXTS = [f"text {number}" for number in range(20)]
AT_ONCE = RetryPolicy(initial_seconds=0)


def embed(model, texts, colour):
    return model.embed_texts(texts) if colour == "sync" else asyncio.run(model.aembed_texts(texts))


both = pytest.mark.parametrize("colour", ["sync", "async"])


class Crowd(ScriptedEmbedding):
    """Holds its provider calls until as many as expected are under way, and notes how many there were."""

    def __init__(self, expected, **settings):
        super().__init__(embed_batch_size=1, **settings)
        self.__dict__.update(seen=[], now=0, lock=threading.Lock(), expected=expected, full=threading.Event())

    def _get_text_embeddings(self, texts):
        self._enter()
        assert self.__dict__["full"].wait(60)
        return self._leave(texts)

    async def _aget_text_embeddings(self, texts):
        self._enter()
        assert await asyncio.to_thread(self.__dict__["full"].wait, 60)
        return self._leave(texts)

    def _enter(self):
        with self.__dict__["lock"]:
            self.__dict__["now"] += 1
            self.__dict__["seen"].append(self.__dict__["now"])
            if self.__dict__["now"] == self.__dict__["expected"]:
                self.__dict__["full"].set()

    def _leave(self, texts):
        with self.__dict__["lock"]:
            self.__dict__["now"] -= 1
        return super()._get_text_embeddings(texts)


@both
@pytest.mark.parametrize("workers", [1, 3])
def test_num_workers_bounds_what_is_in_flight_and_is_used(colour, workers):
    model = Crowd(workers, num_workers=workers)
    embed(model, TEXTS, colour)
    assert max(model.__dict__["seen"]) == workers


@both
def test_the_first_failure_cancels_what_has_not_been_sent_and_keeps_the_batches_before_it(colour):
    def answer(turn):
        if "text 6" in turn.inputs:
            raise QuotaExceededError("no credit")
        return turn.vectors

    model = ScriptedEmbedding(embed_batch_size=2, script=answer, embeddings_cache=MemoryKVStore())
    with pytest.raises(QuotaExceededError) as caught:
        embed(model, TEXTS, colour)
    assert model.call_count == 4
    assert sorted(caught.value.completed) == [0, 1, 2, 3, 4, 5]
    assert sorted(caught.value.failed) == [6, 7]
    assert len(model.embeddings_cache) == 6
    model.script = lambda turn: turn.vectors
    model.reset()
    embed(model, TEXTS, colour)
    assert model.input_count == 14


def test_an_error_is_the_reason_of_its_own_inputs_wherever_it_is_sent():
    def refuse(turn):
        raise QuotaExceededError("no credit")

    with pytest.raises(QuotaExceededError) as caught:
        ScriptedEmbedding(script=refuse).embed_texts(["a", "b"])
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.failed == {0: error, 1: error}
    assert repr(error.failed) == repr({0: error, 1: error})
    assert error.failed.get(2) is None
    assert error.indices == (0, 1)


@both
def test_what_can_succeed_later_is_tried_again_and_only_that(colour):
    def fail_twice(turn):
        if turn.number < 2:
            raise ProviderUnavailableError("down")
        return turn.vectors

    model = ScriptedEmbedding(script=fail_twice, retry=AT_ONCE)
    assert embed(model, ["a"], colour).shape == (1, 8)
    assert model.call_count == 3

    def refuse(turn):
        raise QuotaExceededError("no credit")

    final = ScriptedEmbedding(script=refuse, retry=AT_ONCE)
    with pytest.raises(QuotaExceededError):
        embed(final, ["a"], colour)
    assert final.call_count == 1


@pytest.mark.parametrize(
    ("colour", "raised"), [("sync", SystemExit), ("async", SystemExit), ("async", asyncio.CancelledError)]
)
def test_the_user_gets_what_a_hook_raised_and_not_what_it_woke_the_other_batches_with(colour, raised):
    class Stopped(ScriptedEmbedding):
        async def _aget_text_embeddings(self, texts):
            await asyncio.sleep(0)
            return await super()._aget_text_embeddings(texts)

    def stop(turn):
        if turn.inputs == ["text 3"]:
            raise raised
        raise RateLimitError("slow down", retry_after=60)

    for _ in range(20):
        with pytest.raises(raised):
            embed(Stopped(script=stop, embed_batch_size=1, num_workers=5), TEXTS[:5], colour)


@both
def test_what_a_refused_batch_gave_before_the_call_ended_is_completed(colour):
    waiting = threading.Event()

    def answer(turn):
        match turn.inputs:
            case ["text 0", "text 1"]:
                raise InvalidInputError("too much at once")
            case ["text 1"]:
                waiting.set()
                raise RateLimitError("slow down", retry_after=60)
            case ["text 2", "text 3"]:
                assert waiting.wait(60)
                raise QuotaExceededError("no credit")
        return turn.vectors

    class InThreads(ScriptedEmbedding):
        async def _aget_text_embeddings(self, texts):
            return await self._abatch("text", texts)

    model = InThreads(script=answer, embed_batch_size=2, num_workers=2)
    with pytest.raises(QuotaExceededError) as caught:
        embed(model, TEXTS[:4], colour)
    assert sorted(caught.value.failed) == [2, 3]
    assert sorted(caught.value.completed) == [0]


@both
@pytest.mark.parametrize("on_error", ["raise", "none"])
def test_what_a_refused_batch_gave_before_another_failure_is_completed(on_error, colour):
    def answer(turn):
        if len(turn.inputs) > 1:
            raise InvalidInputError("too much at once")
        if turn.inputs == ["text 1"]:
            raise QuotaExceededError("no credit")
        return turn.vectors

    model = ScriptedEmbedding(script=answer, embed_batch_size=4)
    if on_error == "none":
        many = model.get_text_embedding_batch if colour == "sync" else model.aget_text_embedding_batch
        vectors = many(TEXTS[:4], on_error="none")
        vectors = vectors if colour == "sync" else asyncio.run(vectors)
        assert [vector is None for vector in vectors] == [False, True, False, False]
        return
    with pytest.raises(QuotaExceededError) as caught:
        embed(model, TEXTS[:4], colour)
    assert list(caught.value.failed) == [1]
    assert list(caught.value.completed) == [0]


@both
@pytest.mark.parametrize("retries", [0, 2])
def test_retries_end_after_the_policy_s_count_with_the_last_error(colour, retries):
    def down(turn):
        raise ProviderUnavailableError(f"down {turn.number}")

    model = ScriptedEmbedding(script=down, retry=RetryPolicy(max_retries=retries, initial_seconds=0))
    with pytest.raises(ProviderUnavailableError, match=f"down {retries}"):
        embed(model, ["a"], colour)
    assert model.call_count == retries + 1


@both
def test_a_wait_beyond_the_cap_is_not_begun(colour):
    def limited(turn):
        if turn.number == 0:
            raise RateLimitError("slow down", retry_after=0.01)
        if turn.number == 1:
            raise RateLimitError("slow down", retry_after=3600)
        return turn.vectors

    model = ScriptedEmbedding(script=limited, retry=RetryPolicy(total_seconds=60))
    with pytest.raises(RateLimitError):
        embed(model, ["a"], colour)
    assert model.call_count == 2


@both
def test_every_attempt_pays_the_limiter_and_a_cache_hit_does_not(colour):
    paid = []

    class Counting(RateLimiter):
        def reserve(self, tokens, requests=1):
            paid.append(tokens)
            return super().reserve(tokens, requests)

    def fail_once(turn):
        if turn.number == 0:
            raise ProviderUnavailableError("down")
        return turn.vectors

    model = ScriptedEmbedding(
        script=fail_once,
        retry=AT_ONCE,
        rate_limiter=Counting(requests_per_minute=1000),
        embeddings_cache=MemoryKVStore(),
    )
    embed(model, ["four", "eight ch"], colour)
    embed(model, ["four", "eight ch"], colour)
    assert paid == [3, 3]


def test_a_request_above_the_whole_budget_fails_at_once():
    model = ScriptedEmbedding(rate_limiter=RateLimiter(tokens_per_minute=10))
    with pytest.raises(ConfigurationError, match="about 25 tokens exceeds the whole budget of 10"):
        model.embed_texts(["x" * 100])


def test_a_cancelled_wait_gives_its_place_back():
    limiter = RateLimiter(requests_per_minute=1, clock=lambda: 0.0)
    limiter.reserve(0)
    model = ScriptedEmbedding(rate_limiter=limiter)

    async def cancelled():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await model.aget_text_embedding("a")

    asyncio.run(cancelled())
    assert limiter.reserve(0).seconds == 60


@both
def test_progress_counts_inputs_hits_included_and_ends_full(colour, capsys):
    model = ScriptedEmbedding(embed_batch_size=3, embeddings_cache=MemoryKVStore())
    model.embed_texts(TEXTS[:5])
    if colour == "sync":
        model.embed_texts(TEXTS + TEXTS[:2], show_progress=True)
    else:
        asyncio.run(model.aembed_texts(TEXTS + TEXTS[:2], show_progress=True))
    shown = capsys.readouterr().err
    assert "Embedding texts" in shown
    assert "22/22" in shown


def test_progress_counts_the_windows_of_long_texts(capsys):
    model = ScriptedEmbedding(long_text="mean", max_input_tokens=2)
    model.embed_texts(["a", "word " * 5], show_progress=True)
    assert "6/6" in capsys.readouterr().err


@both
def test_an_array_has_no_place_for_none(colour):
    model = ScriptedEmbedding()
    with pytest.raises(ConfigurationError, match="use `get_text_embedding_batch` for `on_error='none'`"):
        if colour == "sync":
            model.embed_texts(["a"], on_error="none")
        else:
            asyncio.run(model.aembed_texts(["a"], on_error="none"))
    with pytest.raises(ConfigurationError, match="`on_error` is 'ignore'"):
        model.get_text_embedding_batch(["a"], on_error="ignore")


def test_a_batcher_that_forgets_or_repeats_an_input_is_found_out():
    class Forgetful(ScriptedEmbedding):
        def _plan(self, kind, inputs):
            return [range(1, len(inputs))]

    class Repeating(ScriptedEmbedding):
        def _plan(self, kind, inputs):
            return [range(len(inputs)), [0]]

    for model in (Forgetful(), Repeating()):
        with pytest.raises(EmbeddingIntegrityError, match="`_plan` left out or repeated"):
            model.embed_texts(["a", "b"])
        assert model.call_count == 0


@given(order=st.permutations(range(9)), cut=st.lists(st.integers(1, 8), max_size=4))
def test_batches_in_any_order_put_vectors_back(order, cut):
    class Shuffled(ScriptedEmbedding):
        def _plan(self, kind, inputs):
            edges = [0, *sorted(set(cut)), len(inputs)]
            return [order[start:stop] for start, stop in itertools.pairwise(edges)]

    texts = TEXTS[:9]
    assert np.array_equal(Shuffled(num_workers=2).embed_texts(texts), ScriptedEmbedding().embed_texts(texts))


def test_async_never_blocks_the_loop_where_only_sync_hooks_are_written():
    begun, go_on = threading.Event(), threading.Event()

    class OnlySync(ScriptedEmbedding):
        async def _aget_text_embeddings(self, texts):
            return await self._abatch("text", texts)

    def hold(turn):
        begun.set()
        assert go_on.wait(60), "the loop stood still"
        return turn.vectors

    async def main():
        task = asyncio.create_task(OnlySync(script=hold, embed_batch_size=1, num_workers=2).aembed_texts(TEXTS))
        await asyncio.to_thread(begun.wait)
        go_on.set()
        return await task

    assert np.array_equal(asyncio.run(main()), ScriptedEmbedding().embed_texts(TEXTS))


def test_nothing_to_embed_does_not_block_the_loop_either():
    go_on = threading.Event()

    class Slow(ScriptedEmbedding):
        def _space(self):
            assert go_on.wait(60), "the loop stood still"
            return super()._space()

    async def main():
        task = asyncio.create_task(Slow(embeddings_cache=MemoryKVStore()).aembed_texts([]))
        await asyncio.sleep(0)
        go_on.set()
        return await task

    assert asyncio.run(main()).shape == (0, 8)


def test_cancelling_a_task_stops_promptly_and_keeps_finished_batches():
    class Hanging(ScriptedEmbedding):
        async def _aget_text_embeddings(self, texts):
            if texts[0] == "text 3":
                hanging.set()
                await asyncio.Event().wait()
            return await super()._aget_text_embeddings(texts)

    async def main():
        task = asyncio.create_task(model.aembed_texts(TEXTS))
        await hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    hanging, model = asyncio.Event(), Hanging(embed_batch_size=1, embeddings_cache=MemoryKVStore())
    asyncio.run(main())
    assert len(model.embeddings_cache) == 3


@pytest.mark.skipif(os.name == "nt", reason="signals to a child process are a POSIX matter")
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_ctrl_c_stops_promptly_although_a_provider_call_hangs(colour, tmp_path, start):
    program = textwrap.dedent(
        """
        import asyncio, sys, threading
        from embed_core.kvstore import SQLiteKVStore
        from embed_core.testing import ScriptedEmbedding

        def hang(turn):
            if turn.number == 4:  # so both workers hang, and what came before is kept
                print("hanging", flush=True)
            if turn.number >= 3:
                threading.Event().wait()
            return turn.vectors

        class OnlySync(ScriptedEmbedding):
            async def _aget_text_embeddings(self, texts):
                return await self._abatch("text", texts)

        model = OnlySync(script=hang, embed_batch_size=1, num_workers=2, embeddings_cache=SQLiteKVStore(sys.argv[2]))
        try:
            texts = [str(number) for number in range(10)]
            model.embed_texts(texts) if sys.argv[1] == "sync" else asyncio.run(model.aembed_texts(texts))
        except KeyboardInterrupt:
            print("stopped with", len(model.embeddings_cache), flush=True)
        """
    )
    process = start(sys.executable, "-c", program, colour, tmp_path / "cache.db")
    assert process.stdout.readline() == "hanging\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate()[0] == "stopped with 3\n"


@both
def test_every_retry_is_heard_once_with_its_reason_and_wait(colour, caplog, capsys):
    def fail_twice(turn):
        if turn.number < 2:
            raise RateLimitError("`m`: too many requests (429)", retry_after=0.01 * (turn.number + 1))
        return turn.vectors

    model = ScriptedEmbedding(script=fail_twice)
    if colour == "sync":
        model.embed_texts(["a"], show_progress=True)
    else:
        asyncio.run(model.aembed_texts(["a"], show_progress=True))
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "`m`: too many requests (429); trying again in 0.01 s, 1 of 6",
        "`m`: too many requests (429); trying again in 0.02 s, 2 of 6",
    ]
    assert "trying again in 0.02 s, 2 of 6" in capsys.readouterr().err


@both
def test_calls_and_cache_are_told_at_debug(colour, caplog):
    model = ScriptedEmbedding(embeddings_cache=MemoryKVStore())
    with caplog.at_level("DEBUG", "embed_core"):
        embed(model, ["a", "b"], colour)
    told = [record.getMessage() for record in caplog.records]
    assert "`mock`: 2 of 2 inputs are not in the cache" in told
    assert "`mock`: a call with 2 inputs of kind text" in told
