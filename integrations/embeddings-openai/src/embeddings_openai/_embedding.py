"""OpenAI's own service."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from embed_core import OPERATIONAL, Places, Vectors, aembed, embed
from embed_core.kvstore import KVStore
from embed_core.middleware.rate_limited import RateLimited

from embeddings_openai import _models
from embeddings_openai._batch_api import Answered, Offline
from embeddings_openai._connected import Address, address, sends_key
from embeddings_openai._jobs import Jobs, Results
from embeddings_openai._openai_model import OpenAIModel

_ADDRESS = "https://api.openai.com/v1"


class OpenAIEmbedding(OpenAIModel):
    """A model of OpenAI's embeddings API.

    Vectors have unit length. The service is not bit-deterministic: two calls may differ by some 1e-4 in a number.

    Attributes:
        model_name: any name; also accepted as `model`, and as the first argument.
        dimensions: length of the vectors, for models that can shorten them; None for the model's own.
        api_key: by default `OPENAI_API_KEY`; never part of a saved configuration.
        api_base: by default `OPENAI_BASE_URL`, else OpenAI's own address.
        organization: by default `OPENAI_ORG_ID`.
        project: by default `OPENAI_PROJECT_ID`.
    """

    provider: ClassVar[str | None] = "openai"
    key_variable: ClassVar[str] = "OPENAI_API_KEY"
    inputs_per_job: ClassVar[int] = 50_000
    bytes_per_job: ClassVar[int] = 190_000_000
    """The limits of https://platform.openai.com/docs/guides/batch, with some room in the second, 200 MB."""
    batch_discount: ClassVar[float] = _models.BATCH_DISCOUNT
    """The share of the price that a job costs."""

    api_base: Address = None
    organization: Annotated[str | None, OPERATIONAL] = None
    project: Annotated[str | None, OPERATIONAL] = None

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
        """Embed texts by OpenAI's Batch API, at half the price and within a day; return shape (n, dimension).

        What the cache holds is not sent, and what a job answers is in the cache before the next job is looked at. Jobs
        go on when the process dies: keep the ids that `on_submit` is told, and give them as `job_ids` the next time.
        A job under way that holds exactly what would be sent is found without its id, in case that got lost. Texts that
        a job refuses are asked for online, to find the culprit.

        Args:
            texts: any number; a job takes 50,000.
            job_ids: jobs that were sent before; what they hold is not sent again.
            on_submit: is told the id of every new job.
            poll_seconds: how often to look whether a job is done.
            cache: a store to use in place of the model's own.
            show_progress: whether to show a bar.
        """
        places = self._by_jobs(job_ids, on_submit, poll_seconds)
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
        """Embed texts by OpenAI's Batch API; see `embed_batch_job`."""
        own = self._by_jobs(job_ids, on_submit, poll_seconds)
        return await aembed(self, "text", texts, places=own, cache=cache, show_progress=show_progress)

    def _by_jobs(
        self, job_ids: Sequence[str], on_submit: Callable[[str], object] | None, poll_seconds: float
    ) -> Places:
        """Return what sends as jobs what the cache does not hold; what a job answered is not sent again."""
        own, results = self._places(), Results(self._meter)
        limited = [RateLimited(self.rate_limiter, self._count_tokens)] if self.rate_limiter is not None else []
        offline = Offline(
            Jobs(
                client=self._settled().clients.sync,
                where=self._settled().endpoint,
                plan=lambda texts: self._requests("text", texts, _models.MAX_INPUTS),
                body=self._exchange().body,
                count_tokens=self._count_tokens,
                results=results,
            ),
            retry=self.retry,
            job_ids=tuple(job_ids),
            on_submit=on_submit,
            poll_seconds=poll_seconds,
            most_inputs=self.inputs_per_job,
            most_bytes=self.bytes_per_job,
            reserve=self._reserve_for_a_job,
        )
        return replace(own, missing=(offline,), attempt=(Answered(results), *limited, *own.attempt), limits=True)

    def _reserve_for_a_job(self, texts: Sequence[str]) -> float:
        budgeted = self._budgeted()
        return 0.0 if budgeted is None else budgeted.reserve(self._count_tokens(texts) * _models.BATCH_DISCOUNT)

    @classmethod
    def known_models(cls) -> Sequence[str]:
        """Return OpenAI's models, the default first."""
        return list(_models.KNOWN)

    @classmethod
    def needs_consent(cls, saved: Mapping[str, Any]) -> dict[str, str]:
        """Return that a saved address would get the user's key, where it is neither OpenAI's nor the environment's."""
        return sends_key(
            saved, "api_base", _ADDRESS, os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_BASE")
        )

    def _base_url(self) -> str:
        given = self.api_base or os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE")
        return address(given or _ADDRESS)

    def _client_settings(self) -> dict[str, Any]:
        return {
            "api_key": self._key(),
            "base_url": self._base_url(),
            "organization": self.organization,
            "project": self.project,
            **self._shared_settings(),
        }
