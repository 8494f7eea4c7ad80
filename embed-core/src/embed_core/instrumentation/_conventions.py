"""The names that OpenTelemetry and OpenInference give to embeddings; the one place to change when they do.

The GenAI conventions are still in development, and the constants of the Python package are marked deprecated, so the
strings stand here: https://opentelemetry.io/docs/specs/semconv/gen-ai/ and
https://arize-ai.github.io/openinference/spec/semantic_conventions.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

Version: TypeAlias = Literal["current", "draft"]


@dataclass(frozen=True, slots=True)
class Names:
    """The GenAI names of one version of the conventions.

    Attributes:
        duration: the metric of seconds.
        usage: the metric of tokens.
        usage_kind: its attribute that tells input from output tokens; None where there is none.
    """

    operation: str = "gen_ai.operation.name"
    provider: str = "gen_ai.provider.name"
    request_model: str = "gen_ai.request.model"
    response_model: str = "gen_ai.response.model"
    input_tokens: str = "gen_ai.usage.input_tokens"
    dimension: str = "gen_ai.embeddings.dimension.count"
    encoding_formats: str = "gen_ai.request.encoding_formats"
    server_address: str = "server.address"
    server_port: str = "server.port"
    error: str = "error.type"
    duration: str = "gen_ai.client.operation.duration"
    usage: str = "gen_ai.client.token.usage"
    usage_kind: str | None = "gen_ai.token.type"


_CURRENT = Names()
NAMES: Final[Mapping[Version, Names]] = MappingProxyType(
    {
        "current": _CURRENT,
        "draft": replace(
            _CURRENT,
            duration="gen_ai.client.embeddings.duration",
            usage="gen_ai.client.embeddings.operation.input_tokens",
            usage_kind=None,
        ),
    }
)

OPERATION: Final = "embeddings"

SPAN_KIND: Final = "openinference.span.kind"
MODEL_NAME: Final = "embedding.model_name"
PROMPT_TOKENS: Final = "llm.token_count.prompt"
OPENINFERENCE_SPAN: Final = "CreateEmbeddings"
OPENINFERENCE_ITEM: Final = "embedding.embeddings.{}.embedding.{}"

ITEM: Final = "embed_core.embeddings.{}.{}"
KIND: Final = "embed_core.kind"
INPUTS: Final = "embed_core.inputs"
ATTEMPTS: Final = "embed_core.attempts"
TRUNCATED: Final = "embed_core.truncated"
CACHE_HITS: Final = "embed_core.cache.hits"
CACHE_MISSES: Final = "embed_core.cache.misses"

# The boundaries that the conventions advise.
DURATION_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
