"""What the engine costs, in relations that hold on any machine; `make bench` has the figures beside the peers."""

import os
import subprocess
import sys
import time
import tracemalloc

import numpy as np
from embed_core import BaseEmbedding, MockEmbedding
from embed_core.kvstore import MemoryKVStore

TEXTS = [f"a short text, number {number}" for number in range(100)]
VECTORS = np.random.default_rng(0).standard_normal((100, 1536)).astype(np.float32)


class NoOp(BaseEmbedding):
    """A provider that costs nothing, so that all that is left is ours."""

    def _get_query_embedding(self, query):
        return VECTORS[0]

    def _get_text_embedding(self, text):
        return VECTORS[0]

    def _get_text_embeddings(self, texts):
        return VECTORS[: len(texts)]


def cheapest(call, repeats=30):
    """Return the least CPU time of this thread that one call took: other load can only add to it."""
    call()
    times = []
    for _ in range(repeats):
        began = time.thread_time()
        call()
        times.append(time.thread_time() - began)
    return min(times)


def test_a_batch_costs_far_less_than_making_lists_of_it():
    model = NoOp(embed_batch_size=100)
    assert cheapest(lambda: model.embed_texts(TEXTS)) < cheapest(VECTORS.tolist) / 2


def test_cache_hits_cost_less_than_making_lists_of_them():
    model = NoOp(embed_batch_size=100, embeddings_cache=MemoryKVStore())
    assert cheapest(lambda: model.embed_texts(TEXTS)) < cheapest(VECTORS.tolist)


def test_a_stream_holds_a_window_and_not_the_corpus():
    model = MockEmbedding(embed_dim=1536)
    corpus = 4_000 * 1536 * 4
    tracemalloc.start()
    try:
        for block in model.stream_texts(f"text number {number}" for number in range(4_000)):
            assert len(block) <= 4 * model.embed_batch_size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < corpus / 4


def fresh(code):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def importing(modules):
    """Return the least CPU time that the import took in a fresh interpreter, with compiled files in place."""
    code = f"import time; import {modules}; print(time.thread_time())"
    return min(float(fresh(code)) for _ in range(3))


def test_importing_costs_little_more_than_what_it_stands_on():
    assert importing("embed_core") < 3 * importing("asyncio, numpy, pydantic.main")
