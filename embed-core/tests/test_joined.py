"""Concurrent calls that miss on the same input make one provider call."""

import asyncio
import threading
import time
from collections import Counter

import numpy as np
import pytest
from embed_core.errors import QuotaExceededError
from embed_core.kvstore import MemoryKVStore, SQLiteKVStore
from embed_core.testing import ScriptedEmbedding

TEXTS = [f"text {number}" for number in range(12)]


def slowly(turn):
    time.sleep(0.01)
    return turn.vectors


class OnlySync(ScriptedEmbedding):
    async def _aget_text_embeddings(self, texts):
        return await self._abatch("text", texts)


def sent(model):
    return Counter(text for call in model.calls for text in call.inputs)


def test_threads_that_miss_on_the_same_texts_send_each_once():
    model = ScriptedEmbedding(script=slowly, embed_batch_size=3, num_workers=2, embeddings_cache=MemoryKVStore())
    found = {}
    threads = [
        threading.Thread(target=lambda n=n: found.setdefault(n, model.embed_texts(TEXTS[n:] + TEXTS[:n])))
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    expected = ScriptedEmbedding().embed_texts(TEXTS)
    for shift, vectors in found.items():
        assert np.array_equal(vectors, np.roll(expected, -shift, axis=0))
    assert len(found) == 12
    assert set(sent(model).values()) == {1}


def test_tasks_that_miss_on_the_same_texts_send_each_once():
    model = OnlySync(script=slowly, embed_batch_size=3, num_workers=2, embeddings_cache=MemoryKVStore())

    async def main():
        return await asyncio.gather(*(model.aembed_texts(TEXTS[n:] + TEXTS[:n]) for n in range(12)))

    expected = ScriptedEmbedding().embed_texts(TEXTS)
    for shift, vectors in enumerate(asyncio.run(main())):
        assert np.array_equal(vectors, np.roll(expected, -shift, axis=0))
    assert set(sent(model).values()) == {1}


def test_a_failed_flight_lets_the_waiting_call_try_itself():
    first = threading.Event()

    def fail_first(turn):
        if turn.number == 0:
            first.set()
            time.sleep(0.05)
            raise QuotaExceededError("no credit")
        return turn.vectors

    model = ScriptedEmbedding(script=fail_first, embeddings_cache=MemoryKVStore())

    def doomed():
        with pytest.raises(QuotaExceededError):
            model.embed_texts(["a"])

    thread = threading.Thread(target=doomed)
    thread.start()
    assert first.wait(5)
    assert model.embed_texts(["a"]).shape == (1, 8)
    thread.join()
    assert model.call_count == 2


def test_a_cancelled_flight_lets_the_waiting_task_try_itself():
    class Slow(ScriptedEmbedding):
        async def _aget_text_embeddings(self, texts):
            vectors = await super()._aget_text_embeddings(texts)
            await asyncio.sleep(60 if self.call_count == 1 else 0)
            return vectors

    async def main():
        model = Slow(embeddings_cache=MemoryKVStore())
        doomed = asyncio.create_task(model.aembed_texts(["a"]))
        await asyncio.sleep(0.01)
        waiting = asyncio.create_task(model.aembed_texts(["a"]))
        await asyncio.sleep(0.01)
        doomed.cancel()
        return await waiting

    assert np.array_equal(asyncio.run(main()), ScriptedEmbedding().embed_texts(["a"]))


def test_a_sync_call_inside_a_loop_never_waits_for_a_task_of_that_loop():
    model = OnlySync(script=slowly, embeddings_cache=MemoryKVStore())

    async def main():
        task = asyncio.create_task(model.aembed_texts(["a"]))
        await asyncio.sleep(0.001)
        mine = model.embed_texts(["a"])
        return mine, await task

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
