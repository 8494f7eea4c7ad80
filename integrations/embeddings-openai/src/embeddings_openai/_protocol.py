"""OpenAI's embeddings protocol, as OpenAI, Azure and compatible servers speak it."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar
from urllib.parse import parse_qs, unquote

from embed_core import OPERATIONAL, Kind, ProviderResponse
from embed_core.errors import ConfigurationError, EmbedError
from embed_core.provider import (
    APIEmbedding,
    Endpoint,
    NoVectorsError,
    atake,
    decode,
    positions,
    refusal,
    take,
    token_usage,
)
from pydantic import Field

from embeddings_openai._models import KNOWN, LIMITS
from embeddings_openai._transport import SDKTransport, reading_by, spelled

_DEPLOYMENT = re.compile(r"(.+?)/openai/deployments/([^/?#]+)[^?#]*(?:\?([^#]*))?(?:#.*)?", re.IGNORECASE)
_OPTIONS = {"extra_headers": "headers", "extra_query": "params", "timeout": "timeout"}


class OpenAIProtocol(APIEmbedding):
    """A model behind OpenAI's embeddings protocol, on the SDK; see its subclasses.

    Attributes:
        additional_kwargs: further arguments of `client.embeddings.create`, such as `{"user": "…"}`; `extra_body`,
            `extra_headers`, `extra_query` and `timeout` mean what they mean there.
    """

    base64_format: ClassVar[str] = "base64"
    """The server's word for vectors in base64."""

    additional_kwargs: dict[str, Any] = Field(default_factory=dict)

    @abstractmethod
    def _client_settings(self, where: Endpoint) -> dict[str, Any]:
        """Return the arguments of the SDK's client, besides those that all have in common."""

    def _client_classes(self) -> tuple[Any, Any]:
        """Return the SDK's sync and async client."""
        import openai

        return openai.OpenAI, openai.AsyncOpenAI

    def _base_url(self) -> str:
        given = super()._base_url()  # the rest of such an address works, by `extra_query`
        return no_deployment(given) if "?" in given or given.endswith("/embeddings") else given

    def _request(self, kind: Kind, inputs: list[Any]) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._endpoint_model(), "input": inputs}
        lacks = (self._abilities or self._capabilities()).lacks
        if "base64" not in lacks:
            body["encoding_format"] = self.base64_format
        elif "float" not in lacks:
            body["encoding_format"] = "float"
        if self.dimensions is not None and ("dimensions", body["model"]) not in lacks:
            body["dimensions"] = self.dimensions
        return {**body, **self._more()} if self.additional_kwargs else body

    def _more(self) -> dict[str, Any]:
        """Return the user's own fields of a body, which win over all others."""
        more = {name: value for name, value in self.additional_kwargs.items() if name not in _OPTIONS}
        extra = more.pop("extra_body", None) or {}
        return {**more, **extra}

    def _options(self) -> Mapping[str, Any]:
        more = self.additional_kwargs
        given = {ours: more[name] for name, ours in _OPTIONS.items() if name in more}
        if given.get("headers") is not None:
            given["headers"] = spelled(given["headers"])
        return {name: value for name, value in given.items() if value is not None or name == "timeout"}

    def _space(self) -> dict[str, Any]:
        space = super()._space()
        more = {name: value for name, value in space["additional_kwargs"].items() if name != "timeout"}
        return {**space, "additional_kwargs": more}

    def _answer(self, payload: Any) -> ProviderResponse:
        items, model = payload["data"], payload.get("model")
        return ProviderResponse(
            decode([item["embedding"] for item in items], self._numbers()),
            indices=positions([item.get("index") for item in items]),
            usage=token_usage(payload.get("usage"), "prompt_tokens", "total_tokens"),
            model=model if isinstance(model, str) else None,
        )

    def _numbers(self) -> str:
        """Return the type of the numbers that the server puts into base64."""
        return "float32"

    def _learn(self, body: Any, error: EmbedError) -> None:
        """Ask for vectors in base64, else as numbers, else in any form; shorten them here where the server does not."""
        known, form, answer = self._capabilities(), body.get("encoding_format"), refusal(error)
        message = answer.message.lower() if answer is not None else ""
        unknown = isinstance(error, NoVectorsError) and body["model"] not in known.proven
        if form is not None and (unknown or "encoding_format" in message or "base64" in message):
            known.lacks |= {"base64", form}  # after numbers no other server is asked for base64 again
        elif self.cuts_dimensions and "dimensions" in body and "dimension" in message:
            known.lacks |= {("dimensions", body["model"])}

    def _transport(self, endpoint: Endpoint) -> SDKTransport:
        common = {
            "timeout": self.timeout,
            "max_retries": 0,  # the engine retries; two layers would multiply
        }
        settings = {**common, **self._client_settings(endpoint)}
        settings["default_headers"] = {**settings.get("default_headers", {}), **spelled(self._headers())}
        cls, acls = self._client_classes()
        return SDKTransport(
            self._clients(partial(_client, cls, settings), partial(_aclient, acls, settings)), self.attempt_timeout
        )

    def _origin(self) -> Any:
        return replace(super()._origin(), encoding_formats=("base64",))


class OpenAIModel(OpenAIProtocol):
    """A model of OpenAI's, wherever it runs; see its subclasses."""

    accepts_blank: ClassVar[bool] = False
    normalizes: ClassVar[bool] = True
    models = KNOWN
    limits = LIMITS

    model_name: str = Field(default=next(iter(KNOWN)), kw_only=False)
    embed_batch_size: Annotated[int, OPERATIONAL] = Field(default=256, ge=1, le=2048)


def no_deployment(address: str) -> str:
    """Return an address as it is; that of a deployment in Azure is refused, because it is several settings in one.

    Raises:
        ConfigurationError: it is one; the message names the settings.
    """
    if (found := _DEPLOYMENT.fullmatch(address)) is None:
        return address
    endpoint, deployment, query = found.groups()
    named = {"azure_endpoint": endpoint, "azure_deployment": unquote(deployment)}
    if version := parse_qs(query or "").get("api-version"):
        named["api_version"] = version[0]
    settings = ", ".join(f'{name}="{value}"' for name, value in named.items())
    msg = f"the address is the whole URL of a deployment in Azure; pass `AzureOpenAIEmbedding(…, {settings})`"
    raise ConfigurationError(msg)


def _client(cls: Any, settings: Mapping[str, Any], given: Any) -> Any:
    import openai

    return cls(**settings, http_client=reading_by(take, openai.DefaultHttpxClient() if given is None else given))


def _aclient(cls: Any, settings: Mapping[str, Any], given: Any) -> Any:
    import openai

    return cls(**settings, http_client=reading_by(atake, openai.DefaultAsyncHttpxClient() if given is None else given))
