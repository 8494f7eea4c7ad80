"""The way of one request to a server and back, by httpx unless an integration brings a transport of its own."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from embed_core.errors import IntegrationNotInstalledError
from embed_core.provider._body import ACCEPTED, atake, take
from embed_core.provider._clients import ClientPool
from embed_core.provider._settings import headers_of


class Reply(NamedTuple):
    """The body and headers of an answer; header names are in lower case, or found in any case."""

    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Transport(ABC):
    """Carries requests to one server.

    It raises the exceptions of its library, those for a refused request with a `response`; `Endpoint.meaning` turns
    them into errors of ours. It reads answers by `take` and `atake`, which end a sync request and cut long answers.

    Attributes:
        clients: the library's clients.
        attempt_timeout: most seconds for one request, also while its body arrives; None for no limit. Of a sync caller
            httpx measures `timeout` alone until the headers are whole.
    """

    clients: ClientPool
    attempt_timeout: float | None

    @abstractmethod
    def post(self, path: str, body: Any, options: Mapping[str, Any]) -> Reply:
        """Send a JSON body; `options` are the user's own `headers`, `params` and `timeout` for every request."""

    @abstractmethod
    async def apost(self, path: str, body: Any, options: Mapping[str, Any]) -> Reply:
        """Send a JSON body; see `post`."""

    @abstractmethod
    def connection_errors(self) -> tuple[type[Exception], ...]:
        """Return the exceptions that mean that there was no answer."""


@dataclass(frozen=True, slots=True)
class HTTPTransport(Transport):
    """Carries requests by httpx.

    Redirects are not followed, because headers with keys would go along.

    Attributes:
        base_url: the server's address, without a slash at the end.
        headers: sent with every request.
        timeout: seconds without a sign of life from the server.
    """

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    timeout: float

    def post(self, path: str, body: Any, options: Mapping[str, Any]) -> Reply:
        with self.clients.shared() as client, client.stream(**self._asked(path, body, options)) as response:
            take(response)
            content = response.read()
        response.raise_for_status()
        return Reply(content, response.headers)

    async def apost(self, path: str, body: Any, options: Mapping[str, Any]) -> Reply:
        asked = self._asked(path, body, options)
        async with (
            self.clients.lease() as client,
            asyncio.timeout(self.attempt_timeout),
            client.stream(**asked) as response,
        ):
            await atake(response)
            content = await response.aread()
        response.raise_for_status()
        return Reply(content, response.headers)

    def send(self, method: str, path: str, **options: Any) -> Any:
        """Return the response to any other request, as batch APIs have them; `options` are those of httpx."""
        asked = self._asked(path, None, options) | {"method": method}
        with self.clients.shared() as client, client.stream(**asked) as response:
            take(response)
            response.read()
        response.raise_for_status()
        return response

    def connection_errors(self) -> tuple[type[Exception], ...]:
        httpx = require_httpx()
        return httpx.TransportError, httpx.InvalidURL

    def _asked(self, path: str, body: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        headers = headers_of(self.headers, options.get("headers", {}), ACCEPTED)
        asked = {"method": "POST", "url": self.base_url + path, "timeout": self.timeout, "follow_redirects": False}
        return {**asked, **({} if body is None else {"json": body}), **options, "headers": headers}


def require_httpx() -> Any:
    """Return the library, which is imported on first use.

    Raises:
        IntegrationNotInstalledError: it is not installed.
    """
    try:
        import httpx
    except ImportError as error:
        raise IntegrationNotInstalledError("this model needs httpx; run `pip install 'embed-core[http]'`") from error
    return httpx
