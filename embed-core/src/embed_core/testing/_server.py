"""An OpenAI-like server on 127.0.0.1: real HTTP, deterministic vectors, faults on command."""

from __future__ import annotations

import json
import math
import threading
from binascii import b2a_base64
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import numpy as np

from embed_core._mock import hashed_unit_vector
from embed_core._types import Vectors
from embed_core.testing import faults
from embed_core.testing._batches import Batches
from embed_core.testing._http import HTTPServer, Received
from embed_core.testing.faults import Fault


@dataclass(slots=True)
class Limits:
    """What the server refuses, with OpenAI's words; None means without limit. Tokens are a quarter of the bytes."""

    inputs: int | None = 2048
    bytes: int | None = None
    tokens: int | None = 300_000
    input_tokens: int | None = 8192


@dataclass(slots=True)
class FakeEmbeddingServer:
    """Serves `/v1/embeddings` and Azure's paths; a context manager, or `start()` and `stop()`.

    The vector of a text is a unit vector made from its hash, cut and normalised again where `dimensions` are asked for.

    Attributes:
        dimension: of the vectors.
        latency: seconds from a request's arrival to its answer.
        api_key: the only key that is accepted; None takes any.
        models: the only model names that are known; None knows all.
        base64: what happens where `encoding_format` is "base64": "accept", "refuse" with 400, "ignore" (floats come),
            or "empty" (no vectors come).
        dimensions: whether the `dimensions` parameter is supported.
        headers: sent with every answer.
        batches: files and batch jobs, with how those end.
        tokens_of: counts the tokens of a text, for usage and limits.
    """

    dimension: int = 8
    latency: float = 0.0
    api_key: str | None = None
    models: Sequence[str] | None = None
    base64: Literal["accept", "refuse", "ignore", "empty"] = "accept"
    dimensions: bool = True
    limits: Limits = field(default_factory=Limits)
    headers: dict[str, str] = field(default_factory=dict)
    batches: Batches = field(default_factory=Batches)
    tokens_of: Callable[[str], int] = lambda text: -(-len(text.encode()) // 4)
    requests: list[Received] = field(default_factory=list)
    port: int = 0
    _faults: deque[Fault | None] = field(default_factory=deque)
    _rules: list[tuple[Callable[[Received], bool], Fault]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)
    _http: HTTPServer | None = None
    _thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def azure_endpoint(self) -> str:
        """What an Azure client takes as its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def vector(self, text: str, dimensions: int | None = None) -> Vectors:
        """Return the vector of shape (dimension,) that the server gives this text."""
        return _vector(text, self.dimension, dimensions)

    def vectors(self, texts: Sequence[str], dimensions: int | None = None) -> Vectors:
        """Return the vectors of several texts, of shape (n, dimension)."""
        return np.stack([self.vector(text, dimensions) for text in texts])

    def inject(self, *answers: Fault | None) -> None:
        """Answer the next requests with these faults, one each; None is a regular answer."""
        with self._lock:
            self._faults.extend(answers)

    def inject_when(self, applies: Callable[[Received], bool], fault: Fault) -> None:
        """Answer with a fault whenever the request is such."""
        with self._lock:
            self._rules.append((applies, fault))

    def heal(self) -> None:
        """Forget every injected fault."""
        with self._lock:
            self._faults.clear()
            self._rules.clear()

    def start(self) -> Self:
        """Listen, on the port of the last time if there was one."""
        self.stopping.clear()
        self._http = HTTPServer(("127.0.0.1", self.port), self)
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the port and every open connection."""
        if self._http is None or self._thread is None:
            return
        self.stopping.set()
        self._http.shutdown()
        self._thread.join()
        self._http.disconnect()
        self._http.server_close()
        self._http = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def respond(self, received: Received) -> tuple[Fault, Fault]:
        """Return the answer to a request, and the fault that it is sent with."""
        with self._lock:
            self.requests.append(received)
            number = len(self.requests)
            if self._faults:
                fault = self._faults.popleft() or Fault()
            else:
                fault = next((fault for applies, fault in self._rules if applies(received)), Fault())
        answer = self._answer(received, fault.edit) if fault.body is None else fault
        return replace(answer, headers={"x-request-id": f"req_{number}", **answer.headers}), fault

    def _answer(self, received: Received, edit: Callable[[faults.Items], faults.Items] | None) -> Fault:
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
            data = [_item(index, _base64(text, self.dimension, dimensions)) for index, text in enumerate(texts)]
        else:
            form = _encoded if base64 else _listed
            items = list(enumerate(self.vectors(texts, dimensions)))
            data = [_item(index, form(one)) for index, one in (edit or list)(items)]
        tokens = sum(map(self.tokens_of, texts))
        rest = {"model": received.body.get("model"), "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
        return Fault(body=b'{"object": "list", "data": [%b], %b' % (b", ".join(data), json.dumps(rest)[1:].encode()))

    def _line(self, path: str, body: Any) -> Fault:
        """Answer one line of a batch, whose key was checked with the job."""
        return self._answer(Received("POST", path, {"api-key": self.api_key or ""}, body, 0.0), None)

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


def _vector(text: str, dimension: int, dimensions: int | None) -> Vectors:
    full = hashed_unit_vector(text.encode(), dimension)
    if dimensions is None or dimensions >= dimension:
        return full
    cut = full[:dimensions]
    shorter: Vectors = (cut / np.linalg.norm(cut)).astype(np.float32)
    return shorter


def _listed(vector: Vectors) -> bytes:
    return json.dumps(vector.tolist()).encode()


def _encoded(vector: Vectors) -> bytes:
    return b'"%b"' % b2a_base64(vector.astype("<f4").tobytes(), newline=False)


@lru_cache(maxsize=8192)
def _base64(text: str, dimension: int, dimensions: int | None) -> bytes:
    return _encoded(_vector(text, dimension, dimensions))
