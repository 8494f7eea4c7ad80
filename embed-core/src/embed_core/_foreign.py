"""The meaning of an exception of any HTTP client or SDK, without importing one of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from embed_core._headers import retry_after
from embed_core.errors import (
    AuthenticationError,
    ProviderError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
)

_READ = 1000  # characters
_QUOTA = "insufficient_quota"
_NAMES: tuple[tuple[type[ProviderError], re.Pattern[str]], ...] = (
    (ProviderTimeoutError, re.compile("timeout|deadlineexceeded")),
    (RateLimitError, re.compile("throttl|toomanyrequests|ratelimit|resourceexhausted")),
    (
        ProviderUnavailableError,
        re.compile(
            "connect|transporterror|protocolerror|networkerror|incompleteread|remotedisconnected|chunkedencoding"
            "|payloaderror|maxretry|unavailable|gaierror|httpclienterror|urlerror"
        ),
    ),
)
"""Words in the names of exceptions: of httpx, requests, urllib3, aiohttp, botocore, Google's clients and Python."""


def translate(
    error: Exception, model: str, indices: Sequence[int] = (), clean: Callable[[str], str] = str
) -> ProviderError:
    """Return the error of our tree for a foreign exception.

    Integrations translate their client's errors themselves; this covers exceptions of any client.
    """
    response: Any = getattr(error, "response", None)
    aws: Mapping[str, Any] = response if isinstance(response, Mapping) else {}
    metadata = aws.get("ResponseMetadata", {})
    said = getattr(error, "status", None)
    code = None if isinstance(said, int) else getattr(error, "code", None)  # aiohttp deprecates its own
    statuses = getattr(error, "status_code", None), said, code, getattr(response, "status_code", None)
    status = next(filter(_is_status, (*statuses, metadata.get("HTTPStatusCode"))), None)
    headers = getattr(error, "headers", None) or getattr(response, "headers", None) or metadata.get("HTTPHeaders") or {}
    names = [name.__name__ for name in type(error).__mro__]
    names += [str(aws.get("Error", {}).get("Code", "")), str(getattr(_called(code), "name", ""))]
    kind = _by_status(status) or _by_name(" ".join(names).lower().replace("_", ""))
    if kind is RateLimitError and code == _QUOTA:
        kind = QuotaExceededError
    message = f"`{model}` failed with {type(error).__name__}: {error}"
    asked = retry_after(headers, str(error)[:_READ]) if kind.retryable else None
    return kind(clean(message), indices=indices, status_code=None if status is None else int(status), retry_after=asked)


def _is_status(one: Any) -> bool:
    return isinstance(one, int) and 100 <= one < 600


def _by_status(status: int | None) -> type[ProviderError] | None:
    if status is None or status < 400:
        return None
    if status in {401, 403}:
        return AuthenticationError
    named = {402: QuotaExceededError, 408: ProviderTimeoutError, 409: ProviderUnavailableError, 429: RateLimitError}
    return named.get(status) or (ProviderUnavailableError if status >= 500 and status != 501 else None)


def _by_name(names: str) -> type[ProviderError]:
    return next((kind for kind, words in _NAMES if words.search(names)), ProviderError)


def _called(code: Any) -> Any:
    """Return the code of an exception of gRPC, where it is a method."""
    return code() if callable(code) else code
