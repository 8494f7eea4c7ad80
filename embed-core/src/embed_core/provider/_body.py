"""The body of an answer, read and unpacked no further than an answer to the request can be long."""

from __future__ import annotations

import sys
import time
import zlib
from contextlib import closing
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import inf
from typing import Any

ACCEPTED = {"Accept-Encoding": "gzip"}
"""The header that asks for the one packing which is unpacked here."""

FLOOR = 8 << 20  # bytes of an answer, however few vectors it holds
BYTES_OF_A_NUMBER = 32  # a float64 in JSON has at most 25 characters
LARGEST_DIMENSION = 16_384  # where it is not known
SLOWEST = 100_000  # bytes a second of a file on its way, below which time runs out

_OF_AN_ERROR = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS  # zlib's number for this form


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of one answer.

    Attributes:
        most: bytes of an unpacked answer with vectors; a longer one is cut just behind.
        seconds: most seconds for a sync request; an async one is ended from outside.
        rate: the bytes of an answer that add a second to these.
        began: when the request was sent, by `time.monotonic()`.
    """

    most: int
    seconds: float | None = None
    rate: float = inf
    began: float = field(default_factory=time.monotonic)


in_force: ContextVar[Bounds | None] = ContextVar("bounds", default=None)


def take(response: Any) -> None:
    """Read the body of an `httpx` response within the bounds in force; the response then holds it, unpacked.

    It is a response hook where an SDK reads bodies itself. A response outside of a request of the kit is left alone.

    Raises:
        httpx.ReadTimeout: the request takes too long.
    """
    bounds = in_force.get()
    if bounds is None or response.is_stream_consumed:  # by another hook of the user's own client
        return
    library = sys.modules[type(response).__module__.partition(".")[0]]  # `httpx`, or a fork that an SDK takes
    most, content = bounds.most if response.is_success else _OF_AN_ERROR, bytearray()
    unpack = _unpacking(response.headers) if "content-encoding" in response.headers else None
    with closing(response.stream) as stream:
        for chunk in stream:
            late = time.monotonic() - bounds.began - len(content) / bounds.rate
            if bounds.seconds is not None and late > bounds.seconds:
                raise library.ReadTimeout(f"no whole answer within {bounds.seconds:g} seconds")
            room = most + 1 - len(content)
            content += chunk[:room] if unpack is None else unpack.decompress(chunk, room)
            if len(content) > most:
                break
    response.stream = library.ByteStream(bytes(content))


async def atake(response: Any) -> None:
    """Read the body of an async response; see `take`."""
    bounds = in_force.get()
    if bounds is None or response.is_stream_consumed:
        return
    library, stream = sys.modules[type(response).__module__.partition(".")[0]], response.stream
    most, content = bounds.most if response.is_success else _OF_AN_ERROR, bytearray()
    unpack = _unpacking(response.headers) if "content-encoding" in response.headers else None
    try:
        async for chunk in stream:
            room = most + 1 - len(content)
            content += chunk[:room] if unpack is None else unpack.decompress(chunk, room)
            if len(content) > most:
                break
    finally:
        await stream.aclose()
    response.stream = library.ByteStream(bytes(content))


def _unpacking(headers: Any) -> Any:
    """Return an object that unpacks piece by piece, because a few bytes can hold gigabytes; None for other forms."""
    if headers["content-encoding"].strip().lower() not in {"gzip", "x-gzip"}:
        return None
    del headers["content-encoding"]
    return zlib.decompressobj(_GZIP)
