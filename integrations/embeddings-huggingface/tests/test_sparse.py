"""Sparse models, against a `SparseEncoder` of sentence-transformers called directly."""

from __future__ import annotations

import asyncio
import copy
import importlib
import pickle
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embed_core import SparseVector, resolve_embed_model
from embed_core.errors import ConfigurationError, EmbeddingIntegrityError, InputTooLongError
from embed_core.instrumentation import CallbackManager, EmbeddingEndEvent
from embed_core.kvstore import MemoryKVStore, SQLiteKVStore
from embeddings_huggingface import HuggingFaceEmbedding, SentenceTransformerEmbedding, SparseEncoderEmbedding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TOLERANCE = 3e-5  # the rounding of float32 in a batch of another length; weights are no unit vectors here
TEXTS = ["the wing of an aircraft", "bread", "", " ", "the " * 100, "bread!", "日本 ü", "of the wing, of the air"]
WORDS = ["the", "wing", "of", "an", "aircraft", "bread", "stalls", "query", "passage", ":", ".", ",", "!", "1", "2"]


def dense(vectors: Sequence[SparseVector], width: int) -> Any:
    rows = np.zeros((len(vectors), width), dtype=np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        row[vector.indices] = vector.weights
    return rows


def assert_equal(ours: Sequence[SparseVector], theirs: Any) -> None:
    """Compare with a tensor, or with other sparse vectors: a weight of zero here may be a tiny one there."""
    expected = theirs.to_dense().numpy() if hasattr(theirs, "to_dense") else dense(theirs, 1000)
    assert np.abs(dense(ours, expected.shape[1]) - expected).max() <= TOLERANCE


@pytest.fixture(scope="module")
def splade(tiny_splade: Path) -> Any:
    """sentence-transformers' own model."""
    from sentence_transformers import SparseEncoder

    return SparseEncoder(str(tiny_splade), device="cpu")


@pytest.fixture
def model(tiny_splade: Path) -> SparseEncoderEmbedding:
    return SparseEncoderEmbedding(tiny_splade, device="cpu", embed_batch_size=3)


def module(name: str, package: str) -> Any:
    """Return a class that moved between versions 5 and 6 of sentence-transformers."""
    try:
        return getattr(importlib.import_module(f"sentence_transformers.{package}.modules"), name)
    except ImportError:
        old = f"{package}.models" if package == "sparse_encoder" else "models"
        return getattr(importlib.import_module(f"sentence_transformers.{old}"), name)


# The same vectors


def test_vectors_are_those_of_sentence_transformers(model: SparseEncoderEmbedding, splade: Any) -> None:
    texts = model.get_text_embedding_batch(TEXTS)
    assert_equal(texts, splade.encode_document(TEXTS))
    assert_equal([model.get_text_embedding(text) for text in TEXTS], splade.encode_document(TEXTS))
    assert_equal([model.get_query_embedding(text) for text in TEXTS], splade.encode_query(TEXTS))
    assert 0 < len(texts[1]) < splade.encode("bread").shape[0]
    assert texts[1].indices.tolist() == splade.encode_document("bread").coalesce().indices()[0].tolist()
    ours, theirs = model.similarity(texts[0], texts[1]), splade.similarity(*splade.encode_document(TEXTS[:2]))
    assert ours == pytest.approx(theirs.item(), rel=1e-5)


@given(texts=st.lists(st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join), min_size=1, max_size=12))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_texts_in_any_order(model: SparseEncoderEmbedding, splade: Any, texts: list[str]) -> None:
    assert_equal(model.get_text_embedding_batch(texts), splade.encode_document(texts))


