"""Files and batch jobs of the fake server, as far as embeddings need them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, TypeAlias

from embed_core.testing import faults
from embed_core.testing.faults import Fault

Answer: TypeAlias = Callable[[str, Any], Fault]
"""Answers the request of one line: its path and its body."""


@dataclass(slots=True)
class Batches:
    """Files and jobs on the server; a job is done when it was asked for often enough.

    Attributes:
        polls: how often a job says that it is in progress before it is done.
        outcome: the last status of every job, `completed`, `failed`, `expired` or `cancelled`.
        keeps: how many lines an expired or cancelled job still finishes.
        error: the reason of a failed job: code and message.
    """

    polls: int = 0
    outcome: str = "completed"
    keeps: int = 0
    error: tuple[str, str] = ("invalid_json_line", "This line is not parseable as valid JSON.")
    files: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any, ask: Answer) -> Fault | None:
        """Return the answer to a request about files or batches; None if it is about something else."""
        parts = path.partition("?")[0].strip("/").split("/")
        parts = parts[parts.index("openai") + 1 :] if "openai" in parts else parts
        parts = parts[1:] if parts[0] == "v1" else parts
        with self._lock:
            match method, parts:
                case "POST", ["files"]:
                    return faults.payload(self._stored(_uploaded(headers, body)))
                case "GET", ["files", name, "content"] if name in self.files:
                    return Fault(body=self.files[name], content_type="application/octet-stream")
                case "POST", ["batches"]:
                    return faults.payload(self._created(body))
                case "GET", ["batches"]:
                    return faults.payload({"object": "list", "data": list(self.jobs.values())[::-1], "has_more": False})
                case "GET", ["batches", name] if name in self.jobs:
                    return faults.payload(self._polled(self.jobs[name], ask))
                case _:
                    return None

    def _stored(self, content: bytes) -> dict[str, Any]:
        name = f"file-{len(self.files) + 1}"
        self.files[name] = content
        return {"id": name, "object": "file", "bytes": len(content), "purpose": "batch", "filename": "x.jsonl"}

    def _created(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name = f"batch_{len(self.jobs) + 1}"
        lines = self.files[body["input_file_id"]].splitlines()
        counts = {"total": len(lines), "completed": 0, "failed": 0}
        job = {"id": name, "object": "batch", "status": "validating", "request_counts": counts, "polls": self.polls}
        self.jobs[name] = {**body, **job, "created_at": 0, "errors": None, "output_file_id": None}
        return self.jobs[name]

    def _polled(self, job: dict[str, Any], ask: Answer) -> dict[str, Any]:
        if job["polls"] > 0:
            job["polls"] -= 1
            job["status"] = "in_progress"
            job["request_counts"]["completed"] = job["request_counts"]["total"] // 2
        elif job["status"] in {"validating", "in_progress"}:
            self._finish(job, ask)
        return job

    def _finish(self, job: dict[str, Any], ask: Answer) -> None:
        job["status"] = self.outcome
        if self.outcome == "failed":
            code, message = self.error
            job["errors"] = {"object": "list", "data": [{"code": code, "message": message, "line": 1}]}
            return
        lines = [json.loads(line) for line in self.files[job["input_file_id"]].splitlines()]
        kept = lines if self.outcome == "completed" else lines[: self.keeps]
        results = [_result(line, ask(line["url"], line["body"])) for line in reversed(kept)]
        good = [one for one in results if one["response"]["status_code"] == 200]
        bad = [one for one in results if one["response"]["status_code"] != 200]
        bad += [_unfinished(line, self.outcome) for line in lines[len(kept) :]]
        for name, found in (("output_file_id", good), ("error_file_id", bad)):
            job[name] = self._stored(b"\n".join(json.dumps(one).encode() for one in found))["id"] if found else None
        job["request_counts"].update(completed=len(good), failed=len(bad))


def _result(line: Mapping[str, Any], answer: Fault) -> dict[str, Any]:
    response = {"status_code": answer.status, "request_id": "req", "body": json.loads(answer.body or b"{}")}
    return {"id": "batch_req", "custom_id": line["custom_id"], "response": response, "error": None}


def _unfinished(line: Mapping[str, Any], outcome: str) -> dict[str, Any]:
    error = {"code": f"batch_{outcome}", "message": "This request could not be executed."}
    return {"id": "batch_req", "custom_id": line["custom_id"], "response": None, "error": error}


def _uploaded(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the file out of a multipart form."""
    head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
    form = BytesParser(policy=HTTP).parsebytes(head + body)
    content: Any = next(part for part in form.iter_parts() if part.get_filename()).get_payload(decode=True)
    return bytes(content)
