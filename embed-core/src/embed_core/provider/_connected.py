"""The server of a model: its address, key, clients and flow control, settled once and again after an assignment."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr

from embed_core._base import BaseEmbedding
from embed_core._types import OPERATIONAL, Kind
from embed_core.errors import AuthenticationError, ConfigurationError, EmbeddingIntegrityError, EmbedError
from embed_core.provider._body import BYTES_OF_A_NUMBER, FLOOR, LARGEST_DIMENSION, SLOWEST, Bounds, in_force
from embed_core.provider._clients import ClientPool
from embed_core.provider._errors import Endpoint
from embed_core.provider._flow import FlowControl
from embed_core.provider._limits import Capabilities, KnownModel, Limits
from embed_core.provider._settings import Address, Headers, Secret, address, headers_of, revealed, sendable, sends_key
from embed_core.provider._transport import HTTPTransport, Reply, Transport, require_httpx

T = TypeVar("T")

_log = logging.getLogger("embed_core.provider")


@dataclass(frozen=True, slots=True)
class Server:
    """The settled facts of a model's server.

    Attributes:
        options: the user's own `headers`, `params` and `timeout` of every request.
        row_bytes: bytes that one vector may take in an answer.
    """

    endpoint: Endpoint
    transport: Transport
    flow: FlowControl
    abilities: Capabilities
    options: Mapping[str, Any] = field(default_factory=dict)
    row_bytes: int = LARGEST_DIMENSION * BYTES_OF_A_NUMBER

    def post(self, path: str, body: Any, rows: int) -> Reply:
        """Send one request for so many vectors; raise an `EmbedError` where it fails."""
        bounds = Bounds(FLOOR + rows * self.row_bytes, self.transport.attempt_timeout)
        before = in_force.set(bounds)
        try:
            reply = self.transport.post(path, body, self.options)
        except EmbedError:
            raise
        except Exception as error:
            raise self.meaning(error) from error
        finally:
            in_force.reset(before)
        if len(reply.content) > bounds.most:
            raise self._too_long(bounds)
        self.flow.observe(reply.headers)
        return reply

    async def apost(self, path: str, body: Any, rows: int) -> Reply:
        """Send one request; see `post`."""
        bounds = Bounds(FLOOR + rows * self.row_bytes)
        before = in_force.set(bounds)
        try:
            reply = await self.transport.apost(path, body, self.options)
        except EmbedError:
            raise
        except Exception as error:
            raise self.meaning(error) from error
        finally:
            in_force.reset(before)
        if len(reply.content) > bounds.most:
            raise self._too_long(bounds)
        self.flow.observe(reply.headers)
        return reply

    def transfer(self, fn: Callable[[], T], *, sent: int = 0, most: int = FLOOR) -> T:
        """Make a request about a file, within the time of an attempt and that for the bytes of the file.

        Args:
            fn: makes the request by the transport's sync client, and returns its answer.
            sent: the bytes that it sends.
            most: the bytes that the answer may have.
        """
        seconds = self.transport.attempt_timeout
        bounds = Bounds(most, None if seconds is None else seconds + sent / SLOWEST, SLOWEST)
        before = in_force.set(bounds)
        try:
            answer = fn()
        finally:
            in_force.reset(before)
        if isinstance(answer, bytes) and len(answer) > most:
            raise self._too_long(bounds)
        return answer

    def _too_long(self, bounds: Bounds) -> EmbeddingIntegrityError:
        words = f"answered more than {bounds.most >> 20} MiB, too much for what was asked"
        return EmbeddingIntegrityError(f"{self.endpoint} {words}; check `{self.endpoint.address_field}`")

    def meaning(self, error: Exception) -> EmbedError:
        """Return the error of our tree for an exception of the transport."""
        return self.endpoint.meaning(error, self.transport.connection_errors())


class Connected(BaseEmbedding):
    """A model that has a server; `APIEmbedding` documents it."""

    address: ClassVar[str | None] = None
    """The provider's own address; None where there is none, as for a server of the user's."""

    address_variables: ClassVar[tuple[str, ...]] = ()
    """The environment variables that may hold an address, the first one first."""

    key_variables: ClassVar[tuple[str, ...]] = ()
    """The environment variables that may hold the key, the first one first."""

    needs_key: ClassVar[bool] = True
    """Whether the server refuses requests without a key."""

    models: ClassVar[Mapping[str, KnownModel]] = {}
    """The models that the provider documents, the default first; any other name works too."""

    limits: ClassVar[Limits] = Limits()
    """The documented limits of one request; the others are learned."""

    error_codes: ClassVar[Mapping[str, type[EmbedError]]] = {}
    """The provider's own error codes, in lower case, where they mean something else than their HTTP status."""

    api_key: Annotated[Secret | None, OPERATIONAL] = None
    api_base: Address = None
    timeout: Annotated[float, OPERATIONAL] = Field(default=60.0, gt=0)
    attempt_timeout: Annotated[float | None, OPERATIONAL] = Field(default=600.0, gt=0)
    default_headers: Annotated[Headers | None, OPERATIONAL] = None
    http_client: Annotated[Any, OPERATIONAL] = Field(default=None, exclude=True, repr=False)
    async_http_client: Annotated[Any, OPERATIONAL] = Field(default=None, exclude=True, repr=False)

    _server: Server | None = PrivateAttr(default=None)
    _abilities: Capabilities | None = PrivateAttr(default=None)

    def __reduce__(self) -> tuple[Any, ...]:
        for name in ("http_client", "async_http_client"):
            if not _is_ours(getattr(self, name)):
                msg = f"`{name}` is a client, which cannot be pickled; give a function that makes one"
                raise ConfigurationError(msg)
        return super().__reduce__()

    @classmethod
    def needs_consent(cls, saved: Mapping[str, Any]) -> dict[str, str]:
        """Return that a saved address would get the user's key, where the address is not the user's own."""
        if not cls.needs_key and not any(name in os.environ for name in cls.key_variables):
            return {}
        return sends_key(saved, "api_base", (cls.address, *map(os.environ.get, cls.address_variables)))

    # Hooks

    def _authorization(self, key: str) -> dict[str, str]:
        """Return the headers that carry the key."""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _options(self) -> Mapping[str, Any]:
        """Return `headers`, `params` and `timeout` that the user wants for every request."""
        return {}

    def _endpoint_model(self) -> str:
        """Return the model's name at its server."""
        return self.model_name

    def _transport(self, endpoint: Endpoint) -> Transport:
        """Return the way to the server, by httpx unless overridden."""
        headers = headers_of(self._authorization(endpoint.secret), self._headers())
        clients = self._clients(partial(_httpx, "Client"), partial(_httpx, "AsyncClient"))
        return HTTPTransport(clients, self.attempt_timeout, endpoint.base_url, headers, self.timeout)

    # The server, settled

    def _settled(self) -> Server:
        """Return the server by the settings of this moment."""
        if (server := self._server) is None:
            with self._making:
                server = self._server = self._settle()
        return server

    def _settle(self) -> Server:
        self._require_in_service()
        where = self._endpoint()
        flow = FlowControl.of(where.base_url, where.secret, where.model)
        known = self._known()  # not `dimensions`: some servers ignore it and answer whole vectors
        row_bytes = ((known and known.dimension) or LARGEST_DIMENSION) * BYTES_OF_A_NUMBER
        return Server(where, self._transport(where), flow, self._capabilities(), self._options(), row_bytes)

    def _changed(self, name: str) -> None:
        super()._changed(name)
        if name in BaseEmbedding.model_fields and name != "model_name":  # of the engine, not of the server
            return
        with self._making:
            server, self._server, self._abilities = self._server, None, None
        if server is not None:
            server.transport.clients.retire()

    def _require_in_service(self) -> None:
        known = self._known()
        if known is None or known.retires is None:
            return
        instead = f"; use `{known.successor}`" if known.successor else ""
        if known.retires <= datetime.now(UTC).date():
            raise ConfigurationError(f"`{self.model_name}` was retired on {known.retires}{instead}")
        _log.warning("`%s` retires on %s%s", self.model_name, known.retires, instead)

    def _known(self) -> KnownModel | None:
        """Return the documented facts of this model."""
        return self.models.get(self.model_name)

    def _role(self, kind: Kind) -> str | None:
        """Return the API's own word for a kind of input; for a model that is not documented, that of the default."""
        known = self._known() or next(iter(self.models.values()), KnownModel())
        return known.roles.get(kind)

    def _capabilities(self) -> Capabilities:
        """Return the abilities of the server, for which no key is needed."""
        if (learned := self._abilities) is None:
            learned = self._abilities = Capabilities.of(self._base_url(), self.limits)
        return learned

    def _endpoint(self) -> Endpoint:
        variable = self.key_variables[0] if self.key_variables else ""
        others = ((*self._headers().values(), *map(str, self._options().get("headers", {}).values())),)
        return Endpoint(self._endpoint_model(), self._base_url(), self._key(), others, variable, self.error_codes)

    def _base_url(self) -> str:
        found = (os.environ.get(name) for name in self.address_variables)
        given = self.api_base or next(filter(None, found), self.address)
        if not given:
            variable = f"set `{self.address_variables[0]}` or " if self.address_variables else ""
            raise ConfigurationError(f"`{self.model_name}` needs a server; {variable}pass `api_base=`")
        return address(given)

    def _key(self) -> str:
        found = (os.environ.get(name, "").strip() for name in self.key_variables)
        key = revealed(self.api_key).strip() if self.api_key is not None else next(filter(None, found), "")
        if not key and self.needs_key:
            variable = f"set `{self.key_variables[0]}` or " if self.key_variables else ""
            msg = f"`{self.model_name}` needs an API key and there is none; {variable}pass `api_key=`"
            raise AuthenticationError(msg)
        return sendable(key, f"the key for `{self.model_name}`")

    def _headers(self) -> dict[str, str]:
        headers = (self.default_headers or {}).items()
        return {name: sendable(revealed(value), f"the header `{name}`") for name, value in headers}

    def _clients(self, make: Callable[[Any], Any], amake: Callable[[Any], Any]) -> ClientPool:
        """Return the pool of the clients that these functions make of the user's HTTP client, which may be None."""
        given, agiven = self.http_client, self.async_http_client
        return ClientPool(
            lambda: make(_made(given)), lambda: amake(_made(agiven)), owned=_is_ours(given), aowned=_is_ours(agiven)
        )

    def _origin(self) -> Any:
        origin = super()._origin()
        with suppress(ConfigurationError):  # said when it is needed
            parts = urlsplit(self._base_url())
            origin = replace(origin, address=parts.hostname, port=parts.port)
        return origin

    def _close(self) -> None:
        if (server := self._server) is not None:
            server.transport.clients.close()

    async def _aclose(self) -> None:
        if (server := self._server) is not None:
            await server.transport.clients.aclose()


def _is_ours(given: Any) -> bool:
    """Tell whether a client is ours to close: our own, or made for us by a function of the user."""
    return given is None or callable(given)


def _made(given: Any) -> Any:
    return given() if callable(given) else given


def _httpx(name: str, given: Any) -> Any:
    if given is not None:
        return given
    httpx = require_httpx()
    return getattr(httpx, name)(limits=httpx.Limits(max_connections=None, max_keepalive_connections=100))
