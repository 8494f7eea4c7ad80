"""How a model reaches its server: address, key, clients, and the pace of its account."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from embed_core import OPERATIONAL, BaseEmbedding
from embed_core.errors import AuthenticationError, ConfigurationError
from pydantic import AfterValidator, Field, PrivateAttr, SecretStr

from embeddings_openai._capabilities import Capabilities, capabilities
from embeddings_openai._client import Clients
from embeddings_openai._errors import Endpoint, translated
from embeddings_openai._exchange import Answer, Body
from embeddings_openai._pace import PACES, Pace


def address(given: str) -> str:
    """Return a server's address without a slash at the end.

    Raises:
        ConfigurationError: it holds a password, which addresses show to everybody.
    """
    if "@" in urlsplit(given).netloc:
        msg = "an address must not hold a user or password, since it is shown; use `api_key` or `default_headers`"
        raise ConfigurationError(msg)
    return given.rstrip("/")


Address = Annotated[str | None, OPERATIONAL, AfterValidator(lambda given: given if given is None else address(given))]
"""A field for an address."""


def sends_key(saved: Mapping[str, Any], field: str, *own: str | None) -> dict[str, str]:
    """Return what a saved address would do with the user's key, by its field, unless it is one of the user's own."""
    given = str(saved.get(field) or "").rstrip("/")
    foreign = given and given not in {one.rstrip("/") for one in own if one}
    return {field: f"sends your key to `{given}`"} if foreign else {}


def strangers_headers() -> dict[str, Any]:
    """Return headers that take out again what the SDK adds from the environment: it is meant for OpenAI alone."""
    from openai import omit

    added = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    names = (line.partition(":")[0].strip() for line in added)
    return dict.fromkeys(("OpenAI-Organization", "OpenAI-Project", *names), omit)


def sendable(value: str, what: str) -> str:
    """Refuse what no header can hold here, because the HTTP library would show it."""
    if not (value.isascii() and value.isprintable()):
        msg = f"{what} holds a line break or another character that no header can hold; check where it comes from"
        raise ConfigurationError(msg)
    return value


def _is_ours(given: Any) -> bool:
    """Tell whether a transport is ours to close: the SDK's, or what a function of the user makes for us."""
    return given is None or callable(given)


def _made(given: Any) -> Any:
    return given() if callable(given) else given


@dataclass(frozen=True, slots=True)
class Server:
    """What a model has found out once about where its requests go: whom it asks, how fast, by which clients."""

    endpoint: Endpoint
    pace: Pace
    clients: Clients


class Connected(BaseEmbedding):
    """A model behind a server; `OpenAILike` documents the fields."""

    key_variable: ClassVar[str]
    """The environment variable that holds the key."""

    api_key: Annotated[SecretStr | None, OPERATIONAL] = None
    timeout: Annotated[float, OPERATIONAL] = Field(default=60.0, gt=0)
    default_headers: Annotated[dict[str, SecretStr] | None, OPERATIONAL] = None
    http_client: Annotated[Any, OPERATIONAL] = Field(default=None, exclude=True, repr=False)
    async_http_client: Annotated[Any, OPERATIONAL] = Field(default=None, exclude=True, repr=False)

    _server: Server | None = PrivateAttr(default=None)
    _known: Capabilities | None = PrivateAttr(default=None)

    def __reduce__(self) -> tuple[Any, ...]:
        for name in ("http_client", "async_http_client"):
            if not _is_ours(getattr(self, name)):
                msg = f"`{name}` is a client, which cannot be pickled; give a function that makes one"
                raise ConfigurationError(msg)
        return super().__reduce__()

    # Where it goes

    @abstractmethod
    def _base_url(self) -> str:
        """Return the server's address, without a slash at the end."""

    @abstractmethod
    def _client_settings(self) -> dict[str, Any]:
        """Return what the SDK's client is made with."""

    def _client_classes(self) -> tuple[Any, Any]:
        """Return the SDK's sync and async client."""
        import openai

        return openai.OpenAI, openai.AsyncOpenAI

    def _origin(self) -> Any:
        origin = super()._origin()
        with suppress(ConfigurationError):  # said when it is needed
            parts = urlsplit(self._base_url())
            origin = replace(origin, address=parts.hostname, port=parts.port, encoding_formats=("base64",))
        return origin

    def _endpoint_model(self) -> str:
        return self.model_name

    def _settled(self) -> Server:
        """Return where requests go by the settings of this moment; a forked child has clients of its own."""
        server = self._server
        if server is None or server.clients.pid != os.getpid():
            with self._making:
                server = self._server = self._settle()
        return server

    def _settle(self) -> Server:
        where, settings = self._endpoint(), self._client_settings()
        (cls, acls), given, agiven = self._client_classes(), self.http_client, self.async_http_client
        clients = Clients(
            os.getpid(),
            lambda: cls(**settings, http_client=_made(given)),
            lambda: acls(**settings, http_client=_made(agiven)),
            _is_ours(given),
            _is_ours(agiven),
        )
        return Server(where, PACES.of(where.base_url, where.secret, where.model), clients)

    def _changed(self, name: str) -> None:
        super()._changed(name)
        with self._making:
            server, self._server, self._known = self._server, None, None
        if server is not None and server.clients.pid == os.getpid():
            server.clients.retire()

    def _endpoint(self) -> Endpoint:
        headers = tuple(self._headers().values())
        return Endpoint(self._endpoint_model(), self._base_url(), self._key(), headers, self.key_variable)

    def _capabilities(self) -> Capabilities:
        if self._known is None:
            self._known = capabilities(self._base_url())
        return self._known

    def _key(self) -> str:
        key = self.api_key.get_secret_value() if self.api_key is not None else os.environ.get(self.key_variable, "")
        if not key.strip():
            msg = (
                f"`{self.model_name}` needs an API key and there is none; set `{self.key_variable}` or pass `api_key=`"
            )
            raise AuthenticationError(msg)
        return sendable(key.strip(), f"the key for `{self.model_name}`")

    # One request

    def _post(self, body: Body) -> Answer:
        server = self._settled()
        with translated(server.endpoint):
            import openai

            with server.clients.sync() as client:
                response = client.post("/embeddings", body=body, cast_to=openai.HttpxBinaryResponseContent)
            server.pace.observe(response.response.headers)
            return response.content, response.response.headers

    async def _apost(self, body: Body) -> Answer:
        server = self._settled()
        with translated(server.endpoint):
            import openai

            with await server.clients.current() as client:
                response = await client.post("/embeddings", body=body, cast_to=openai.HttpxBinaryResponseContent)
            server.pace.observe(response.response.headers)
            return response.content, response.response.headers

    # Clients

    def _shared_settings(self, headers: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return {
            "timeout": self.timeout,
            "max_retries": 0,  # the engine retries; two layers would multiply
            "default_headers": {**(headers or {}), **self._headers()},
        }

    def _headers(self) -> dict[str, str]:
        return {
            name: sendable(value.get_secret_value(), f"the header `{name}`")
            for name, value in (self.default_headers or {}).items()
        }

    def _close(self) -> None:
        if (server := self._server) is not None and server.clients.pid == os.getpid():
            server.clients.close()

    async def _aclose(self) -> None:
        if (server := self._server) is not None and server.clients.pid == os.getpid():
            await server.clients.aclose()
