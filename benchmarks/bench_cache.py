"""What a text costs that is in the cache already, at 1,536 dimensions: 1,000 hits in one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from embed_core.kvstore import MemoryKVStore, SQLiteKVStore
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.stores import InMemoryByteStore
from llama_index.core.storage.kvstore import SimpleKVStore

from benchmarks._harness import Target, Variant, interleave, ratio, show
from benchmarks._peers import BATCH, TEXTS, LangChain, LlamaIndexOfLists, Ours

_LLAMA = "LlamaIndex, in memory"
_LANGCHAIN = "LangChain, in memory"


def main() -> Sequence[Target]:
    """Measure hits in memory and in a SQLite file against the peers' in memory."""
    with TemporaryDirectory() as folder:
        file = SQLiteKVStore(Path(folder) / "cache.sqlite")
        memory = Ours(embed_batch_size=BATCH, embeddings_cache=MemoryKVStore())
        sqlite = Ours(embed_batch_size=BATCH, embeddings_cache=file)
        llama = LlamaIndexOfLists(embed_batch_size=BATCH, embeddings_cache=SimpleKVStore())
        langchain = CacheBackedEmbeddings.from_bytes_store(
            LangChain(), InMemoryByteStore(), namespace="model", key_encoder="blake2b"
        )
        count = len(TEXTS)
        samples = interleave(
            [
                Variant("memory", partial(memory.embed_texts, TEXTS), count),
                Variant("memory, lists", partial(memory.get_text_embedding_batch, TEXTS), count),
                Variant("SQLite", partial(sqlite.embed_texts, TEXTS), count),
                Variant(_LLAMA, partial(llama.get_text_embedding_batch, TEXTS), count),
                Variant(_LANGCHAIN, partial(langchain.embed_documents, TEXTS), count),
            ],
            clock=time.thread_time,
        )
        file.close()
    notes = {
        "memory, lists": "unlike: makes lists of floats",
        "SQLite": "checksum of every vector",
        _LLAMA: "Python objects, by reference",
        _LANGCHAIN: "JSON",
    }
    show("cache hit", "CPU µs a text", samples, base=_LLAMA, scale=1e6, notes=notes)
    return [
        Target("cache hit in memory, x LlamaIndex", ratio(samples, "memory", _LLAMA), 1 / 2, "x"),
        Target("cache hit in SQLite, x LlamaIndex in memory", ratio(samples, "SQLite", _LLAMA), 1.0, "x"),
    ]
