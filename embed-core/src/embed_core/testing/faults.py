"""Failures on the wire, for `FakeServer.inject`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from embed_core._types import Vectors

Items: TypeAlias = list[tuple[int, Vectors]]
"""The answer before it is encoded: each vector with the position it claims to belong to."""

Edit: TypeAlias = Callable[[Items], Items]
"""Changes an answer before it is encoded."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to answer wrongly.

    Attributes:
        status: answer with this HTTP status instead of vectors.
        body: the bytes of the answer; None leaves the regular ones.
        headers: sent beside the regular ones.
        content_type: instead of `application/json`.
        delay: seconds to wait before the answer, beside the server's own latency.
        wire: "reset" closes the connection before an answer, "cut" in the middle of the body, "hang" never answers,
            "drip" sends byte after byte with pauses.
        edit: changes the vectors and positions before they are encoded.
    """

    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    delay: float = 0.0
    wire: Literal["reset", "cut", "hang", "drip"] | None = None
    edit: Edit | None = None


def error(
    status: int, message: str, *, code: str | None = None, type_: str = "invalid_request_error", **headers: str
) -> Fault:
    """Answer an error in OpenAI's form; keyword arguments are headers with `_` for `-`."""
    body = {"error": {"message": message, "type": type_, "param": None, "code": code}}
    return Fault(
        status=status,
        body=json.dumps(body).encode(),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def rate_limited(retry_after: str | None = None, **headers: str) -> Fault:
    """Answer 429, with a `Retry-After` of seconds or an HTTP date where one is given."""
    asked = {} if retry_after is None else {"retry_after": retry_after}
    message = "Rate limit reached for requests"
    return error(429, message, code="rate_limit_exceeded", type_="requests", **asked, **headers)


def quota_exceeded() -> Fault:
    """Answer 429 `insufficient_quota`, which no waiting cures."""
    message = "You exceeded your current quota, please check your plan and billing details."
    return error(429, message, code="insufficient_quota", type_="insufficient_quota")


def server_error(status: int = 500, **headers: str) -> Fault:
    """Answer 500, or another 5xx."""
    return error(status, "The server had an error while processing your request.", type_="server_error", **headers)


def slow(seconds: float) -> Fault:
    """Answer rightly, but late."""
    return Fault(delay=seconds)


def hang() -> Fault:
    """Never answer; the connection stays open until the server stops or the client leaves."""
    return Fault(wire="hang")


def drip() -> Fault:
    """Answer rightly, but a byte at a time, so that the answer takes long though the server is never silent."""
    return Fault(wire="drip")


def reset() -> Fault:
    """Close the connection with a reset instead of an answer."""
    return Fault(wire="reset")


def cut() -> Fault:
    """Close the connection in the middle of the body."""
    return Fault(wire="cut")


def truncated_json() -> Fault:
    """Answer JSON that ends too early, with a `Content-Length` that agrees."""
    return Fault(body=b'{"object":"list","data":[{"object":"embedding","index":0,"embed')


def wrong_content_type() -> Fault:
    """Answer plain text with status 200."""
    return Fault(body=b"upstream is warming up", content_type="text/plain")


def html_page(status: int = 200) -> Fault:
    """Answer a gateway's HTML page."""
    return Fault(status=status, body=b"<html><body><h1>Bad Gateway</h1></body></html>", content_type="text/html")


def wrapped(fault: Fault) -> Fault:
    """Answer the error with status 200, as some gateways do."""
    return Fault(body=fault.body, headers=fault.headers)


def shuffled() -> Fault:
    """Answer in reverse order, each vector with its right position."""
    return Fault(edit=lambda items: items[::-1])


def missing_item() -> Fault:
    """Leave the last vector out."""
    return Fault(edit=lambda items: items[:-1])


def extra_item() -> Fault:
    """Answer one vector too many."""
    return Fault(edit=lambda items: [*items, (len(items), items[-1][1])])


def duplicate_index() -> Fault:
    """Give the last vector the first one's position."""
    return Fault(edit=lambda items: [*items[:-1], (0, items[-1][1])])


def not_a_number() -> Fault:
    """Put a NaN into the last vector."""
    return Fault(edit=lambda items: [*items[:-1], (items[-1][0], np.full_like(items[-1][1], np.nan))])


def wrong_dimension() -> Fault:
    """Make the last vector one number shorter."""
    return Fault(edit=lambda items: [*items[:-1], (items[-1][0], items[-1][1][:-1])])


def every_vector_shorter() -> Fault:
    """Answer a whole batch of another dimension."""
    return Fault(edit=lambda items: [(index, vector[:-1]) for index, vector in items])


def payload(body: Mapping[str, Any] | Sequence[Any]) -> Fault:
    """Answer any JSON with status 200."""
    return Fault(body=json.dumps(body).encode())
