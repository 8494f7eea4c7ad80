"""OpenAI's Batch API, one call each; see https://platform.openai.com/docs/guides/batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote

from embed_core.provider import ACCEPTED, Job, JobAPI

from embeddings_openai._transport import OWN

_ENDPOINT = "/v1/embeddings"
_OPTIONS = {**OWN, "headers": ACCEPTED}
_STARTED = {"validating", "in_progress", "finalizing"}
_CROWDED = "token_limit_exceeded"
_DIGEST = "embeddings_openai_sha256"
"""The name under which a job keeps the digest of its file: an answer that was lost would have told the job's id."""


@dataclass(frozen=True, slots=True)
class BatchAPI(JobAPI):
    """The jobs of one account, asked for by the SDK's plain requests: only those can forbid redirects.

    Attributes:
        client: lends the SDK's client.
    """

    client: Callable[[], AbstractContextManager[Any]]

    def upload(self, file: BinaryIO) -> str:
        """Return the id of a new file."""
        from openai.types import FileObject

        with self.client() as client:
            stored = client.post(
                "/files",
                body={"purpose": "batch"},
                files=[("file", ("embeddings.jsonl", file))],
                options={**OWN, "headers": {**ACCEPTED, "Content-Type": "multipart/form-data"}},
                cast_to=FileObject,
            )
            return str(stored.id)

    def create(self, file_id: str, digest: str) -> str:
        """Start a job, unless one that asks for the same was started but its id got lost; return the id."""
        from openai.pagination import SyncCursorPage
        from openai.types import Batch

        latest = {**_OPTIONS, "params": {"limit": 100}}
        with self.client() as client:
            for job in client.get("/batches", options=latest, cast_to=SyncCursorPage[Batch]).data:
                lost = job.status in _STARTED and (job.metadata or {}).get(_DIGEST) == digest
                if lost or job.input_file_id == file_id:
                    return str(job.id)
            wanted = {
                "input_file_id": file_id,
                "endpoint": _ENDPOINT,
                "completion_window": "24h",
                "metadata": {_DIGEST: digest},
            }
            return str(client.post("/batches", body=wanted, options=_OPTIONS, cast_to=Batch).id)

    def retrieve(self, job_id: str) -> Job:
        """Return the state of a job."""
        from openai.types import Batch

        with self.client() as client:
            job = client.get(f"/batches/{quote(job_id, safe='')}", options=_OPTIONS, cast_to=Batch)
        counts, errors = job.request_counts, (job.errors and job.errors.data) or []
        return Job(
            job.id,
            job.input_file_id,
            [file for file in (job.output_file_id, job.error_file_id) if file is not None],
            "running" if job.status in _STARTED | {"cancelling"} else job.status,
            counts.completed / counts.total if counts is not None and counts.total else 0.0,
            "; ".join(f"{one.code}: {one.message}" for one in errors),
            job.status == "failed" and any(one.code == _CROWDED for one in errors),
        )

    def content(self, file_id: str) -> bytes:
        """Return the lines of a file."""
        from openai import HttpxBinaryResponseContent

        path = f"/files/{quote(file_id, safe='')}/content"
        with self.client() as client:
            return bytes(client.get(path, options=_OPTIONS, cast_to=HttpxBinaryResponseContent).content)

    def line(self, number: str, body: Any) -> Mapping[str, Any]:
        """Return the line for a request."""
        return {"custom_id": number, "method": "POST", "url": _ENDPOINT, "body": body}
