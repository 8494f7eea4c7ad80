"""A server on 127.0.0.1: real HTTP, and faults on command; a provider's fake server answers on it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from embed_core._mock import hashed_unit_vector
from embed_core._types import Vectors
from embed_core.testing._http import HTTPServer, Received
from embed_core.testing.faults import Edit, Fault


@dataclass(slots=True)
class FakeServer(ABC):
    """Answers requests; a context manager, or `start()` and `stop()`. A subclass writes `answer`.

    The vector of a text is a unit vector made from its hash, cut and normalised again where `dimensions` are asked for.

    Attributes:
        dimension: of the vectors.
        latency: seconds from a request's arrival to its answer.
        headers: sent with every answer.
        requests: the requests so far.
    """

    dimension: int = 8
    latency: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[Received] = field(default_factory=list)
    port: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)
    _faults: deque[Fault | None] = field(default_factory=deque)
    _rules: list[tuple[Callable[[Received], bool], Fault]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _http: HTTPServer | None = None
    _thread: threading.Thread | None = None

    @abstractmethod
    def answer(self, received: Received, edit: Edit | None) -> Fault:
        """Return the regular answer, or the refusal that the server's own limits ask for.

        Args:
            received: the request.
            edit: changes the vectors and positions before they are encoded, where a fault wants that.
        """

    @property
    def base_url(self) -> str:
        """The address that a client takes."""
        return f"http://127.0.0.1:{self.port}/v1"

    def vector(self, text: str, dimensions: int | None = None) -> Vectors:
        """Return the vector of shape (dimension,) that the server gives this text."""
        full = hashed_unit_vector(text.encode(), self.dimension)
        if dimensions is None or dimensions >= self.dimension:
            return full
        cut = full[:dimensions]
        shorter: Vectors = (cut / np.linalg.norm(cut)).astype(np.float32)
        return shorter

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
        answer = self.answer(received, fault.edit) if fault.body is None else fault
        return replace(answer, headers={"x-request-id": f"req_{number}", **answer.headers}), fault
