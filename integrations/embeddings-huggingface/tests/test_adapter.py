from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embed_core import resolve_embed_model
from embed_core.errors import ConfigurationError, EmbeddingIntegrityError
from embed_core.kvstore import MemoryKVStore
from embeddings_huggingface import HuggingFaceEmbedding, SentenceTransformerEmbedding

TEXTS = ["the wing of an aircraft", "bread", "", "the " * 100]


@pytest.fixture
def load(tiny: Path) -> Callable[..., Any]:
    """Load a new `SentenceTransformer`."""
    from sentence_transformers import SentenceTransformer

    return lambda folder=tiny, **options: SentenceTransformer(str(folder), device="cpu", **options)


def fingerprint(sentence_transformer: Any, **options: Any) -> str:
    return SentenceTransformerEmbedding(sentence_transformer=sentence_transformer, **options).fingerprint


def test_a_sentence_transformer_is_a_model(load: Callable[..., Any], tiny: Path) -> None:
    theirs = load()
    model = resolve_embed_model(theirs)
    assert isinstance(model, SentenceTransformerEmbedding)
    assert model.model_name == str(tiny)
    expected = theirs.encode(TEXTS, show_progress_bar=False)
    assert np.allclose(model.embed_texts(TEXTS), expected, rtol=0, atol=1e-5)
    assert np.allclose(asyncio.run(model.aembed_queries(TEXTS)), expected, rtol=0, atol=1e-5)
    assert resolve_embed_model(theirs, embed_batch_size=3).embed_batch_size == 3


def test_its_own_length_dimensions_and_prompts_hold(load: Callable[..., Any]) -> None:
    theirs = load(truncate_dim=8, prompts={"query": "query: ", "document": "passage: "})
    theirs.max_seq_length = 7
    model = resolve_embed_model(theirs)
    assert np.allclose(model.embed_queries(TEXTS), theirs.encode_query(TEXTS, show_progress_bar=False), atol=1e-5)
    assert np.allclose(model.embed_texts(TEXTS), theirs.encode_document(TEXTS, show_progress_bar=False), atol=1e-5)
    shorter = SentenceTransformerEmbedding(sentence_transformer=theirs, max_length=4, text_instruction="")
    assert shorter._get_text_embeddings(TEXTS).usage == {"tokens": 4 + 3 + 2 + 4}
    assert theirs.max_seq_length == 7  # it is somebody else's


def test_equal_objects_are_one_space_and_others_are_not(load: Callable[..., Any]) -> None:
    import torch

    theirs = load()
    assert fingerprint(theirs) == fingerprint(load())
    theirs.encode(TEXTS, show_progress_bar=False)  # leaves padding and truncation set in the tokenizer
    assert fingerprint(theirs) == fingerprint(load())
    assert fingerprint(load(prompts={"query": "q: "})) != fingerprint(theirs)
    assert fingerprint(theirs, query_instruction="q: ") != fingerprint(theirs)
    shorter, trained, half = load(), load(), load()
    shorter.max_seq_length = 5
    with torch.no_grad():
        next(trained.parameters()).mul_(1.0001)
    half.half()
    assert len({fingerprint(one) for one in (theirs, shorter, trained, half)}) == 4


def test_a_module_that_nobody_knows_makes_a_space_of_its_own(load: Callable[..., Any]) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    class Sign(torch.nn.Module):
        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            return features | {"sentence_embedding": features["sentence_embedding"].sign()}

    theirs = SentenceTransformer(modules=[*load().children(), Sign()], device="cpu")
    model = resolve_embed_model(theirs)
    assert set(np.unique(model.embed_texts(TEXTS))) <= {-1.0, 0.0, 1.0}
    assert model.fingerprint == model.fingerprint
    assert model.fingerprint != resolve_embed_model(theirs).fingerprint


def test_two_models_around_one_object_share_its_thread(load: Callable[..., Any]) -> None:
    theirs = load()
    one, other = resolve_embed_model(theirs), resolve_embed_model(theirs)
    assert isinstance(one, SentenceTransformerEmbedding)
    assert isinstance(other, SentenceTransformerEmbedding)
    assert one._weights() is other._weights()
    assert copy.deepcopy(one)._weights() is one._weights()


def test_it_can_be_cached_closed_and_pickled_but_not_saved(load: Callable[..., Any]) -> None:
    model = resolve_embed_model(load())
    model.embeddings_cache = MemoryKVStore()
    vectors = model.embed_texts(TEXTS)
    model.close()
    assert np.array_equal(model.embed_texts(TEXTS), vectors)
    again = pickle.loads(pickle.dumps(model))
    assert again.fingerprint == model.fingerprint
    assert np.allclose(again.embed_texts(TEXTS), vectors, atol=1e-5)
    with pytest.raises(ConfigurationError, match="`save` it to a folder"):
        model.to_dict()


def test_fields_for_loading_are_refused(load: Callable[..., Any]) -> None:
    theirs = load()
    with pytest.raises(ConfigurationError, match=r"`device` is 'cuda': it is for loading a model"):
        resolve_embed_model(theirs, device="cuda")
    model = SentenceTransformerEmbedding(theirs)
    with pytest.raises(ValueError, match="used as it is; leave it out"):
        model.dtype = "bfloat16"
    with pytest.raises(ValueError, match="frozen"):
        model.sentence_transformer = load()


def test_what_gives_no_dense_vectors_is_refused() -> None:
    from sentence_transformers import SparseEncoder

    sparse = SparseEncoder.__new__(SparseEncoder)
    with pytest.raises(ConfigurationError, match="a `SparseEncoder` gives no dense vectors"):
        resolve_embed_model(sparse)


def test_a_saved_sparse_model_is_refused_too(tiny: Path, copy_with: Callable[..., Path]) -> None:
    folder = copy_with(tiny, model_type="SparseEncoder")
    with pytest.raises(ConfigurationError, match="is a `SparseEncoder` and gives no dense vectors"):
        HuggingFaceEmbedding(model_name=folder).embed_texts(["bread"])


def test_static_vectors_work_and_are_cut_to_a_length(tmp_path: Path, wordpiece: Callable[..., Any]) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding

    torch.manual_seed(0)
    theirs = SentenceTransformer(modules=[StaticEmbedding(wordpiece().backend_tokenizer, embedding_dim=6)])
    theirs.save(str(tmp_path))
    model = HuggingFaceEmbedding(model_name=tmp_path, device="cpu")
    texts = [text for text in TEXTS if text]
    assert np.allclose(model.embed_texts(texts), theirs.encode(texts, show_progress_bar=False), atol=1e-6)
    assert model._get_text_embeddings(texts).usage == {"tokens": 6 + 1 + 100}
    with pytest.raises(EmbeddingIntegrityError, match=r"vector of zeros.* at input 1 "):
        model.embed_texts(["bread", ""])  # the mean of no tokens
    short = HuggingFaceEmbedding(model_name=tmp_path, device="cpu", max_input_tokens=2)
    assert np.allclose(short.embed_texts(["the wing of bread"]), model.embed_texts(["the wing"]), atol=1e-6)
    mean = HuggingFaceEmbedding(model_name=tmp_path, device="cpu", max_input_tokens=2, long_text="mean")
    assert np.allclose(mean.embed_texts(["the wing of bread"]), model.embed_texts(["the wing of bread"]), atol=1e-6)
