"""Constructors as the documentation has them; mypy reads this file, nothing runs it."""

from pathlib import Path
from typing import Annotated

from embed_core import OPERATIONAL, MockEmbedding, MockMultiModalEmbedding, RateLimiter, RetryPolicy
from embed_core.instrumentation import CallbackManager
from embed_core.kvstore import MemoryKVStore, SQLiteKVStore
from embeddings_huggingface import ClipEmbedding, HuggingFaceEmbedding, SparseEncoderEmbedding
from embeddings_openai import AzureOpenAIEmbedding, OpenAICompatibleEmbedding, OpenAIEmbedding
from embeddings_openai.presets import PerplexityEmbedding
from pydantic import SecretStr

MockEmbedding(embed_dim=8, embeddings_cache=MemoryKVStore(), callback_manager=CallbackManager())
MockMultiModalEmbedding(embed_dim=16, retry=RetryPolicy(max_retries=1), rate_limiter=RateLimiter())
OpenAIEmbedding("text-embedding-3-small", embeddings_cache=SQLiteKVStore("vectors.sqlite"))
OpenAIEmbedding("text-embedding-3-small", embeddings_cache="vectors.sqlite").embeddings_cache = Path("more.sqlite")
OpenAIEmbedding(model="text-embedding-3-small", api_key="sk-any", max_retries=3, default_headers={"x-team": "7"})
OpenAIEmbedding(model_name="text-embedding-3-small", api_key=SecretStr("sk-any"), dimensions=256)
AzureOpenAIEmbedding("text-embedding-3-small", azure_endpoint="https://x.example", azure_ad_token="any")
OpenAICompatibleEmbedding("any-model", api_base="http://127.0.0.1:8080/v1", dimensions=256)
PerplexityEmbedding("pplx-embed-v1-4b")
HuggingFaceEmbedding("intfloat/e5-small-v2", query_instruction="query: ", device="cpu", dtype="float16")
HuggingFaceEmbedding(Path("minilm"), truncate_dim=64, pooling="mean")
ClipEmbedding("openai/clip-vit-base-patch32", normalize=True)
SparseEncoderEmbedding("./splade", max_active_dims=256)


class Mine(OpenAIEmbedding):
    """A user's subclass: its fields are arguments of its constructor."""

    tone: str = ""
    patience: Annotated[float, OPERATIONAL] = 1.0


Mine("text-embedding-3-small", tone="warm", patience=2)
