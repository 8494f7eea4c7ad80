"""One image over `http(s)`, from public addresses only, within limits of size, time and redirects.

Names are resolved once; every address of a name must be public, and the connection goes to an address that was
looked at, so a name that changes its answer gains nothing. Every redirect begins anew. Proxies are not used.
"""

from __future__ import annotations

import io
import queue
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Literal
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from embed_core._images._policy import ImageUrls
from embed_core._threads import DAEMONS
from embed_core.errors import InvalidInputError

Address = IPv4Address | IPv6Address

_CHUNK = 64 * 1024
_REDIRECTS = {301, 302, 303, 307, 308}
_PUBLIC_V6 = IPv6Network("2000::/3")  # the only block given out: https://www.iana.org/assignments/ipv6-address-space
_6TO4 = IPv6Network("2002::/16")  # holds an IPv4 address, of any kind
_PORTS = {"http": 80, "https": 443}
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "embed-core"}
_SAFE = "/%:@!$&'()*+,;=~?"


def is_public(address: Address) -> bool:
    """Tell whether an address is unicast and reachable from everywhere.

    Stricter than `ipaddress.is_global`, which takes multicast, NAT64 and 6to4 for global.
    """
    if isinstance(address, IPv6Address):
        if (mapped := address.ipv4_mapped) is not None:
            return is_public(mapped)
        return address.is_global and address in _PUBLIC_V6 and address not in _6TO4
    special = address.is_multicast or address.is_reserved or address.packed[:3] == b"\xc0\0\0"  # 192.0.0.0/24
    return address.is_global and not special


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches one image; resolver, address check and clock can be exchanged for tests."""

    policy: ImageUrls
    resolve: Callable[[str, int], Sequence[str]] = resolve
    permits: Callable[[Address], bool] = is_public
    clock: Callable[[], float] = time.monotonic

    def __call__(self, url: str) -> bytes:
        """Return the content.

        Raises:
            InvalidInputError: the address is not public, or the answer is no image within the limits.
        """
        end = self.clock() + self.policy.timeout
        for _ in range(self.policy.max_redirects + 1):
            try:
                answer = self._get(url, end)
            except InvalidInputError:
                raise
            except TimeoutError as error:
                raise self._too_slow(url) from error
            except (OSError, HTTPException, ValueError) as error:
                msg = f"could not be fetched from `{_shown(url)}` ({type(error).__name__}: {error})"
                raise InvalidInputError(msg) from error
            if isinstance(answer, bytes):
                return answer
            url = answer
        msg = f"redirects more than {self.policy.max_redirects} times; pass the address it ends at"
        raise InvalidInputError(msg)

    def _get(self, url: str, end: float) -> bytes | str:
        """Return the content, or the address to go to instead."""
        parts = urlsplit(url)
        port, host = _port(parts), str(parts.hostname)
        with closing(self._connect(parts.scheme, host, port, end)) as raw:
            connection = HTTPConnection(host, port)
            connection.default_port = _PORTS[parts.scheme]  # left out of the `Host` header
            connection.sock = _TimedSocket(raw, lambda: self._left(end))
            connection.request("GET", _target(parts), headers=_HEADERS)
            with connection.getresponse() as response:
                if response.status in _REDIRECTS:
                    return urljoin(url, response.getheader("Location") or "")
                return self._body(response, url)

    def _connect(self, scheme: str, host: str, port: int, end: float) -> socket.socket:
        raw = self._reach(self._addresses(host, port, end), port, end)
        if scheme == "http":
            return raw
        with ExitStack() as failing:
            failing.callback(raw.close)
            secured = _tls().wrap_socket(raw, server_hostname=host)
            failing.pop_all()
        return secured

    def _reach(self, addresses: Sequence[str], port: int, end: float) -> socket.socket:
        *others, last = addresses
        for tried, address in enumerate(others):
            with suppress(OSError):
                return socket.create_connection((address, port), timeout=self._left(end) / (len(addresses) - tried))
        return socket.create_connection((last, port), timeout=self._left(end))

    def _addresses(self, host: str, port: int, end: float) -> Sequence[str]:
        addresses = self._resolved(host, port, end)
        refused = [one for one in addresses if not self.permits(ip_address(one.partition("%")[0]))]
        if refused or not addresses:
            msg = f"is at `{host}`, which is {', '.join(refused) or 'nowhere'}: no public address, so it is not fetched"
            raise InvalidInputError(msg)
        return addresses

    def _resolved(self, host: str, port: int, end: float) -> Sequence[str]:
        """Resolve in a thread of its own: the system's resolver knows no time limit."""
        answers: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

        def work() -> None:
            try:
                answers.put(self.resolve(host, port))
            except (OSError, ValueError) as error:  # no such host, or a name that is none
                answers.put(error)

        DAEMONS.submit(work)
        try:
            answer = answers.get(timeout=self._left(end))
        except queue.Empty as error:
            raise TimeoutError from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _body(self, response: HTTPResponse, url: str) -> bytes:
        wrong = _refusal(response, self.policy)
        if wrong:
            msg = f"is at `{_shown(url)}`, which {wrong}"
            raise InvalidInputError(msg)
        content = bytearray()
        while chunk := response.read(_CHUNK):
            content += chunk
            if len(content) > self.policy.max_bytes:
                msg = f"is at `{_shown(url)}`, which is larger than `max_bytes` of {self.policy.max_bytes}"
                raise InvalidInputError(msg)
        if response.length:
            msg = f"is at `{_shown(url)}`, which broke off {response.length} bytes before its end"
            raise InvalidInputError(msg)
        return bytes(content)

    def _left(self, end: float) -> float:
        left = end - self.clock()
        if left <= 0:
            raise TimeoutError
        return left

    def _too_slow(self, url: str) -> InvalidInputError:
        return InvalidInputError(f"did not come from `{_shown(url)}` within `timeout` of {self.policy.timeout} s")


class _TimedSocket:
    """What `http.client` needs of a socket, every wait bounded by what is left of the whole time.

    A socket's own timeout begins anew with each byte, so a server that sends one now and then could hold on for ever.
    """

    def __init__(self, raw: socket.socket, left: Callable[[], float]) -> None:
        self._raw = raw
        self._left = left

    def sendall(self, data: Any) -> None:
        self._raw.settimeout(self._left())
        self._raw.sendall(data)

    def makefile(self, mode: Literal["rb"]) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._raw, self._left))

    def close(self) -> None:
        """Do nothing: `http.client` closes it when the answer begins, its owner when the answer is read."""


class _TimedReader(io.RawIOBase):
    def __init__(self, raw: socket.socket, left: Callable[[], float]) -> None:
        self._raw = raw
        self._left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._raw.settimeout(self._left())
        return self._raw.recv_into(buffer)


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


def _target(parts: SplitResult) -> str:
    path = quote(parts.path or "/", safe=_SAFE)
    return f"{path}?{quote(parts.query, safe=_SAFE)}" if parts.query else path


def _refusal(response: HTTPResponse, policy: ImageUrls) -> str | None:
    """Return what speaks against an answer's headers."""
    if response.status != 200:
        return f"answered with status {response.status}"
    kind = response.headers.get_content_type()
    if not kind.startswith("image/"):
        return f"is `{kind}`, not an image"
    if (encoding := response.getheader("Content-Encoding", "identity")) != "identity":
        return f"is compressed as `{encoding}`, which was not asked for"
    if response.length is not None and response.length > policy.max_bytes:
        return f"is {response.length} bytes, more than `max_bytes` of {policy.max_bytes}"
    return None


def _shown(url: str) -> str:
    """Return an address without its query, which may hold a signature or a key."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0]
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
