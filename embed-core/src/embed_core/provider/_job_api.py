"""A provider's batch API, one call each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO


@dataclass(frozen=True, slots=True)
class Job:
    """The state of a batch job.

    Attributes:
        requests: the id of the file that holds its requests.
        answers: the ids of the files that hold its answers so far.
        state: "running", "completed", or the provider's own word for another end.
        share: how much of it is done, 0 to 1.
        reasons: the provider's words on a failure.
        crowded: whether it was refused only because too many tokens are waiting already.
    """

    id: str
    requests: str
    answers: Sequence[str] = ()
    state: str = "running"
    share: float = 0.0
    reasons: str = ""
    crowded: bool = False


class JobAPI(ABC):
    """A provider's batch API, one call each; its calls raise the exceptions of the transport.

    The form of the lines in its files is OpenAI's, which most providers share, unless overridden.
    """

    @abstractmethod
    def upload(self, file: BinaryIO) -> str:
        """Return the id of a new file of JSON lines."""

    @abstractmethod
    def create(self, file_id: str, digest: str) -> str:
        """Start a job, unless one with this file or digest was started but its id got lost; return the id."""

    @abstractmethod
    def retrieve(self, job_id: str) -> Job:
        """Return the state of a job."""

    @abstractmethod
    def content(self, file_id: str) -> bytes:
        """Return the lines of a file."""

    def line(self, number: str, body: Any) -> Mapping[str, Any]:
        """Return the line for a request."""
        return {"custom_id": number, "body": body}

    def request(self, line: Any) -> tuple[str, Any]:
        """Return the number and the body of a request in a line."""
        return line["custom_id"], line["body"]

    def texts(self, body: Any) -> list[str]:
        """Return the texts in the body of a request."""
        found: list[str] = body["input"]
        return found

    def answer(self, line: Any) -> tuple[str, int | None, Any]:
        """Return the number, HTTP status and payload of an answer; no status and a reason where there is none."""
        if (response := line.get("response")) is None:
            return line["custom_id"], None, (line.get("error") or {}).get("message")
        return line["custom_id"], response["status_code"], response["body"]
