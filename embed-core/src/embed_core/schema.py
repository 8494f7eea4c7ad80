"""Nodes: pieces of documents with metadata, and what of them goes into an embedding."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol


class MetadataMode(StrEnum):
    """For whom a node's content is put together; the values are LlamaIndex's."""

    ALL = "all"
    EMBED = "embed"
    LLM = "llm"
    NONE = "none"


class SupportsEmbedding(Protocol):
    """Anything with content and a place for a vector is a node; LlamaIndex's own nodes are."""

    embedding: Any

    def get_content(self, metadata_mode: Any = ...) -> str:
        """Return the text, with metadata as the mode asks."""
        ...
