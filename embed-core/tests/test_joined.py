"""Concurrent calls that miss on the same input make one provider call."""

import asyncio
import itertools
import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest
from embed_core.errors import QuotaExceededError
from embed_core.instrumentation import CallbackManager, EmbeddingCacheEvent
from embed_core.kvstore import MemoryKVStore, SQLiteKVStore
from embed_core.testing import ScriptedEmbedding
from pydantic import PrivateAttr

TEXTS = [f"text {number}" for number in range(12)]


class Crowded(MemoryKVStore):
    """Tells when as many callers as expected have looked for their texts."""

    def __init__(self, callers):
        super().__init__()
        self._expected, self._lookups, self.all_have_looked = callers, itertools.count(1), threading.Event()

    def get_many(self, keys):
        found = super().get_many(keys)
        if next(self._lookups) == self._expected:
            self.all_have_looked.set()
        return found

    def answer(self, turn):
        assert self.all_have_looked.wait(60)
        return turn.vectors


class OnlySync(ScriptedEmbedding):
    async def _aget_text_embeddings(self, texts):
        return await self._abatch("text", texts)


def sent(model):
    return Counter(text for call in model.calls for text in call.inputs)


def test_threads_that_miss_on_the_same_texts_send_each_once():
    store = Crowded(12)
    model = ScriptedEmbedding(script=store.answer, embed_batch_size=3, num_workers=2, embeddings_cache=store)
    found = {}
    threads = [
        threading.Thread(target=lambda n=n: found.setdefault(n, model.embed_texts(TEXTS[n:] + TEXTS[:n])))
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    expected = ScriptedEmbedding().embed_texts(TEXTS)
    for shift, vectors in found.items():
        assert np.array_equal(vectors, np.roll(expected, -shift, axis=0))
    assert len(found) == 12
    assert set(sent(model).values()) == {1}


def test_tasks_that_miss_on_the_same_texts_send_each_once():
    store = Crowded(12)
    model = OnlySync(script=store.answer, embed_batch_size=3, num_workers=2, embeddings_cache=store)

    async def main():
        return await asyncio.gather(*(model.aembed_texts(TEXTS[n:] + TEXTS[:n]) for n in range(12)))

    expected = ScriptedEmbedding().embed_texts(TEXTS)
    for shift, vectors in enumerate(asyncio.run(main())):
        assert np.array_equal(vectors, np.roll(expected, -shift, axis=0))
    assert set(sent(model).values()) == {1}


def test_a_failed_flight_lets_the_waiting_call_try_itself():
    first, store = threading.Event(), Crowded(2)

    def fail_first(turn):
        if turn.number == 0:
            first.set()
            store.answer(turn)
            raise QuotaExceededError("no credit")
        return turn.vectors

    model = ScriptedEmbedding(script=fail_first, embeddings_cache=store)

    def doomed():
        with pytest.raises(QuotaExceededError):
            model.embed_texts(["a"])

    thread = threading.Thread(target=doomed)
    thread.start()
    assert first.wait(60)
    assert model.embed_texts(["a"]).shape == (1, 8)
    thread.join()
    assert model.call_count == 2


def test_a_cancelled_flight_lets_the_waiting_task_try_itself():
    class Slow(ScriptedEmbedding):
        async def _aget_text_embeddings(self, texts):
            vectors = await super()._aget_text_embeddings(texts)
            if self.call_count == 1:
                begun.set()
                await asyncio.Event().wait()
            return vectors

    async def main():
        model = Slow(embeddings_cache=MemoryKVStore())
        doomed = asyncio.create_task(model.aembed_texts(["a"]))
        await begun.wait()
        waiting = asyncio.create_task(model.aembed_texts(["a"]))
        for _ in range(20):
            await asyncio.sleep(0)
        doomed.cancel()
        return await waiting

    begun = asyncio.Event()
    assert np.array_equal(asyncio.run(main()), ScriptedEmbedding().embed_texts(["a"]))


def test_a_sync_call_inside_a_loop_never_waits_for_a_task_of_that_loop():
    begun, go_on = threading.Event(), threading.Event()

    def hold_the_first(turn):
        if turn.number == 0:
            begun.set()
            assert go_on.wait(60)
        return turn.vectors

    async def main():
        task = asyncio.create_task(model.aembed_texts(["a"]))
        await asyncio.to_thread(begun.wait)
        mine = model.embed_texts(["a"])
        go_on.set()
        return mine, await task

    model = OnlySync(script=hold_the_first, embeddings_cache=MemoryKVStore())
    one, other = asyncio.run(main())
    assert np.array_equal(one, other)


def test_many_threads_share_one_model_and_one_file(tmp_path):
    store = SQLiteKVStore(tmp_path / "cache.db")
    model = ScriptedEmbedding(embed_batch_size=8, num_workers=2, embeddings_cache=store)
    texts = [f"text {number % 40}" for number in range(50)]
    expected = ScriptedEmbedding().embed_texts(texts)
    found = []
    threads = [threading.Thread(target=lambda: found.append(model.embed_texts(texts))) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 64
    assert all(np.array_equal(vectors, expected) for vectors in found)
    assert set(sent(model).values()) == {1}
    store.close()


class AsksItself(ScriptedEmbedding):
    """A hook that calls its own model, for the text it was asked for and for others."""

    _nested: list[Any] = PrivateAttr(default_factory=list)

    def _get_text_embeddings(self, texts):
        if not self._nested:
            self._nested.append(None)
            self._nested.append(self.embed_texts([*texts, "another"]))
        return super()._get_text_embeddings(texts)

    async def _aget_text_embeddings(self, texts):
        if not self._nested:
            self._nested.append(None)
            self._nested.append(await self.aembed_texts([*texts, "another"]))
        return super()._get_text_embeddings(texts)


class HandlerThatAsks(CallbackManager):
    """Handlers that call the model they hear about, when its provider call starts and when it ends."""

    def __init__(self, model, *, is_async):
        self._model, self._asked = model, []
        super().__init__([self.ask_async if is_async else self.ask])

    def ask(self, event):
        if len(self._asked) < 2 and not isinstance(event, EmbeddingCacheEvent):
            self._asked.append(event)
            self._model.embed_texts([*event.chunks, "another"])

    async def ask_async(self, event):
        if len(self._asked) < 2 and not isinstance(event, EmbeddingCacheEvent):
            self._asked.append(event)
            await self._model.aembed_texts([*event.chunks, "another"])


@pytest.mark.parametrize("who", ["hook", "handler", "async handler"])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_hook_or_handler_that_calls_its_own_model_never_waits_for_itself(who, workers, colour):
    kind = AsksItself if who == "hook" else ScriptedEmbedding
    model = kind(embed_batch_size=5, num_workers=workers, embeddings_cache=MemoryKVStore())
    if who != "hook":
        model.callback_manager = HandlerThatAsks(model, is_async=who == "async handler")
    found = []

    def work():
        found.append(model.embed_texts(TEXTS) if colour == "sync" else asyncio.run(model.aembed_texts(TEXTS)))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    assert np.array_equal(found[0], ScriptedEmbedding().embed_texts(TEXTS))


def test_two_hooks_that_call_each_other_s_texts_never_wait_for_each_other():
    both = threading.Barrier(2)

    class AsksTheOther(ScriptedEmbedding):
        def _get_text_embeddings(self, texts):
            if self.call_count < 2:
                super()._get_text_embeddings(texts)
                both.wait(60)
                self.embed_texts(["b" if texts == ["a"] else "a"])
            return super()._get_text_embeddings(texts)

    model, found = AsksTheOther(embeddings_cache=MemoryKVStore()), {}
    threads = [
        threading.Thread(target=lambda text=text: found.setdefault(text, model.embed_texts([text])), daemon=True)
        for text in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == ["a", "b"]