def test_async_threads_and_the_cache_give_the_same(model: SparseEncoderEmbedding) -> None:
    expected = model.get_text_embedding_batch(TEXTS)
    query = model.get_query_embedding("bread")
    assert_equal(asyncio.run(model.aget_text_embedding_batch(TEXTS)), expected)
    assert_equal([asyncio.run(model.aget_query_embedding("bread"))], [query])
    found: list[list[SparseVector]] = []
    threads = [
        threading.Thread(target=lambda: found.append(model.get_text_embedding_batch(TEXTS[::-1]))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(threads)
    for vectors in found:
        assert_equal(vectors[::-1], expected)
    model.embeddings_cache = MemoryKVStore()
    first = model.get_text_embedding_batch(TEXTS)
    assert model.get_text_embedding_batch(TEXTS[::-1])[::-1] == first  # the same bits
    assert_equal(first, expected)


def test_similar_lengths_go_together(model: SparseEncoderEmbedding) -> None:
    seen: list[int] = []

    async def watch(request: Any, onward: Any, io: Any) -> Any:
        seen.extend(len(text) for text in request.inputs)
        return await onward(request)

    model = model.with_(middlewares=(watch,))
    model.get_text_embedding_batch(TEXTS)
    assert seen == sorted(map(len, TEXTS), reverse=True)


def test_instructions_win_over_the_saved_prompts(tiny_splade: Path, splade: Any) -> None:
    bare = SparseEncoderEmbedding(tiny_splade, device="cpu", query_instruction="", text_instruction="passage: ")
    assert_equal([bare.get_query_embedding("bread")], splade.encode(["bread"], prompt=""))
    assert_equal(bare.get_text_embedding_batch(TEXTS), splade.encode(TEXTS, prompt="passage: "))


def test_only_the_largest_numbers_are_kept(tiny_splade: Path, splade: Any) -> None:
    short = SparseEncoderEmbedding(tiny_splade, device="cpu", max_active_dims=5)
    whole = SparseEncoderEmbedding(tiny_splade, device="cpu")
    assert short._weights() is whole._weights()
    expected = splade.encode_document(TEXTS, max_active_dims=5)
    assert_equal(short.get_text_embedding_batch(TEXTS), expected)
    assert_equal(whole.get_text_embedding_batch(TEXTS), splade.encode_document(TEXTS))
    assert_equal(short.get_text_embedding_batch(TEXTS), expected)
    assert {len(vector) for vector in short.get_text_embedding_batch(TEXTS)} == {5}


def test_a_model_of_two_routes_has_one_for_queries_and_one_for_texts(
    tiny_splade: Path, wordpiece: Callable[..., Any], tmp_path: Path
) -> None:
    from sentence_transformers import SparseEncoder

    splade = SparseEncoder(str(tiny_splade), device="cpu")
    words = module("SparseStaticEmbedding", "sparse_encoder")(wordpiece(model_max_length=48))
    router = module("Router", "base").for_query_document([words], list(splade.children()))
    theirs = SparseEncoder(modules=[router], device="cpu")
    theirs.save(str(tmp_path / "model"))
    model = SparseEncoderEmbedding(tmp_path / "model", device="cpu", max_length=20)
    query = model.get_query_embedding("the wing of the wing")
    assert sorted(query.values()) == [1.0, 1.0, 1.0]
    assert_equal([query], theirs.encode_query(["the wing of the wing"]))
    assert model._get_query_embeddings(["the " * 30]).truncated == 0  # no positions to run out of
    theirs.max_seq_length = 20
    assert_equal(model.get_text_embedding_batch(TEXTS), theirs.encode_document(TEXTS))
    before = model.fingerprint
    weights = next((tmp_path / "model").glob("document_0_*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4")
    assert SparseEncoderEmbedding(tmp_path / "model", max_length=20).fingerprint != before


def test_an_autoencoder_may_keep_more_than_it_was_saved_with(tiny: Path, tmp_path: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer, SparseEncoder

    torch.manual_seed(0)
    autoencoder = module("SparseAutoEncoder", "sparse_encoder")(input_dim=32, hidden_dim=100, k=8)
    parts = [*SentenceTransformer(str(tiny), device="cpu").children(), autoencoder]
    theirs = SparseEncoder(modules=parts, device="cpu")
    theirs.save(str(tmp_path / "model"))
    for most in (None, 4, 20):
        model = SparseEncoderEmbedding(tmp_path / "model", device="cpu", max_active_dims=most)
        assert_equal(model.get_text_embedding_batch(TEXTS), theirs.encode_document(TEXTS, max_active_dims=most))


def test_a_masked_language_model_needs_no_files_of_sentence_transformers(tiny_mlm: Path, splade: Any) -> None:
    model = SparseEncoderEmbedding(tiny_mlm, device="cpu")
    assert_equal(model.get_text_embedding_batch(TEXTS), splade.encode_document(TEXTS))
    half = SparseEncoderEmbedding(tiny_mlm, device="cpu", dtype="bfloat16")
    assert half.get_text_embedding("bread").weights.dtype == np.float32


# Long texts


def test_texts_that_are_too_long_are_cut_and_counted(tiny_splade: Path, splade: Any) -> None:
    ended: list[EmbeddingEndEvent] = []
    heard = CallbackManager()
    heard.add_handler(lambda event: ended.append(event) if isinstance(event, EmbeddingEndEvent) else None)
    model = SparseEncoderEmbedding(tiny_splade, device="cpu", max_length=7, callback_manager=heard)
    found = model.get_text_embedding_batch(["the wing", "the wing of an air", "the " * 6])
    assert [(event.kind, event.truncated, dict(event.usage or {})) for event in ended] == [
        ("text", 1, {"tokens": 4 + 7 + 7})
    ]
    assert [row[0] for row in ended[0].embeddings] == found
    assert_equal(found[1:], splade.encode_document(["the wing of an air", "the " * 5]))


def test_texts_that_are_too_long_are_refused_by_index_or_the_policy_is(tiny_splade: Path) -> None:
    model = SparseEncoderEmbedding(tiny_splade, device="cpu", long_text="error", max_input_tokens=7)
    with pytest.raises(InputTooLongError, match=r"5 tokens this model takes: input 1 \(6 tokens\)"):
        model.get_text_embedding_batch(["bread", "the " * 6])
    with pytest.raises(ValueError, match="'truncate' or 'error'"):
        SparseEncoderEmbedding(tiny_splade, long_text="mean")


# Cache, copies, configurations


def test_a_file_shared_with_a_dense_model_never_mixes(tiny_mlm: Path, tiny_splade: Path, tmp_path: Path) -> None:
    shared = {"device": "cpu", "embeddings_cache": SQLiteKVStore(tmp_path / "cache.db")}
    sparse = SparseEncoderEmbedding(tiny_mlm, **shared)
    shorter = SparseEncoderEmbedding(tiny_mlm, max_active_dims=5, **shared)
    other = SparseEncoderEmbedding(tiny_splade, **shared)
    averaged = HuggingFaceEmbedding(tiny_mlm, **shared)
    first = sparse.get_text_embedding_batch(TEXTS), averaged.embed_texts(TEXTS)
    assert {len(vector) for vector in shorter.get_text_embedding_batch(TEXTS)} == {5}
    again = sparse.get_text_embedding_batch(TEXTS), averaged.embed_texts(TEXTS)
    assert again[0] == first[0]
    assert np.array_equal(again[1], first[1])
    assert len({model.fingerprint for model in (sparse, shorter, other, averaged)}) == 4
    assert other.get_query_embedding("bread") != sparse.get_query_embedding("bread")
    shared["embeddings_cache"].close()


def test_it_is_copied_pickled_saved_and_closed(model: SparseEncoderEmbedding) -> None:
    expected = model.get_text_embedding("bread")
    saved = SparseEncoderEmbedding.from_dict(model.to_dict(), embed_batch_size=2)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), saved):
        assert twin.fingerprint == model.fingerprint
        assert twin._weights() is model._weights()
        assert twin.get_text_embedding("bread") == expected
    with model:
        model.get_text_embedding("bread")
    assert model._held is None
    assert model.get_text_embedding("bread") == expected


# What must not happen


def test_weights_that_are_not_finite_give_an_error_by_index(tiny_splade: Path) -> None:
    of_its_own = {"layer_norm_eps": 1e-11}
    model = SparseEncoderEmbedding(tiny_splade, device="cpu", config_kwargs=of_its_own)
    model._weights().run(_spoil)
    with pytest.raises(EmbeddingIntegrityError, match=r"not finite.* at input 1 \('bread'\)"):
        model.get_text_embedding_batch(["air", "bread"])


def _spoil(encoder: Any) -> None:
    """Damage what a model knows of one word, as a training run that diverged does."""
    import torch

    model = encoder._model[0].auto_model
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())  # it is the table of words otherwise
    with torch.no_grad():
        model.get_input_embeddings().weight[encoder._model.tokenizer.convert_tokens_to_ids("bread")] = float("nan")


@pytest.mark.parametrize("made", ["tiny", "tiny_bert"])
def test_a_dense_model_is_refused_and_never_given_a_random_head(made: str, request: pytest.FixtureRequest) -> None:
    kind, remedy = {
        "tiny": ("SentenceTransformer", "use `HuggingFaceEmbedding`"),
        "tiny_bert": ("BertModel", "choose a `SparseEncoder`"),
    }[made]
    with pytest.raises(ConfigurationError, match=f"is a `{kind}` and gives no sparse vectors; {remedy}"):
        SparseEncoderEmbedding(request.getfixturevalue(made), device="cpu").get_text_embedding("bread")


def test_where_a_dense_model_is_wanted_a_sparse_one_is_refused(tiny_splade: Path, splade: Any) -> None:
    with pytest.raises(ConfigurationError, match="gives no dense vectors; use `SparseEncoderEmbedding`"):
        HuggingFaceEmbedding(tiny_splade, device="cpu").embed_texts(["bread"])
    with pytest.raises(ConfigurationError, match="a `SparseEncoder` gives no dense vectors; `save` it"):
        resolve_embed_model(splade)
    with pytest.raises(ValueError, match="a `SparseEncoder` gives no dense vectors; `save` it"):
        SentenceTransformerEmbedding(sentence_transformer=splade)


def test_a_folder_that_is_none_is_told_at_first_use(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no model"):
        SparseEncoderEmbedding(tmp_path).get_text_embedding("bread")
    with pytest.raises(TypeError, match="model_name"):
        SparseEncoderEmbedding()
