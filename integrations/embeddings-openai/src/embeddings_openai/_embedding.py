"""OpenAI's own service."""

from __future__ import annotations

import os
from typing import Annotated, Any, ClassVar

from embed_core import OPERATIONAL
from pydantic import Field

from embeddings_openai import _models
from embeddings_openai._capabilities import Capabilities, capabilities
from embeddings_openai._openai_like import OpenAILike

_ADDRESS = "https://api.openai.com/v1"


class OpenAIEmbedding(OpenAILike):
    """A model of OpenAI's embeddings API.

    Vectors have unit length. The service is not bit-deterministic: two calls may differ by some 1e-4 in a number.

    Attributes:
        model_name: any name; also accepted as `model`, and as the first argument.
        dimensions: length of the vectors, for models that can shorten them; None for the model's own.
        api_key: by default `OPENAI_API_KEY`; never part of a saved configuration.
        api_base: by default `OPENAI_BASE_URL`, else OpenAI's own address.
        organization: by default `OPENAI_ORG_ID`.
        project: by default `OPENAI_PROJECT_ID`.
    """

    provider: ClassVar[str | None] = "openai"
    accepts_blank: ClassVar[bool] = False
    normalizes: ClassVar[bool] = True
    key_variable: ClassVar[str] = "OPENAI_API_KEY"

    model_name: str = _models.DEFAULT
    embed_batch_size: Annotated[int, OPERATIONAL] = Field(default=256, ge=1, le=_models.MAX_INPUTS)
    api_base: Annotated[str | None, OPERATIONAL] = None
    organization: Annotated[str | None, OPERATIONAL] = None
    project: Annotated[str | None, OPERATIONAL] = None

    def _declared_dimension(self) -> int | None:
        known = _models.KNOWN.get(self.model_name)
        return self.dimensions or (known.dimension if known is not None else None)

    def _base_url(self) -> str:
        given = self.api_base or os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE")
        return (given or _ADDRESS).rstrip("/")

    def _capabilities(self) -> Capabilities:
        return openai_capabilities(self._base_url())

    def _client_settings(self) -> dict[str, Any]:
        return {
            "api_key": self._key(),
            "base_url": self._base_url(),
            "organization": self.organization,
            "project": self.project,
            **self._shared_settings(),
        }

    def _client_classes(self) -> tuple[Any, Any]:
        import openai

        return openai.OpenAI, openai.AsyncOpenAI


def openai_capabilities(base_url: str) -> Capabilities:
    """Return what is known of a server that runs OpenAI's own models, which have a known limit."""
    known = capabilities(base_url)
    if known.max_tokens is None:
        known.max_tokens = _models.MAX_REQUEST_TOKENS
    return known
