"""OpenAI's models in Azure."""

from __future__ import annotations

import inspect
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

from embed_core import OPERATIONAL
from embed_core.errors import ConfigurationError
from embed_core.provider import Address, Endpoint, Secret, address, revealed, sendable, sends_key
from pydantic import Field, PrivateAttr

from embeddings_openai._protocol import OpenAIModel, no_deployment
from embeddings_openai._transport import without_openais_headers

_VERSION = "2024-10-21"
_TOKENS = 4  # requests in flight may have older ones


class AzureOpenAIEmbedding(OpenAIModel):
    """A deployment of an OpenAI model in Azure.

    Attributes:
        model_name: the model that is deployed, which tells dimension, limits and price.
        azure_deployment: the deployment's name; by default the model's.
        azure_endpoint: `https://NAME.openai.azure.com`, by default `api_base` or `AZURE_OPENAI_ENDPOINT`.
        api_version: by default `OPENAI_API_VERSION`.
        api_key: by default `AZURE_OPENAI_API_KEY`; never part of a saved configuration.
        azure_ad_token: a Microsoft Entra token instead of a key, by default `AZURE_OPENAI_AD_TOKEN`.
        azure_ad_token_provider: returns such a token for every request.
    """

    provider: ClassVar[str | None] = "azure"
    address_variables = ("AZURE_OPENAI_ENDPOINT",)
    key_variables = ("AZURE_OPENAI_API_KEY",)

    azure_deployment: str | None = None
    azure_endpoint: Address = None
    api_version: Annotated[str | None, OPERATIONAL] = None
    azure_ad_token: Annotated[Secret | None, OPERATIONAL] = None
    azure_ad_token_provider: Annotated[Callable[[], str] | None, OPERATIONAL] = Field(
        default=None, exclude=True, repr=False
    )

    _tokens: deque[str] = PrivateAttr(default_factory=lambda: deque(maxlen=_TOKENS))

    @classmethod
    def needs_consent(cls, saved: Mapping[str, Any]) -> dict[str, str]:
        """Return that a saved address would get the user's key, where it is not the environment's."""
        own = [os.environ.get(name) for name in cls.address_variables]
        return super().needs_consent(saved) | sends_key(saved, "azure_endpoint", own)

    def _origin(self) -> Any:
        return replace(super()._origin(), provider="azure.ai.openai")

    def _endpoint_model(self) -> str:
        return self.azure_deployment or self.model_name

    def _endpoint(self) -> Endpoint:
        where = super()._endpoint()
        return replace(where, others=(*where.others, self._tokens), address_field="azure_endpoint")

    def _base_url(self) -> str:
        given = self.azure_endpoint or self.api_base or os.environ.get("AZURE_OPENAI_ENDPOINT")
        if not given:
            msg = (
                f"`{self.model_name}` in Azure needs an address; set `AZURE_OPENAI_ENDPOINT` or pass `azure_endpoint=`"
            )
            raise ConfigurationError(msg)
        return no_deployment(address(given))

    def _key(self) -> str:
        if self.azure_ad_token_provider is not None:
            return ""
        if (token := self._token()) is not None:
            return sendable(token.strip(), f"the token for `{self.model_name}`")
        return super()._key()

    def _token(self) -> str | None:
        """Return the token to use instead of a key; None where there is a key."""
        if self.api_key is not None:
            return None
        if self.azure_ad_token is not None:
            return revealed(self.azure_ad_token)
        return None if os.environ.get("AZURE_OPENAI_API_KEY") else os.environ.get("AZURE_OPENAI_AD_TOKEN")

    def _client_settings(self, where: Endpoint) -> dict[str, Any]:
        provider = self.azure_ad_token_provider
        by_token = provider is None and self._token() is not None
        return {
            "api_key": where.secret if provider is None and not by_token else None,
            "azure_ad_token": where.secret if by_token else None,
            "azure_ad_token_provider": None if provider is None else _Noted(provider, self._tokens),
            "azure_endpoint": where.base_url,
            "api_version": self.api_version or os.environ.get("OPENAI_API_VERSION") or _VERSION,
            "default_headers": without_openais_headers(),
        }

    def _client_classes(self) -> tuple[Any, Any]:
        import openai

        return openai.AzureOpenAI, openai.AsyncAzureOpenAI


@dataclass(frozen=True, slots=True)
class _Noted:
    """The user's provider of tokens, which are noted, so that messages can leave them out."""

    provider: Callable[[], Any]
    tokens: deque[str] = field(compare=False, repr=False)

    def __call__(self) -> Any:
        given = self.provider()
        return self._awaited(given) if inspect.isawaitable(given) else self._note(given)

    async def _awaited(self, given: Awaitable[Any]) -> Any:
        return self._note(await given)

    def _note(self, token: Any) -> Any:
        if isinstance(token, str) and token not in self.tokens:
            self.tokens.append(token)
        return token
