"""What is known of OpenAI's models; any other name works too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DEFAULT: Final = "text-embedding-3-small"
MAX_INPUTS: Final = 2048
MAX_REQUEST_TOKENS: Final = 300_000
TOKENS_PER_BYTE: Final = 0.25
"""How the request check counts, reported at https://github.com/timescale/pgai/issues/728; no tokenizer needed."""

PRICES_AS_OF: Final = "2026-05"
"""The month of https://platform.openai.com/docs/pricing that `KNOWN` repeats."""

BATCH_DISCOUNT: Final = 0.5


@dataclass(frozen=True, slots=True)
class Known:
    """A model of https://platform.openai.com/docs/guides/embeddings.

    Attributes:
        price: US dollars for a million tokens.
    """

    dimension: int
    price: float
    max_input_tokens: int = 8192


KNOWN: Final = {
    "text-embedding-3-small": Known(1536, price=0.02),
    "text-embedding-3-large": Known(3072, price=0.13),
    "text-embedding-ada-002": Known(1536, price=0.10),
}
