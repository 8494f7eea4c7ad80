"""OpenAI's embedding models."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

from embed_core import OPERATIONAL, BaseEmbedding, Kind, ProviderResponse, RetryPolicy
from embed_core.errors import AuthenticationError
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from embeddings_openai import _models, _wire
from embeddings_openai._client import Clients
from embeddings_openai._errors import Endpoint, translated


class OpenAIEmbedding(BaseEmbedding):
    """A model of OpenAI's embeddings API.

    Vectors have unit length; the service is not bit-deterministic, so two calls may differ by about 1e-4 in a number.

    Attributes:
        model_name: any name; also accepted as `model`, and as the first argument.
        dimensions: length of the vectors, for models that can shorten them; None for the model's own.
        api_key: by default `OPENAI_API_KEY`; never part of a saved configuration.
        api_base: by default `OPENAI_BASE_URL`, else OpenAI's own address.
        organization: by default `OPENAI_ORG_ID`.
        project: by default `OPENAI_PROJECT_ID`.
        timeout: seconds for one attempt.
        default_headers: sent with every request; taken for secrets, so not part of a saved configuration.
        http_client: an `httpx.Client` of your own, which you close.
        async_http_client: an `httpx.AsyncClient` of your own, for the one event loop it belongs to.
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # what is refused may be a key

    provider: ClassVar[str | None] = "openai"
    io_bound: ClassVar[bool] = True
    accepts_blank: ClassVar[bool] = False
    normalizes: ClassVar[bool] = True

    model_name: str = _models.DEFAULT
    embed_batch_size: Annotated[int, OPERATIONAL] = Field(default=256, ge=1, le=_models.MAX_INPUTS)
    num_workers: Annotated[int, OPERATIONAL] = Field(default=8, ge=1)
    dimensions: int | None = Field(default=None, ge=1)
    api_key: Annotated[SecretStr | None, OPERATIONAL] = None
    api_base: Annotated[str | None, OPERATIONAL] = None
    organization: Annotated[str | None, OPERATIONAL] = None
    project: Annotated[str | None, OPERATIONAL] = None
    timeout: Annotated[float, OPERATIONAL] = Field(default=60.0, gt=0)
    default_headers: Annotated[dict[str, SecretStr] | None, OPERATIONAL] = None
    http_client: Annotated[Any, OPERATIONAL] = Field(default=None, exclude=True, repr=False)
    async_http_client: Annotated[Any, OPERATIONAL] = Field(default=None, exclude=True, repr=False)

    _clients: Clients | None = PrivateAttr(default=None)

    def __init__(self, model: str | None = None, *, max_retries: int | None = None, **settings: Any) -> None:
        """Set up the model; `max_retries` is short for `retry=RetryPolicy(max_retries=…)`."""
        if model is not None:
            settings["model_name"] = model
        if settings.get("model_name") == "":
            del settings["model_name"]
        if max_retries is not None:
            settings["retry"] = RetryPolicy(max_retries=max_retries)
        super().__init__(**settings)

    # Hooks

    def _get_query_embedding(self, query: str) -> Any:
        return self._get_text_embeddings([query]).vectors[0]

    def _get_text_embedding(self, text: str) -> Any:
        return self._get_text_embeddings([text]).vectors[0]

    def _get_query_embeddings(self, queries: list[str]) -> ProviderResponse:
        return self._get_text_embeddings(queries)

    async def _aget_query_embeddings(self, queries: list[str]) -> ProviderResponse:
        return await self._aget_text_embeddings(queries)

    def _get_text_embeddings(self, texts: list[str]) -> ProviderResponse:
        with translated(where := self._endpoint()):
            client = self._connections().sync()
            response = client.embeddings.with_raw_response.create(**self._body(texts))
            return _wire.decode(response.http_response.content, response.headers, where)

    async def _aget_text_embeddings(self, texts: list[str]) -> ProviderResponse:
        with translated(where := self._endpoint()):
            client = await self._connections().current()
            response = await client.embeddings.with_raw_response.create(**self._body(texts))
            return _wire.decode(response.http_response.content, response.headers, where)

    def _body(self, texts: list[str]) -> dict[str, Any]:
        body = {"model": self.model_name, "input": texts, "encoding_format": "base64"}
        return body if self.dimensions is None else body | {"dimensions": self.dimensions}

    def _plan(self, kind: Kind, inputs: Sequence[str]) -> Iterable[Sequence[int]]:
        """Fill requests in input order up to the provider's limits on inputs and tokens."""
        room, start, size = _models.MAX_REQUEST_TOKENS * _models.BYTES_PER_TOKEN, 0, 0
        for position, text in enumerate(inputs):
            length = len(text.encode())
            if position - start == self.embed_batch_size or (size + length > room and position > start):
                yield range(start, position)
                start, size = position, 0
            size += length
        yield range(start, len(inputs))

    def _declared_dimension(self) -> int | None:
        known = _models.KNOWN.get(self.model_name)
        return self.dimensions or (known.dimension if known is not None else None)

    def _input_limit(self, kind: Kind) -> int | None:
        known = _models.KNOWN.get(self.model_name)
        return self.max_input_tokens or (known.max_input_tokens if known is not None else None)

    # Clients

    def _close(self) -> None:
        if self._clients is not None:
            self._clients.close()

    async def _aclose(self) -> None:
        if self._clients is not None:
            await self._clients.aclose()

    def _connections(self) -> Clients:
        """Return the clients for the settings of this moment; those for former ones are closed."""
        settings = self._client_settings(), self.http_client, self.async_http_client
        with self._making:
            former = self._clients
            if former is not None and former.settings == settings:
                return former
            self._clients = Clients(settings, self._make_client, self._make_async_client, *self._owned())
        if former is not None:
            former.close()
        return self._clients

    def _owned(self) -> tuple[bool, bool]:
        return self.http_client is None, self.async_http_client is None

    def _make_client(self) -> Any:
        import openai

        return openai.OpenAI(**self._client_settings(), http_client=self.http_client)

    def _make_async_client(self) -> Any:
        import openai

        return openai.AsyncOpenAI(**self._client_settings(), http_client=self.async_http_client)

    def _client_settings(self) -> dict[str, Any]:
        headers = self.default_headers or {}
        return {
            "api_key": self._key(),
            "base_url": self._base_url(),
            "organization": self.organization,
            "project": self.project,
            "timeout": self.timeout,
            "max_retries": 0,  # the engine retries; two layers would multiply
            "default_headers": {name: value.get_secret_value() for name, value in headers.items()},
        }

    def _base_url(self) -> str:
        given = self.api_base or os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE")
        return (given or "https://api.openai.com/v1").rstrip("/")

    def _key(self) -> str:
        key = self.api_key.get_secret_value() if self.api_key is not None else os.environ.get("OPENAI_API_KEY", "")
        if not key.strip():
            msg = f"`{self.model_name}` needs an API key and there is none; set `OPENAI_API_KEY` or pass `api_key=`"
            raise AuthenticationError(msg)
        return key.strip()

    def _endpoint(self) -> Endpoint:
        return Endpoint(self.model_name, self._base_url(), self._key())
