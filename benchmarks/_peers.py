"""The same no-op provider in every framework: it gives rows of an array that is there already."""

from __future__ import annotations

from typing import Any

import numpy as np
from embed_core import BaseEmbedding
from langchain_core.embeddings import Embeddings
from llama_index.core.base.embeddings.base import BaseEmbedding as LlamaIndexEmbedding

DIMENSION = 1536
BATCH = 100
VECTORS = np.random.default_rng(0).standard_normal((1000, DIMENSION)).astype(np.float32)
LISTS = VECTORS[:BATCH].tolist()
TEXTS = [f"a short text, number {number}" for number in range(len(VECTORS))]


class _Arrays:
    def _get_query_embedding(self, query: str) -> Any:
        return VECTORS[0]

    def _get_text_embedding(self, text: str) -> Any:
        return VECTORS[0]

    def _get_text_embeddings(self, texts: list[str]) -> Any:
        return VECTORS[: len(texts)]

    async def _aget_query_embedding(self, query: str) -> Any:
        return VECTORS[0]

    async def _aget_text_embedding(self, text: str) -> Any:
        return VECTORS[0]

    async def _aget_text_embeddings(self, texts: list[str]) -> Any:
        return VECTORS[: len(texts)]


class _Lists(_Arrays):
    def _get_text_embeddings(self, texts: list[str]) -> Any:
        return LISTS[: len(texts)]


class Ours(_Arrays, BaseEmbedding):
    """Ours; gives arrays."""


class OursOfLists(_Lists, BaseEmbedding):
    """Ours; gives lists."""


class LlamaIndex(_Arrays, LlamaIndexEmbedding):
    """LlamaIndex's; gives arrays."""


class LlamaIndexOfLists(_Lists, LlamaIndexEmbedding):
    """LlamaIndex's; gives lists."""


class LangChain(Embeddings):
    """LangChain's; gives lists, as its cache needs them."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        lists: list[list[float]] = VECTORS[: len(texts)].tolist()
        return lists

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]
