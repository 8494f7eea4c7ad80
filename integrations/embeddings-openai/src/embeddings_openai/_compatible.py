"""Other servers that speak OpenAI's protocol."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

import numpy as np
from embed_core import OPERATIONAL, Kind
from embed_core.provider import Endpoint, unit
from pydantic import Field, PrivateAttr

from embeddings_openai._protocol import OpenAIProtocol
from embeddings_openai._transport import without_openais_headers


class OpenAICompatibleEmbedding(OpenAIProtocol):
    """A model on vLLM, Text Embeddings Inference, Ollama, LM Studio, LiteLLM or any server of the same protocol.

    The abilities of the server are found out by asking and remembered for its address: vectors in base64 or as numbers,
    `dimensions` there or shortened here, how many inputs and tokens a request may have.

    Attributes:
        model_name: as the server names it; also accepted as `model`, and as the first argument.
        api_base: the address, usually ending in `/v1`; by default `OPENAI_COMPATIBLE_BASE_URL`. It is part of the
            space, because many servers answer any name by the one model that they have loaded.
        server_name: your name for the server, which stands in the space in place of the address: models with the same
            server name share vectors, wherever they are served.
        api_key: by default `OPENAI_COMPATIBLE_API_KEY`, else none is needed. `OPENAI_API_KEY` is not sent to strangers.
        dimensions: length of the vectors; shortened here and made unit vectors again where the server does not.
        query_instruction: put before every query, for models that want one, such as "query: " for E5.
        text_instruction: put before every document or passage.
        query_body: further fields of every request for queries, such as `{"input_type": "query"}`.
        text_body: further fields of every request for documents or passages.
        base64_dtype: the numbers that a server puts into base64: "float32", or "int8" or "uint8" for quantised vectors.
        normalize: whether vectors are made unit vectors here.
    """

    provider: ClassVar[str | None] = "openai-compatible"
    address_variables: ClassVar[tuple[str, ...]] = ("OPENAI_COMPATIBLE_BASE_URL",)
    key_variables: ClassVar[tuple[str, ...]] = ("OPENAI_COMPATIBLE_API_KEY",)
    needs_key = False
    cuts_dimensions = True

    model_name: str = Field(kw_only=False)
    embed_batch_size: Annotated[int, OPERATIONAL] = Field(default=32, ge=1, le=2048)
    server_name: str | None = Field(default=None, min_length=1)
    query_instruction: str = ""
    text_instruction: str = ""
    query_body: dict[str, Any] = Field(default_factory=dict)
    text_body: dict[str, Any] = Field(default_factory=dict)
    base64_dtype: str = Field(default="float32", pattern="^(float32|int8|uint8)$")
    normalize: bool = False

    _found: str = PrivateAttr(default="")

    def _base_url(self) -> str:
        if self.api_base:
            return super()._base_url()
        self._found = self._found or super()._base_url()  # once, because the environment may change
        return self._found

    def _decides_vectors(self, name: str) -> bool:
        return (name == "api_base" and not self.server_name) or super()._decides_vectors(name)

    def _space(self) -> dict[str, Any]:
        space = super()._space()
        if "api_base" in space:  # by the environment too, and however its host is written
            parts = urlsplit(self._base_url())
            space["api_base"] = parts._replace(netloc=parts.netloc.lower()).geturl()
        return space

    def _normalizes(self) -> bool:
        return self.normalize

    def _request(self, kind: Kind, inputs: list[Any]) -> dict[str, Any]:
        query = kind == "query"
        instruction = self.query_instruction if query else self.text_instruction
        texts = [instruction + text for text in inputs] if instruction else inputs
        return {**super()._request(kind, texts), **(self.query_body if query else self.text_body), **self._more()}

    def _numbers(self) -> str:
        return self.base64_dtype

    def _finished(self, vectors: Any) -> Any:
        vectors = super()._finished(vectors)
        return unit(vectors) if self.normalize and isinstance(vectors, np.ndarray) else vectors

    def _client_settings(self, where: Endpoint) -> dict[str, Any]:
        key = where.secret or "none"  # the SDK wants one where the server needs none
        headers = without_openais_headers() | {"Authorization": f"Bearer {key}"}
        return {"api_key": key, "base_url": where.base_url, "default_headers": headers}
