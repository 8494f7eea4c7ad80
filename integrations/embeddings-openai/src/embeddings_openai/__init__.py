"""OpenAI embeddings for embed-core; `openai` itself is imported on the first call."""

from embeddings_openai._embedding import OpenAIEmbedding

__all__ = ["OpenAIEmbedding"]
