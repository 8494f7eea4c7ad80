"""What is known of OpenAI's models; any other name works too."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT = "text-embedding-3-small"
MAX_INPUTS = 2048
MAX_REQUEST_TOKENS = 300_000
BYTES_PER_TOKEN = 4
"""The request check counts a quarter of the UTF-8 bytes: https://github.com/timescale/pgai/issues/728."""


@dataclass(frozen=True, slots=True)
class Known:
    """A model of https://platform.openai.com/docs/guides/embeddings."""

    dimension: int
    max_input_tokens: int = 8192


KNOWN = {
    "text-embedding-3-small": Known(1536),
    "text-embedding-3-large": Known(3072),
    "text-embedding-ada-002": Known(1536),
}
