"""OpenAI's models; any other name works too."""

from __future__ import annotations

from typing import Final

from embed_core.provider import KnownModel, Limits

PRICES_AS_OF: Final = "2026-05"
"""The month of https://platform.openai.com/docs/pricing that `KNOWN` repeats."""

KNOWN: Final = {
    "text-embedding-3-small": KnownModel(1536, price=0.02, max_input_tokens=8192),
    "text-embedding-3-large": KnownModel(3072, price=0.13, max_input_tokens=8192),
    "text-embedding-ada-002": KnownModel(1536, price=0.10, max_input_tokens=8192),
}
"""The models of https://platform.openai.com/docs/guides/embeddings, the default first."""

LIMITS: Final = Limits(inputs=2048, tokens=300_000, tokens_per_byte=0.25)
"""The request check counts a quarter of the bytes, reported at https://github.com/timescale/pgai/issues/728."""
