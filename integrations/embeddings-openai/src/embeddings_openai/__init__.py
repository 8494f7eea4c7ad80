"""OpenAI embeddings for embed-core; `openai` itself is imported on the first call."""

from embed_core.provider import Usage

from embeddings_openai._azure import AzureOpenAIEmbedding
from embeddings_openai._compatible import OpenAICompatibleEmbedding
from embeddings_openai._embedding import OpenAIEmbedding
from embeddings_openai._models import KNOWN, PRICES_AS_OF

__all__ = [
    "KNOWN",
    "PRICES_AS_OF",
    "AzureOpenAIEmbedding",
    "OpenAICompatibleEmbedding",
    "OpenAIEmbedding",
    "Usage",
]
