"""Hosts and servers that speak OpenAI's protocol, by name: `resolve_embed_model("nvidia:MODEL")`.

- `fireworks`: https://api.fireworks.ai/inference/v1, key from `FIREWORKS_API_KEY`
- `nvidia`: https://integrate.api.nvidia.com/v1, key from `NVIDIA_API_KEY`
- `openrouter`: https://openrouter.ai/api/v1, key from `OPENROUTER_API_KEY`
- `perplexity`: https://api.perplexity.ai/v1, key from `PERPLEXITY_API_KEY`
- `together`: https://api.together.xyz/v1, key from `TOGETHER_API_KEY`
- `llamacpp` and `tei`: http://localhost:8080/v1, without a key
- `lmstudio`: http://localhost:1234/v1, without a key
- `vllm`: http://localhost:8000/v1, without a key

Each takes the settings of `OpenAICompatibleEmbedding`; another address is `api_base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from embed_core import OPERATIONAL
from embed_core.provider import KnownModel, Limits
from pydantic import Field

from embeddings_openai._compatible import OpenAICompatibleEmbedding

__all__ = [
    "FireworksEmbedding",
    "LMStudioEmbedding",
    "LlamaCppEmbedding",
    "NvidiaEmbedding",
    "OpenRouterEmbedding",
    "PerplexityEmbedding",
    "TEIEmbedding",
    "TogetherEmbedding",
    "VLLMEmbedding",
]


class _Hosted(OpenAICompatibleEmbedding):
    address_variables = ()
    needs_key = True


class _Local(OpenAICompatibleEmbedding):
    address_variables = ()
    key_variables = ()


class FireworksEmbedding(_Hosted):
    """A model of Fireworks AI."""

    provider: ClassVar[str | None] = "fireworks"
    address = "https://api.fireworks.ai/inference/v1"
    key_variables = ("FIREWORKS_API_KEY",)


class NvidiaEmbedding(_Hosted):
    """A model of NVIDIA NIM, which must be told queries and passages apart and refuses a text that is too long."""

    provider: ClassVar[str | None] = "nvidia"
    address = "https://integrate.api.nvidia.com/v1"
    key_variables = ("NVIDIA_API_KEY",)

    embed_batch_size: Annotated[int, OPERATIONAL] = Field(default=50, ge=1, le=2048)
    query_body: dict[str, Any] = Field(default={"input_type": "query", "truncate": "NONE"})
    text_body: dict[str, Any] = Field(default={"input_type": "passage", "truncate": "NONE"})


class OpenRouterEmbedding(_Hosted):
    """A model by way of OpenRouter."""

    provider: ClassVar[str | None] = "openrouter"
    address = "https://openrouter.ai/api/v1"
    key_variables = ("OPENROUTER_API_KEY",)


class PerplexityEmbedding(_Hosted):
    """A model of Perplexity, whose vectors come as 8-bit integers in base64 and get unit length here."""

    provider: ClassVar[str | None] = "perplexity"
    address = "https://api.perplexity.ai/v1"
    key_variables = ("PERPLEXITY_API_KEY",)
    base64_format = "base64_int8"
    models: ClassVar[Mapping[str, KnownModel]] = {
        "pplx-embed-v1-0.6b": KnownModel(1024, max_input_tokens=32_768),
        "pplx-embed-v1-4b": KnownModel(2560, max_input_tokens=32_768),
    }

    model_name: str = Field(default="pplx-embed-v1-0.6b", kw_only=False)
    base64_dtype: str = Field(default="int8", pattern="^(float32|int8|uint8)$")
    normalize: bool = True


class TogetherEmbedding(_Hosted):
    """A model of Together AI."""

    provider: ClassVar[str | None] = "together"
    address = "https://api.together.xyz/v1"
    key_variables = ("TOGETHER_API_KEY",)


class LlamaCppEmbedding(_Local):
    """A model of llama.cpp's server."""

    provider: ClassVar[str | None] = "llamacpp"
    address = "http://localhost:8080/v1"


class LMStudioEmbedding(_Local):
    """A model of LM Studio."""

    provider: ClassVar[str | None] = "lmstudio"
    address = "http://localhost:1234/v1"


class TEIEmbedding(_Local):
    """A model of Text Embeddings Inference, which takes 32 inputs and 2 MB a request by default."""

    provider: ClassVar[str | None] = "tei"
    address = "http://localhost:8080/v1"
    limits = Limits(inputs=32, bytes=2_000_000)


class VLLMEmbedding(_Local):
    """A model of vLLM."""

    provider: ClassVar[str | None] = "vllm"
    address = "http://localhost:8000/v1"
