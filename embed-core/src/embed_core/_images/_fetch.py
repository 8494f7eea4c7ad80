"""One image over `http(s)`, from public addresses only, within limits of size, time and redirects.

A name is resolved once, every address of it must be public, and the connection goes to an address that was checked. So
a name that resolves to another address the next time gains nothing. Every redirect begins anew. Proxies are not used.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Literal
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from embed_core._images._limits import ImageUrls
from embed_core._threads import DAEMONS
from embed_core.errors import InvalidInputError

Address = IPv4Address | IPv6Address

_CHUNK = 64 * 1024
_REDIRECTS = {301, 302, 303, 307, 308}
_PUBLIC_V6 = IPv6Network("2000::/3")  # the only block given out: https://www.iana.org/assignments/ipv6-address-space
_OF_A_CLOUD = IPv4Address("168.63.129.16")  # Azure's host agent, which only its own machines reach
_6TO4 = IPv6Network("2002::/16")  # holds an IPv4 address, of any kind
_PORTS = {"http": 80, "https": 443}
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "embed-core"}
_SAFE = "/%:@!$&'()*+,;=~?"


def is_public(address: Address) -> bool:
    """Return whether an address is unicast and reachable from everywhere.

    Stricter than `ipaddress.is_global`, which takes multicast, NAT64 and 6to4 for global.
    """
    if isinstance(address, IPv6Address):
        if (mapped := address.ipv4_mapped) is not None:
            return is_public(mapped)
        return address.is_global and address in _PUBLIC_V6 and address not in _6TO4
    special = address.is_multicast or address.is_reserved or address.packed[:3] == b"\xc0\0\0"  # 192.0.0.0/24
    return address.is_global and not special and address != _OF_A_CLOUD


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches one image; resolver, address check and clock can be exchanged for tests."""

    limits: ImageUrls
    resolve: Callable[[str, int], Sequence[str]] = resolve
    permits: Callable[[Address], bool] = is_public
    clock: Callable[[], float] = time.monotonic

    def __call__(self, url: str) -> bytes:
        """Return the content; refuse an address that is not public, and an answer that is no image within limits."""
        end = self.clock() + self.limits.timeout
        for _ in range(self.limits.max_redirects + 1):
            try:
                answer = self._get(url, end)
            except InvalidInputError:
                raise
            except TimeoutError as error:
                msg = f"did not come from `{_shown(url)}` within `timeout` of {self.limits.timeout} s"
                raise InvalidInputError(msg) from error
            except (OSError, HTTPException, ValueError) as error:
                msg = f"could not be fetched from `{_shown(url)}` ({type(error).__name__}: {error})"
                raise InvalidInputError(msg) from error
            if isinstance(answer, bytes):
                return answer
            url = answer
        msg = f"redirects more than {self.limits.max_redirects} times; pass the address it ends at"
        raise InvalidInputError(msg)

    def _get(self, url: str, end: float) -> bytes | str:
        """Return the content, or the address of a redirect."""
        parts = urlsplit(url)
        port, host = _port(parts), str(parts.hostname)
        with closing(self._connect(parts.scheme, host, port, end)) as raw:
            connection = HTTPConnection(host, port)
            connection.default_port = _PORTS[parts.scheme]  # left out of the `Host` header
            connection.sock = _TimedSocket(raw, lambda: self._left(end))
            target = f"{parts.path or '/'}?{parts.query}".removesuffix("?")
            connection.request("GET", quote(target, safe=_SAFE), headers=_HEADERS)
            with connection.getresponse() as response:
                if response.status in _REDIRECTS:
                    return urljoin(url, response.getheader("Location") or "")
                content, reason = self._body(response)
        if reason:
            msg = f"is at `{_shown(url)}`, which {reason}"
            raise InvalidInputError(msg)
        return content

    def _connect(self, scheme: str, host: str, port: int, end: float) -> socket.socket:
        *others, last = self._addresses(host, port, end)
        for tried, address in enumerate(others):
            with suppress(OSError):
                return _open(scheme, host, (address, port), self._left(end) / (len(others) + 1 - tried))
        return _open(scheme, host, (last, port), self._left(end))

    def _addresses(self, host: str, port: int, end: float) -> Sequence[str]:
        """Resolve a name in a thread of its own: the system's resolver has no time limit."""
        found: Future[Sequence[str]] = Future()

        def work() -> None:
            try:
                found.set_result(self.resolve(host, port))
            except Exception as error:  # raised again where the result is awaited
                found.set_exception(error)

        DAEMONS.submit(work)
        addresses = found.result(self._left(end))
        refused = [address for address in addresses if not self.permits(ip_address(address.partition("%")[0]))]
        if refused or not addresses:
            msg = f"is at `{host}`, which is {', '.join(refused) or 'nowhere'}: no public address, so it is not fetched"
            raise InvalidInputError(msg)
        return addresses

    def _body(self, response: HTTPResponse) -> tuple[bytes, str | None]:
        """Return the content and, where it is refused, the reason."""
        content = bytearray()
        if reason := _refusal(response, self.limits):
            return b"", reason
        while chunk := response.read(_CHUNK):
            content += chunk
            if len(content) > self.limits.max_bytes:
                return b"", f"is larger than `max_bytes` of {self.limits.max_bytes}"
        return bytes(content), f"broke off {response.length} bytes before its end" if response.length else None

    def _left(self, end: float) -> float:
        seconds = end - self.clock()
        if seconds <= 0:
            raise TimeoutError
        return seconds


class _TimedSocket(io.RawIOBase):
    """The part of a socket that `http.client` uses, with every wait bounded by the end of the whole time.

    A socket's own timeout begins anew with each byte, so a server that sends few bytes could hold on for ever.
    """

    def __init__(self, raw: socket.socket, left: Callable[[], float]) -> None:
        self._raw = raw
        self._left = left

    def sendall(self, data: Any) -> None:
        self._raw.settimeout(self._left())
        self._raw.sendall(data)

    def makefile(self, mode: Literal["rb"]) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._raw.settimeout(self._left())
        return self._raw.recv_into(buffer)

    def close(self) -> None:
        """Do nothing: `http.client` closes it when the answer begins, its owner when the answer is read."""


def _open(scheme: str, host: str, address: tuple[str, int], timeout: float) -> socket.socket:
    raw = socket.create_connection(address, timeout=timeout)
    if scheme == "http":
        return raw
    try:
        return _tls().wrap_socket(raw, server_hostname=host)
    except BaseException:
        raw.close()
        raise


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _port(parts: SplitResult) -> int:
    if parts.scheme not in _PORTS or not parts.hostname:
        msg = f"leads to `{parts.scheme}:`, which is no web address"
        raise InvalidInputError(msg)
    if parts.username is not None or parts.password is not None:
        msg = f"is at `{parts.hostname}` with a user name in the address; fetch it yourself and pass the bytes"
        raise InvalidInputError(msg)
    return parts.port or _PORTS[parts.scheme]


def _refusal(response: HTTPResponse, limits: ImageUrls) -> str | None:
    """Return the reason to refuse an answer by its headers."""
    if response.status != 200:
        return f"answered with status {response.status}"
    kind = response.headers.get_content_type()
    if not kind.startswith("image/"):
        return f"is `{kind}`, not an image"
    if (encoding := response.getheader("Content-Encoding", "identity")) != "identity":
        return f"is compressed as `{encoding}`, which was not asked for"
    if response.length is not None and response.length > limits.max_bytes:
        return f"is {response.length} bytes, more than `max_bytes` of {limits.max_bytes}"
    return None


def _shown(url: str) -> str:
    """Return an address without its query, which may hold a signature or a key."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0]
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
