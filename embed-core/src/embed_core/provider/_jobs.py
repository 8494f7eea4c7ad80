"""Batch jobs of a provider: its API as a small codec, and the methods that a model with such jobs has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, ClassVar

from embed_core._engine import aembed, embed
from embed_core._state import Places
from embed_core._types import Vectors
from embed_core.kvstore import KVStore
from embed_core.middleware.rate_limited import RateLimited
from embed_core.provider._api import APIEmbedding
from embed_core.provider._connected import Server
from embed_core.provider._job_run import Answered, JobRun


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


class BatchJobs(APIEmbedding):
    """A model that embeds texts by batch jobs too."""

    inputs_per_job: ClassVar[int] = 50_000
    bytes_per_job: ClassVar[int] = 190_000_000
    batch_discount: ClassVar[float] = 0.5
    """The share of the price that a job costs."""

    @abstractmethod
    def _job_api(self, server: Server) -> JobAPI:
        """Return the provider's batch API."""

    def embed_batch_job(
        self,
        texts: Iterable[str],
        *,
        job_ids: Sequence[str] = (),
        on_submit: Callable[[str], object] | None = None,
        poll_seconds: float = 30.0,
        cache: KVStore | None = None,
        show_progress: bool = False,
    ) -> Vectors:
        """Embed texts by the provider's batch jobs, for less money and within a day; return shape (n, dimension).

        Texts that the cache holds are not sent, and the answers of a job are in the cache before the next job is looked
        at. Jobs go on when the process dies: keep the ids that `on_submit` is told, and give them as `job_ids` the next
        time. A running job that holds exactly the texts to send is found without its id, in case that got lost. Texts
        that a job refuses are asked for online, to find the culprit.

        Args:
            texts: any number of them.
            job_ids: earlier jobs; their texts are not sent again.
            on_submit: is told the id of every new job.
            poll_seconds: how often to look whether a job is done.
            cache: a store to use in place of the model's own.
            show_progress: whether to show a bar.
        """
        places = self._job_places(job_ids, on_submit, poll_seconds)
        return embed(self, "text", texts, places=places, cache=cache, show_progress=show_progress)

    async def aembed_batch_job(
        self,
        texts: Iterable[str],
        *,
        job_ids: Sequence[str] = (),
        on_submit: Callable[[str], object] | None = None,
        poll_seconds: float = 30.0,
        cache: KVStore | None = None,
        show_progress: bool = False,
    ) -> Vectors:
        """Embed texts by the provider's batch jobs; see `embed_batch_job`."""
        places = self._job_places(job_ids, on_submit, poll_seconds)
        return await aembed(self, "text", texts, places=places, cache=cache, show_progress=show_progress)

    def _job_places(
        self, job_ids: Sequence[str], on_submit: Callable[[str], object] | None, poll_seconds: float
    ) -> Places:
        """Return the middleware that sends missing texts as jobs; the answer of a job is not sent again."""
        own, server = self._places(), self._settled()
        run = JobRun(self, server, self._job_api(server), tuple(job_ids), on_submit, poll_seconds)
        limiter = self.rate_limiter
        limited = () if limiter is None else (RateLimited(limiter, self._count_tokens, self._count_requests),)
        return replace(own, missing=(run,), attempt=(Answered(run), *limited, *own.attempt), limits=True)
