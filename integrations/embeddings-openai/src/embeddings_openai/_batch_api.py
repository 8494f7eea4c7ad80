"""Texts nobody waits for, by OpenAI's Batch API: half the price, within a day."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from embed_core import Request, Result, RetryPolicy, Vectors
from embed_core.errors import EmbedError, ProviderError
from embed_core.middleware.retried import Retried

from embeddings_openai._errors import translated
from embeddings_openai._jobs import RUNNING, Jobs, Results, is_crowded_out

T = TypeVar("T")
Onward = Callable[[Request], Awaitable[Vectors]]

_MOST_REFUSALS = 20


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers from the results what is there; only what a job could not do because of its input is asked online."""

    results: Results

    async def __call__(self, request: Request, onward: Onward, io: Any) -> Any:
        vectors, failures = self.results.vectors, self.results.failures
        if all(text in vectors for text in request.inputs):
            return [vectors[text] for text in request.inputs]
        if (reason := next((failures[text] for text in request.inputs if text in failures), None)) is not None:
            raise type(reason)(str(reason))
        return await onward(request)


@dataclass(frozen=True, slots=True)
class Offline:
    """Sends everything it gets as jobs, waits for them, and passes on what each of them answered.

    Attributes:
        api: calls the Batch API.
        job_ids: jobs sent before, which are asked first.
        on_submit: is told the id of every new job.
        poll_seconds: how often a job is looked at.
        most_inputs: how many texts a job takes.
        most_bytes: how large its file may be.
        reserve: sets the tokens of a new job aside and returns them, or raises where they would cost too much.
    """

    api: Jobs
    retry: RetryPolicy
    job_ids: Sequence[str]
    on_submit: Callable[[str], object] | None
    poll_seconds: float
    most_inputs: int
    most_bytes: int
    reserve: Callable[[Sequence[str]], float]

    async def __call__(self, request: Request, onward: Any, io: Any) -> Result:
        result, kept = Result(len(request.inputs)), self.api.results
        try:
            await self._work_off(request, onward, io, await self._jobs(request, io), result)
        except EmbedError as error:
            result.fail([row for row in range(len(request.inputs)) if result.is_open(row)], error)
        finally:
            for job_id in tuple(kept.reserved):
                kept.release(job_id)
        return result

    async def _jobs(self, request: Request, io: Any) -> deque[tuple[str, list[str]]]:
        """Return the jobs that hold the inputs, with those of each; new ones for what no earlier one holds."""
        wanted = dict.fromkeys(request.inputs)
        jobs: deque[tuple[str, list[str]]] = deque()
        for job_id in self.job_ids:
            there = await self._earlier(request, io, job_id)
            if texts := [text for text in dict.fromkeys(there) if text in wanted]:
                jobs.append((job_id, texts))
                for text in texts:
                    del wanted[text]
        for texts in self._files(list(wanted)):
            job = await self._submit(request, io, texts), texts
            jobs.append(job)
        return jobs

    async def _earlier(self, request: Request, io: Any, job_id: str) -> list[str]:
        """Return the texts of a job that was sent before."""
        try:
            return await self._call(request, io, partial(self.api.texts_of, job_id))
        except ProviderError as error:
            if error.status_code != 404:
                raise
            model = self.api.where.model
            msg = f"`{model}`: the job `{job_id}` or its file is gone, or not open to this key; leave it out"
            raise ProviderError(msg, status_code=404, request_id=error.request_id) from error

    async def _work_off(
        self, request: Request, onward: Any, io: Any, jobs: deque[tuple[str, list[str]]], result: Result
    ) -> None:
        refused = 0
        while jobs:
            job_id, texts = jobs.popleft()
            job = await self._finished(request, io, job_id, texts)
            if is_crowded_out(job) and refused < _MOST_REFUSALS:
                refused += 1
                self.api.results.release(job_id)
                await io.sleep(self.poll_seconds if not jobs else 0)
                jobs.append((await self._submit(request, io, texts), texts))
                continue
            await self._call(request, io, partial(self.api.read, job, texts))
            self.api.results.release(job_id)
            undone = self._undone(texts) if job_id in self.job_ids else []
            await self._place(request, onward, set(texts).difference(undone), result)
            if result.failed and not request.keep_going:
                return
            if undone:
                jobs.append((await self._submit(request, io, undone), undone))

    def _undone(self, texts: Sequence[str]) -> list[str]:
        """Return what a job did not get to; an answer that makes no sense is another thing."""
        failures = self.api.results.failures
        return [text for text in texts if isinstance(failures.get(text), ProviderError)]

    async def _place(self, request: Request, onward: Any, texts: set[str], result: Result) -> None:
        """Pass on what one job answered, so that it is in the cache before the next one is looked at."""
        rows = [row for row, text in enumerate(request.inputs) if text in texts and result.is_open(row)]
        vectors, inputs = self.api.results.vectors, request.inputs
        there = [row for row in rows if inputs[row] in vectors]
        for part in (there, [row for row in rows if inputs[row] not in vectors]):  # what is paid for is placed first
            if part:
                result.place(part, await onward(request.pick(part)))
        self.api.results.vectors.clear()
        self.api.results.failures.clear()

    async def _submit(self, request: Request, io: Any, texts: Sequence[str]) -> str:
        aside = self.reserve(texts)
        try:
            file = await self._call(request, io, partial(self.api.upload, texts))
            job_id = await self._call(request, io, partial(self.api.create, *file))
        except BaseException:
            self.api.results.meter.release(aside)
            raise
        self.api.results.reserved[job_id] = aside
        if self.on_submit is not None:
            self.on_submit(job_id)
        return job_id

    async def _finished(self, request: Request, io: Any, job_id: str, texts: Sequence[str]) -> Any:
        shown = 0
        try:
            while (job := await self._call(request, io, partial(self.api.retrieve, job_id))).status in RUNNING:
                counts = job.request_counts
                now = len(texts) * counts.completed // counts.total if counts is not None and counts.total else 0
                request.progress.advance(now - shown)
                shown = now
                await io.sleep(self.poll_seconds)
        finally:
            request.progress.advance(-shown)  # they count once more when they are placed
        return job

    async def _call(self, request: Request, io: Any, fn: Callable[[], T]) -> T:
        """Do something with the API, as often as the retry policy allows; a job may run for a day."""

        async def attempt(_: Request) -> Any:
            return await io.call(partial(self._translated, fn))

        result: Any = await Retried(self.retry)(request.pick([]), attempt, io)
        return result  # type: ignore[no-any-return]  # a middleware's results are vectors, as far as it knows

    def _translated(self, fn: Callable[[], T]) -> T:
        with translated(self.api.where):
            return fn()

    def _files(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """Group the texts into files within the API's limits."""
        part: list[str] = []
        size = 0
        for text in texts:
            length = 2 * len(text.encode())  # JSON escapes
            if part and (len(part) == self.most_inputs or size + length > self.most_bytes):
                yield part
                part, size = [], 0
            part.append(text)
            size += length
        if part:
            yield part
