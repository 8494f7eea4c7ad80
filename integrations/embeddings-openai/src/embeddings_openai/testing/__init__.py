"""A fake of OpenAI's API on 127.0.0.1 for tests: real HTTP, deterministic vectors, faults on command."""

from __future__ import annotations

import json
import math
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Literal
from urllib.parse import urlsplit

from embed_core import Vectors
from embed_core.testing import FakeServer, Received, faults
from embed_core.testing.faults import Edit, Fault

from embeddings_openai.testing._batches import Batches

__all__ = ["FakeEmbeddingServer", "Limits"]


@dataclass(slots=True)
class Limits:
    """The server's limits, refused in OpenAI's words; None means no limit. Tokens are a quarter of the bytes."""

    inputs: int | None = 2048
    bytes: int | None = None
    tokens: int | None = 300_000
    input_tokens: int | None = 8192


@dataclass(slots=True)
class FakeEmbeddingServer(FakeServer):
    """Serves `/v1/embeddings`, Azure's paths and the Batch API; see `embed_core.testing.FakeServer`.

    Attributes:
        api_key: the only key that is accepted; None takes any.
        models: the only model names that are known; None knows all.
        base64: the answer where `encoding_format` is "base64": "accept", "refuse" with 400, "ignore" (floats come),
            or "empty" (no vectors come).
        dimensions: whether the `dimensions` parameter is supported.
        batches: files and batch jobs, with how those end.
        tokens_of: counts the tokens of a text, for usage and limits.
    """

    api_key: str | None = None
    models: Sequence[str] | None = None
    base64: Literal["accept", "refuse", "ignore", "empty"] = "accept"
    dimensions: bool = True
    limits: Limits = field(default_factory=Limits)
    batches: Batches = field(default_factory=Batches)
    tokens_of: Callable[[str], int] = lambda text: -(-len(text.encode()) // 4)

    @property
    def azure_endpoint(self) -> str:
        """The address that an Azure client takes."""
        return f"http://127.0.0.1:{self.port}"

    def answer(self, received: Received, edit: Edit | None) -> Fault:
        """Return the regular answer, or the refusal that the server's own limits ask for."""
        stored = self.batches.answer(received.method, received.path, received.headers, received.body, self._line)
        if stored is not None:
            return stored
        refusal = self._refusal(received)
        if refusal is not None:
            return refusal
        texts, dimensions = received.inputs, received.body.get("dimensions")
        base64 = received.body.get("encoding_format") == "base64" and self.base64 != "ignore"
        if base64 and self.base64 == "empty":
            data = []
        elif edit is None and base64:
            encode = partial(_base64, self.dimension, dimensions)
            data = [_item(index, encode(text)) for index, text in enumerate(texts)]
        else:
            form = _encoded if base64 else _listed
            items = list(enumerate(self.vectors(texts, dimensions)))
            data = [_item(index, form(one)) for index, one in (edit or list)(items)]
        tokens = sum(map(self.tokens_of, texts))
        rest = {"model": received.body.get("model"), "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
        return Fault(body=b'{"object": "list", "data": [%b], %b' % (b", ".join(data), json.dumps(rest)[1:].encode()))

    def _line(self, path: str, body: Any) -> Fault:
        """Answer one line of a batch, whose key was checked with the job."""
        return self.answer(Received("POST", path, {"api-key": self.api_key or ""}, body, 0.0), None)

    def _refusal(self, received: Received) -> Fault | None:
        key = received.headers.get("api-key") or received.headers.get("authorization", "").removeprefix("Bearer ")
        if self.api_key is not None and key != self.api_key:
            return faults.error(401, f"Incorrect API key provided: {key}.", code="invalid_api_key")
        if not urlsplit(received.path).path.endswith("/embeddings") or not isinstance(received.body, dict):
            return faults.error(404, f"Invalid URL (POST {received.path})")
        model = received.body.get("model")
        if self.models is not None and model not in self.models:
            message = f"The model `{model}` does not exist or you do not have access to it."
            return faults.error(404, message, code="model_not_found")
        if received.body.get("encoding_format") == "base64" and self.base64 == "refuse":
            return faults.error(400, "encoding_format base64 is not supported")
        if "dimensions" in received.body and not self.dimensions:
            return faults.error(400, "This model does not support specifying dimensions.")
        return self._limit(received.inputs)

    def _limit(self, texts: Sequence[str]) -> Fault | None:
        limits, tokens = self.limits, [self.tokens_of(text) for text in texts]
        if not texts or "" in texts or len(texts) > (limits.inputs or math.inf):
            return faults.error(400, "'$.input' is invalid. Please check the API reference")
        if sum(len(text.encode()) for text in texts) > (limits.bytes or math.inf):
            return faults.error(413, "Request entity too large")
        if max(tokens) > (limit := limits.input_tokens or math.inf):
            said = f"maximum context length is {limit} tokens, however you requested {max(tokens)} tokens"
            return faults.error(400, f"This model's {said}. Please reduce your prompt.")
        if sum(tokens) > (limit := limits.tokens or math.inf):
            message = f"Requested {sum(tokens)} tokens, max {limit} tokens per request"
            return faults.error(400, message, code="max_tokens_per_request", type_="max_tokens_per_request")
        return None


def _item(index: int, embedding: bytes) -> bytes:
    """Return one item of an answer as JSON, from a vector as JSON: joined, not encoded again."""
    return b'{"object": "embedding", "index": %d, "embedding": %b}' % (index, embedding)


def _listed(vector: Vectors) -> bytes:
    return json.dumps(vector.tolist()).encode()


def _encoded(vector: Vectors) -> bytes:
    return b'"%b"' % b2a_base64(vector.astype("<f4").tobytes(), newline=False)


@lru_cache(maxsize=8192)
def _base64(dimension: int, dimensions: int | None, text: str) -> bytes:
    return _encoded(FakeEmbeddingServer(dimension).vector(text, dimensions))
