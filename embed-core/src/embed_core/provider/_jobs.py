"""Batch jobs of a provider: its API as a small codec, and the methods that a model with such jobs has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from embed_core._engine import aembed, embed
from embed_core._state import Places
from embed_core._types import Vectors
from embed_core.kvstore import KVStore
from embed_core.middleware.rate_limited import RateLimited
from embed_core.provider._api import APIEmbedding
from embed_core.provider._connected import Server
from embed_core.provider._job_api import JobAPI
from embed_core.provider._job_run import Answered, JobRun
from embed_core.provider._limits import Limits


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
        most = Limits(inputs=self.inputs_per_job, bytes=self.bytes_per_job)
        run = JobRun(
            self, server, self._job_api(server), most, self.batch_discount, tuple(job_ids), on_submit, poll_seconds
        )
        limiter = self.rate_limiter
        limited = () if limiter is None else (RateLimited(limiter, self._count_tokens, self._count_requests),)
        return replace(own, missing=(run,), attempt=(Answered(run), *limited, *own.attempt), limits=True)
