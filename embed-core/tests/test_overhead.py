"""Costs of the engine in calls, bytes and modules; `make bench` has the seconds beside the peers."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from embed_core import BaseEmbedding, MockEmbedding
from embed_core.kvstore import MemoryKVStore
from pydantic import BaseModel

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


def calls(model, texts):
    """Return how many Python functions a second, equal call runs: the first one makes the model ready."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event == "call"

    model.embed_texts(texts)
    sys.setprofile(profile)
    try:
        model.embed_texts(texts)
    finally:
        sys.setprofile(None)
    return count


def peak(call):
    """Return the most bytes that are in use at once during a call."""
    call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_batch_takes_no_call_for_each_of_its_texts():
    model = NoOp(embed_batch_size=100)
    assert calls(model, TEXTS) <= calls(model, TEXTS[:1]) + 5 <= 120


def test_a_cache_hit_takes_a_few_calls():
    model = NoOp(embed_batch_size=100, embeddings_cache=MemoryKVStore())
    assert calls(model, TEXTS) <= calls(model, TEXTS[:1]) + 5 * len(TEXTS) <= 120 + 5 * len(TEXTS)


def test_the_code_of_a_class_is_read_once_and_not_with_each_call():
    class Options(BaseModel):
        scale: int = 1

        def scaled(self, text):
            return [text.upper() for _ in range(self.scale)]

    class Optional(NoOp):
        options: Options = Options()

    model = Optional(embeddings_cache=MemoryKVStore())
    assert calls(model, TEXTS[:1]) <= 600


@pytest.mark.parametrize("store", [None, MemoryKVStore()])
def test_no_list_is_made_of_a_batch(store):
    model = NoOp(embed_batch_size=100, embeddings_cache=store)
    assert peak(lambda: model.embed_texts(TEXTS)) < 1.5 * VECTORS.nbytes < peak(VECTORS.tolist) / 5


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
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def modules(imported):
    """Return the names of the modules that an import loads in a fresh interpreter."""
    return set(fresh(f"import {imported}, sys; print(*sys.modules)").split())


@pytest.mark.parametrize("imported", ["embed_core", "embed_core.errors", "embed_core.cli"])
def test_a_name_that_is_not_used_loads_nothing(imported):
    assert modules(imported).isdisjoint({"embed_core._public", "numpy", "pydantic", "sqlite3", "importlib.metadata"})


def test_the_first_name_loads_little_more_than_it_stands_on():
    more = modules("embed_core._public") - modules("numpy, pydantic.main")
    others = {name.partition(".")[0] for name in more} - sys.stdlib_module_names
    assert others <= {"embed_core", "numpy", "pydantic", "annotated_types", "typing_extensions"}
    assert len(more) < 200


def test_public_names_are_found_however_they_are_asked_for():
    asked = (
        "import embed_core\nassert 'BaseEmbedding' in dir(embed_core)\nfrom embed_core import *\n"
        "assert embed_core.BaseEmbedding is BaseEmbedding\nassert embed_core.kvstore.KVStore\n"
        "assert not hasattr(embed_core, 'nothing')\nassert not hasattr(embed_core, '_nothing')"
    )
    fresh(asked)
