"""Real HTTP on 127.0.0.1, with the ways in which a connection can go wrong."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from embed_core.testing.faults import Fault

_PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Received:
    """One request the server got.

    Attributes:
        path: with the query string.
        headers: names in lower case.
        body: the JSON, or the raw bytes where it is none.
        at: `time.monotonic()` when it had arrived.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    at: float

    @property
    def inputs(self) -> list[str]:
        """The texts to embed."""
        given = self.body.get("input", []) if isinstance(self.body, dict) else []
        return [given] if isinstance(given, str) else given


class Owner(Protocol):
    """The fake that answers the requests of an `HTTPServer`."""

    latency: float
    headers: dict[str, str]
    stopping: threading.Event

    def respond(self, received: Received) -> tuple[Fault, Fault]:
        """Return the answer, and the fault to give it with."""
        ...


class HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: Owner) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def disconnect(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # already gone
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that leave early are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: HTTPServer

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        arrived, owner = time.monotonic(), self.server.owner
        headers = {name.lower(): ", ".join(self.headers.get_all(name) or ()) for name in self.headers}
        received = Received(self.command, self.path, headers, _parsed(raw), arrived)
        answer, fault = owner.respond(received)
        until = arrived + owner.latency + fault.delay
        if fault.wire == "hang":
            owner.stopping.wait()
        elif (left := until - time.monotonic()) > 0:
            owner.stopping.wait(left)
        if fault.wire in {"hang", "reset"} or owner.stopping.is_set():
            return self._reset()
        return self._send(answer, fault)

    def _send(self, answer: Fault, fault: Fault) -> None:
        body = answer.body or b""
        self.send_response(answer.status)
        for name, value in {**self.server.owner.headers, **answer.headers, **fault.headers}.items():
            self.send_header(name, value)
        self.send_header("content-type", answer.content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        sent = body[: len(body) // 2] if fault.wire == "cut" else body
        step = 1 if fault.wire == "drip" else len(sent) or 1
        for start in range(0, len(sent), step):
            self.wfile.write(sent[start : start + step])
            self.wfile.flush()
            if fault.wire == "drip" and self.server.owner.stopping.wait(_PAUSE_SECONDS):
                return self._reset()
        if fault.wire == "cut":
            self._reset()
        return None

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw
