"""OpenAI's Batch API: half the price, within a day, for texts nobody waits for.

See https://platform.openai.com/docs/guides/batch. A job's own file tells which texts it holds, so that its id is all
it takes to go on after a restart, whatever was done since.
"""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from embed_core import Request, RetryPolicy, Vectors
from embed_core.errors import ConfigurationError, EmbeddingIntegrityError, EmbedError, InvalidInputError, ProviderError
from embed_core.middleware.retried import Retried

from embeddings_openai import _wire
from embeddings_openai._errors import Endpoint, Refusal, translated
from embeddings_openai._exchange import Body
from embeddings_openai._models import BATCH_DISCOUNT
from embeddings_openai._usage import Meter

T = TypeVar("T")
Onward = Callable[[Request], Awaitable[Vectors]]

_CROWDED = "token_limit_exceeded"
_MOST_REFUSALS = 20
_RUNNING = {"validating", "in_progress", "finalizing", "cancelling"}


@dataclass(slots=True)
class Results:
    """What jobs have answered, by text, until it is placed: a vector, or why there is none."""

    meter: Meter
    vectors: dict[str, Vectors] = field(default_factory=dict)
    failures: dict[str, EmbedError] = field(default_factory=dict)
    reserved: int = 0


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
        client: lends the SDK's client.
        plan: groups the positions of texts into requests.
        body: returns the body of a request.
        job_ids: jobs sent before, which are asked first.
        on_submit: is told the id of every new job.
        poll_seconds: how often a job is looked at.
        most_inputs: how many texts a job takes.
        most_bytes: how large its file may be.
        reserve: sets the tokens of a new job aside and returns them, or raises where they would cost too much.
    """

    client: Callable[[], AbstractContextManager[Any]]
    where: Endpoint
    plan: Callable[[Sequence[str]], Iterable[Sequence[int]]]
    body: Callable[[list[str]], Body]
    retry: RetryPolicy
    results: Results
    job_ids: Sequence[str]
    on_submit: Callable[[str], object] | None
    poll_seconds: float
    most_inputs: int
    most_bytes: int
    reserve: Callable[[Sequence[str]], int]

    async def __call__(self, request: Request, onward: Onward, io: Any) -> Vectors:
        done: dict[int, Vectors] = {}
        try:
            await self._work_off(request, onward, io, await self._jobs(request, io), done)
        except EmbedError as error:
            error.completed = {request.ids[row]: vector for row, vector in done.items()} | dict(error.completed)
            raise
        finally:
            self.results.meter.release(self.results.reserved)
            self.results.reserved = 0
        return np.stack([done[row] for row in range(len(request.inputs))])

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
            return await self._call(request, io, partial(self._texts_of, job_id))
        except ProviderError as error:
            if error.status_code != 404:
                raise
            msg = f"`{self.where.model}`: the job `{job_id}` or its file is gone, or not open to this key; leave it out"
            raise ProviderError(msg, status_code=404, request_id=error.request_id) from error

    async def _work_off(
        self, request: Request, onward: Onward, io: Any, jobs: deque[tuple[str, list[str]]], done: dict[int, Vectors]
    ) -> None:
        refused = 0
        while jobs:
            job_id, texts = jobs.popleft()
            job = await self._finished(request, io, job_id, texts)
            if _is_crowded_out(job) and refused < _MOST_REFUSALS:
                refused += 1
                await io.sleep(self.poll_seconds if not jobs else 0)
                jobs.append((await self._submit(request, io, texts), texts))
                continue
            await self._call(request, io, partial(self._read, job, texts))
            undone = self._undone(texts) if job_id in self.job_ids else []
            await self._place(request, onward, set(texts).difference(undone), done)
            if undone:
                jobs.append((await self._submit(request, io, undone), undone))

    def _undone(self, texts: Sequence[str]) -> list[str]:
        """Return what a job did not get to; an answer that makes no sense is another thing."""
        failures = self.results.failures
        return [text for text in texts if isinstance(failures.get(text), ProviderError)]

    async def _place(self, request: Request, onward: Onward, texts: set[str], done: dict[int, Vectors]) -> None:
        """Pass on what one job answered, so that it is in the cache before the next one is looked at."""
        rows = [row for row, text in enumerate(request.inputs) if text in texts and row not in done]
        vectors, inputs = self.results.vectors, request.inputs
        there = [row for row in rows if inputs[row] in vectors]
        for part in (there, [row for row in rows if inputs[row] not in vectors]):  # what is paid for is placed first
            if part:
                done.update(zip(part, await onward(request.pick(part)), strict=True))
        self.results.vectors.clear()
        self.results.failures.clear()

    async def _submit(self, request: Request, io: Any, texts: Sequence[str]) -> str:
        self.results.reserved += self.reserve(texts)
        file_id = await self._call(request, io, partial(self._upload, texts))
        job_id: str = await self._call(request, io, partial(self._create, file_id))
        if self.on_submit is not None:
            self.on_submit(job_id)
        return job_id

    async def _finished(self, request: Request, io: Any, job_id: str, texts: Sequence[str]) -> Any:
        shown = 0
        try:
            while (job := await self._call(request, io, partial(self._retrieve, job_id))).status in _RUNNING:
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
        with translated(self.where):
            return fn()

    # One call each

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

    def _upload(self, texts: Sequence[str]) -> str:
        with tempfile.TemporaryFile() as file:
            for number, rows in enumerate(self.plan(texts)):
                body = self.body([texts[row] for row in rows])
                line = {"custom_id": str(number), "method": "POST", "url": "/v1/embeddings", "body": body}
                file.write(json.dumps(line).encode() + b"\n")
            file.seek(0)
            with self.client() as client:
                return str(client.files.create(file=("embeddings.jsonl", file), purpose="batch").id)

    def _create(self, file_id: str) -> str:
        """Start a job, unless an earlier attempt did and only its answer was lost."""
        with self.client() as client:
            for job in client.batches.list(limit=100).data:
                if job.input_file_id == file_id:
                    return str(job.id)
            job = client.batches.create(input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h")
            return str(job.id)

    def _retrieve(self, job_id: str) -> Any:
        with self.client() as client:
            return client.batches.retrieve(job_id)

    def _texts_of(self, job_id: str) -> list[str]:
        expected = self.body([])
        texts: list[str] = []
        for line in self._lines(self._retrieve(job_id).input_file_id):
            body = line["body"]
            for name in ("model", "dimensions"):
                if body.get(name) != expected.get(name):
                    msg = f"the job `{job_id}` is of `{name}` {body.get(name)}, not {expected.get(name)}; leave it out"
                    raise ConfigurationError(msg)
            texts += body["input"]
        return texts

    def _lines(self, file_id: str | None) -> Iterator[Mapping[str, Any]]:
        if file_id is not None:
            with self.client() as client:
                content = client.files.content(file_id).content
            for line in content.splitlines():
                yield json.loads(line)

    def _read(self, job: Any, texts: Sequence[str]) -> None:
        """Take the vectors of the texts out of a job's answers, and the reason of every failure."""
        wanted = set(texts)
        inputs = {line["custom_id"]: line["body"]["input"] for line in self._lines(job.input_file_id)}
        for answer in (*self._lines(job.output_file_id), *self._lines(job.error_file_id)):
            asked = inputs.get(answer["custom_id"], [])
            try:
                self._take(asked, answer, wanted)
            except EmbedError as error:
                if not isinstance(error, InvalidInputError):
                    self.results.failures.update(dict.fromkeys(wanted.intersection(asked), error))
        missing = wanted - self.results.vectors.keys() - self.results.failures.keys()
        if job.status != "completed":
            self.results.failures.update(dict.fromkeys(missing, self._unfinished(job)))

    def _take(self, asked: Sequence[str], answer: Mapping[str, Any], wanted: set[str]) -> None:
        response = answer.get("response")
        if response is None:
            error = answer.get("error") or {}
            msg = f"`{self.where.model}`: the job did not do this request ({error.get('message')}); send the rest again"
            raise ProviderError(msg)
        if response["status_code"] >= 400:
            raise Refusal.read(response["status_code"], {}, response["body"]).as_error(self.where)
        found = _wire.read(response["body"], {}, self.where)
        indices = list(found.indices or ())
        if sorted(indices) != list(range(len(asked))):
            msg = f"`{self.where.model}` answered a request of {len(asked)} inputs with the positions {indices[:10]}"
            raise EmbeddingIntegrityError(msg)
        for position, vector in zip(indices, found.vectors, strict=True):
            if asked[position] in wanted:
                self.results.vectors[asked[position]] = vector
        self.results.meter.add((found.usage or {}).get("tokens", 0), share=BATCH_DISCOUNT)

    def _unfinished(self, job: Any) -> ProviderError:
        reasons = "; ".join(f"{one.code}: {one.message}" for one in (job.errors.data or [])) if job.errors else ""
        return ProviderError(
            f"`{self.where.model}`: the job {job.id} ended as `{job.status}` ({reasons or 'no reason given'}); "
            "what it did is kept, so send the rest again"
        )


def _is_crowded_out(job: Any) -> bool:
    """Tell whether a job was refused only because too many tokens are waiting already."""
    return job.status == "failed" and any(one.code == _CROWDED for one in (job.errors and job.errors.data) or ())
