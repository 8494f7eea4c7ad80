"""Other servers that speak OpenAI's protocol."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from embed_core import OPERATIONAL, Kind
from embed_core.errors import ConfigurationError
from pydantic import Field

from embeddings_openai._connected import Address, address, sendable, sends_key, strangers_headers
from embeddings_openai._exchange import Exchange, Talk
from embeddings_openai._openai_like import OpenAILike


class OpenAICompatibleEmbedding(OpenAILike):
    """A model on vLLM, Text Embeddings Inference, Ollama, LM Studio, LiteLLM or any server of the same protocol.

    What the server supports is found out by asking and remembered for its address: vectors in base64 or as numbers,
    `dimensions` there or shortened here, how many inputs and tokens a request may have.

    Attributes:
        model_name: as the server names it; also accepted as `model`, and as the first argument.
        api_base: the address, usually ending in `/v1`; by default `OPENAI_COMPATIBLE_BASE_URL`.
        api_key: by default `OPENAI_COMPATIBLE_API_KEY`, else none is needed. `OPENAI_API_KEY` is not sent to strangers.
        dimensions: length of the vectors; shortened here and made unit vectors again where the server does not.
        query_instruction: put before every query, for models that want one, such as "query: " for E5.
        text_instruction: put before every document or passage.
        normalize: whether vectors are made unit vectors here.
    """

    provider: ClassVar[str | None] = "openai-compatible"
    key_variable: ClassVar[str] = "OPENAI_COMPATIBLE_API_KEY"

    model_name: str
    embed_batch_size: Annotated[int, OPERATIONAL] = Field(default=32, ge=1, le=2048)
    api_base: Address = None
    query_instruction: str = ""
    text_instruction: str = ""
    normalize: bool = False

    def _normalizes(self) -> bool:
        return self.normalize

    def _declared_dimension(self) -> int | None:
        return self.dimensions

    def _about(self, kind: Kind, texts: list[str]) -> Talk:
        instruction = self.query_instruction if kind == "query" else self.text_instruction
        return super()._about(kind, [instruction + text for text in texts])

    def _exchange(self) -> Exchange:
        return replace(super()._exchange(), may_cut=True, unify=self.normalize)

    @classmethod
    def needs_consent(cls, saved: Mapping[str, Any]) -> dict[str, str]:
        """Return that a saved address would get the user's key, where there is one and the address is another's."""
        if cls.key_variable not in os.environ:
            return {}
        return sends_key(saved, "api_base", os.environ.get("OPENAI_COMPATIBLE_BASE_URL"))

    def _base_url(self) -> str:
        given = self.api_base or os.environ.get("OPENAI_COMPATIBLE_BASE_URL")
        if not given:
            msg = f"`{self.model_name}` needs a server; set `OPENAI_COMPATIBLE_BASE_URL` or pass `api_base=`"
            raise ConfigurationError(msg)
        return address(given)

    def _key(self) -> str:
        given = self.api_key.get_secret_value() if self.api_key is not None else os.environ.get(self.key_variable)
        return sendable((given or "").strip(), f"the key for `{self.model_name}`")

    def _client_settings(self) -> dict[str, Any]:
        key = self._key() or "none"  # the SDK wants one where the server needs none
        return {
            "api_key": key,
            "base_url": self._base_url(),
            **self._shared_settings(strangers_headers() | {"Authorization": f"Bearer {key}"}),
        }
