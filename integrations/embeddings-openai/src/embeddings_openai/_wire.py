"""The answer's bytes, decoded straight into float32 rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from embed_core import ProviderResponse
from embed_core.errors import EmbeddingIntegrityError, ProviderUnavailableError
from pybase64 import b64decode

from embeddings_openai._errors import Endpoint, Refusal

_FLOAT = 4
_MOST_TOKENS = 2**31  # of an account that makes sense


def decode(body: bytes, headers: Mapping[str, str], where: Endpoint) -> ProviderResponse:
    """Return the vectors with the positions they claim, and the usage.

    Raises:
        ProviderUnavailableError: the body is no JSON, as a gateway's error page or a cut answer.
        EmbedError: the body is an error in spite of its status.
        EmbeddingIntegrityError: the body is JSON, but no list of embeddings.
    """
    try:
        payload = json.loads(body)
    except ValueError as error:
        raise _no_json(body, headers, where) from error
    return read(payload, headers, where)


def read(payload: Any, headers: Mapping[str, str], where: Endpoint) -> ProviderResponse:
    """Return what a parsed answer holds; see `decode`."""
    if isinstance(payload, Mapping) and not payload.get("data") and (payload.get("error") or "message" in payload):
        raise Refusal.read(200, headers, payload).as_error(where)
    try:
        items = payload["data"]
        indices = [item.get("index", position) for position, item in enumerate(items)]
        with np.errstate(over="ignore"):  # what exceeds float32 is found out as infinite
            vectors = _rows([item["embedding"] for item in items])
        indices = [int(index) for index in indices]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        msg = f"`{where.model}` at {where.base_url} answered JSON that holds no list of embeddings ({error!r})"
        raise EmbeddingIntegrityError(msg) from error
    model = payload.get("model")
    return ProviderResponse(
        vectors,
        indices=indices,
        usage=_usage(payload.get("usage")),
        model=model if isinstance(model, str) else None,
    )


def _rows(embeddings: Sequence[Any]) -> Any:
    blobs = [_bytes(one) for one in embeddings]
    length = len(blobs[0]) if blobs else 0
    if length % _FLOAT or any(len(blob) != length for blob in blobs):
        return [np.frombuffer(blob, "<f4", count=len(blob) // _FLOAT) for blob in blobs]
    rows = np.empty((len(blobs), length // _FLOAT), dtype=np.float32)
    for row, blob in enumerate(blobs):
        rows[row] = np.frombuffer(blob, "<f4")
    return rows


def _bytes(embedding: Any) -> bytes:
    """Return a vector's float32 numbers, whichever form was sent."""
    if isinstance(embedding, str):
        return b64decode(embedding, validate=True)
    vector = np.asarray(embedding, "<f4")
    if vector.ndim != 1:
        msg = f"an embedding of shape {vector.shape}"
        raise ValueError(msg)
    return vector.tobytes()


def _usage(usage: Any) -> dict[str, int] | None:
    """Return the tokens that were counted; an account that makes no sense is none."""
    if isinstance(usage, Mapping):
        for name in ("prompt_tokens", "total_tokens"):
            with suppress(KeyError, TypeError, ValueError, OverflowError):
                if 0 < (tokens := int(usage[name])) < _MOST_TOKENS:
                    return {"tokens": tokens}
    return None


def _no_json(body: bytes, headers: Mapping[str, str], where: Endpoint) -> ProviderUnavailableError:
    kind, start = headers.get("content-type", "an unnamed type"), body[:80].decode(errors="replace")
    return ProviderUnavailableError(
        f"`{where.model}` at {where.base_url} answered {kind}, not whole JSON ({where.scrub(start)!r}); "
        "check `api_base` and any gateway in between",
        request_id=headers.get("x-request-id"),
    )
