"""One call that goes by batch jobs: texts in files, answers by text, and online requests for the culprits."""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

from embed_core._result import Onward, Result
from embed_core._types import Next, Request, Vectors
from embed_core.errors import ConfigurationError, EmbeddingIntegrityError, EmbedError, InvalidInputError, ProviderError
from embed_core.middleware.retried import Retried
from embed_core.provider._api import APIEmbedding
from embed_core.provider._body import FLOOR
from embed_core.provider._connected import Server
from embed_core.provider._errors import Refusal
from embed_core.provider._exchange import understood
from embed_core.provider._job_api import Job, JobAPI
from embed_core.provider._limits import Capabilities, Limits

T = TypeVar("T")

_MOST_REFUSALS = 20
_ESCAPED = 2  # bytes that JSON makes of one, with some room for the rest of a line
_ENCODING = {"encoding_format"}  # decides no vector


@dataclass(slots=True)
class JobRun:
    """Sends everything it gets as jobs, waits for them, and passes on the answers of each.

    Attributes:
        most: the inputs and bytes that one job may have.
        discount: the share of the price that a job costs.
        vectors: of texts that a job answered, until they are placed.
        failures: the reasons of texts that a job did not answer.
        reserved: the tokens set aside for each job in flight.
    """

    model: APIEmbedding
    server: Server
    api: JobAPI
    most: Limits
    discount: float
    job_ids: Sequence[str]
    on_submit: Callable[[str], object] | None
    poll_seconds: float
    vectors: dict[str, Vectors] = field(default_factory=dict)
    failures: dict[str, EmbedError] = field(default_factory=dict)
    reserved: dict[str, float] = field(default_factory=dict)

    async def __call__(self, request: Request, onward: Onward, io: Any) -> Result:
        result = Result(len(request.inputs))
        try:
            await self._work_off(request, onward, io, await self._jobs(request, io), result)
        except EmbedError as error:
            result.fail([row for row in range(len(request.inputs)) if result.is_open(row)], error)
        finally:
            for job_id in tuple(self.reserved):
                self._release(job_id)
        return result

    async def _jobs(self, request: Request, io: Any) -> deque[tuple[str, list[str]]]:
        """Return the jobs that hold the inputs, with those of each; new jobs for inputs of no earlier one."""
        wanted = dict.fromkeys(request.inputs)
        jobs: deque[tuple[str, list[str]]] = deque()
        for job_id in self.job_ids:
            there = await self._earlier(request, io, job_id)
            if texts := [text for text in dict.fromkeys(there) if text in wanted]:
                jobs.append((job_id, texts))
                for text in texts:
                    del wanted[text]
        left, most = list(wanted), self.most
        size = None if most.bytes is None else most.bytes // _ESCAPED
        for rows in Capabilities(max_bytes=size).plan(left, most.inputs or len(left), None):
            texts = [left[row] for row in rows]
            if texts:
                jobs.append((await self._submit(request, io, texts), texts))
        return jobs

    async def _earlier(self, request: Request, io: Any, job_id: str) -> list[str]:
        """Return the texts of an earlier job."""
        try:
            return await self._call(request, io, partial(self._texts_of, job_id))
        except ProviderError as error:
            if error.status_code != 404:
                raise
            name = self.model.model_name
            msg = f"`{name}`: the job `{job_id}` or its file is gone, or not open to this key; leave it out"
            raise ProviderError(msg, status_code=404, request_id=error.request_id) from error

    async def _work_off(
        self, request: Request, onward: Onward, io: Any, jobs: deque[tuple[str, list[str]]], result: Result
    ) -> None:
        refused = 0
        while jobs:
            job_id, texts = jobs.popleft()
            job = await self._finished(request, io, job_id, len(texts))
            if job.crowded and refused < _MOST_REFUSALS:
                refused += 1
                self._release(job_id)
                await io.sleep(self.poll_seconds if not jobs else 0)
                jobs.append((await self._submit(request, io, texts), texts))
                continue
            await self._call(request, io, partial(self._read, job, texts))
            self._release(job_id)
            undone = []
            if job_id in self.job_ids:  # an answer that makes no sense is another thing
                undone = [text for text in texts if isinstance(self.failures.get(text), ProviderError)]
            await self._place(request, onward, set(texts).difference(undone), result)
            if result.failed and not request.keep_going:
                return
            if undone:
                jobs.append((await self._submit(request, io, undone), undone))

    async def _place(self, request: Request, onward: Onward, texts: set[str], result: Result) -> None:
        """Pass on the answers of one job, so that they are in the cache before the next one is looked at."""
        rows = [row for row, text in enumerate(request.inputs) if text in texts and result.is_open(row)]
        there = [row for row in rows if request.inputs[row] in self.vectors]
        for part in (there, [row for row in rows if request.inputs[row] not in self.vectors]):  # first the paid ones
            if part:
                result.place(part, await onward(request.pick(part)))
        self.vectors.clear()
        self.failures.clear()

    async def _submit(self, request: Request, io: Any, texts: Sequence[str]) -> str:
        budgeted, tokens = self.model._budgeted(), self.model._count_tokens(texts) * self.discount
        aside = 0.0 if budgeted is None else budgeted.reserve(tokens)
        try:
            file = await self._call(request, io, partial(self._upload, texts))
            job_id = await self._call(request, io, partial(self.server.transfer, partial(self.api.create, *file)))
        except BaseException:
            self.model._meter.release(aside)
            raise
        self.reserved[job_id] = aside
        if self.on_submit is not None:
            self.on_submit(job_id)
        return job_id

    def _release(self, job_id: str) -> None:
        """Give back the tokens set aside for a job: it is over, and its answers are charged."""
        self.model._meter.release(self.reserved.pop(job_id, 0))

    async def _finished(self, request: Request, io: Any, job_id: str, count: int) -> Job:
        shown, look = 0, partial(self.server.transfer, partial(self.api.retrieve, job_id))
        try:
            while (job := await self._call(request, io, look)).state == "running":
                now = int(count * job.share)
                request.progress.advance(now - shown)
                shown = now
                await io.sleep(self.poll_seconds)
        finally:
            request.progress.advance(-shown)  # they count once more when they are placed
        return job

    async def _call(self, request: Request, io: Any, fn: Callable[[], T]) -> T:
        """Call the API, as often as the retry policy allows; a job may run for a day."""

        def translated() -> T:
            try:
                return fn()
            except EmbedError:
                raise
            except Exception as error:
                raise self.server.meaning(error) from error

        async def attempt(_: Request) -> Any:
            return await io.call(translated)

        result: Any = await Retried(self.model.retry)(request.pick([]), attempt, io)
        return result  # type: ignore[no-any-return]  # a middleware's results are vectors, as far as it knows

    # Files

    def _upload(self, texts: Sequence[str]) -> tuple[str, str]:
        """Return the id of a new file that asks for these texts, and the digest of its content."""
        digest, most = sha256(), self.model.limits.inputs or len(texts)
        limit = self.model._input_limit("text")
        with tempfile.TemporaryFile() as file:
            for number, rows in enumerate(self.model._capabilities().plan(texts, most, limit)):
                body = self.model._request("text", [texts[row] for row in rows])
                line = json.dumps(self.api.line(str(number), body)).encode() + b"\n"
                digest.update(line)
                file.write(line)
            size = file.tell()
            file.seek(0)
            return self.server.transfer(partial(self.api.upload, file), sent=size), digest.hexdigest()

    def _lines(self, file_id: str) -> Iterator[Any]:
        """Yield the JSON of the lines of a file, as far as they are JSON."""
        vectors, texts = (self.most.inputs or 0) * self.server.row_bytes, 2 * (self.most.bytes or 0)
        read = partial(self.api.content, file_id)
        for line in self.server.transfer(read, most=FLOOR + max(vectors, texts)).splitlines():
            with suppress(ValueError):
                yield json.loads(line)

    def _texts_of(self, job_id: str) -> list[str]:
        """Return the texts of an earlier job.

        Raises:
            ConfigurationError: it was asked for other vectors.
        """
        texts: list[str] = []
        for line in self._lines(self.server.transfer(partial(self.api.retrieve, job_id)).requests):
            _, body = self.api.request(line)
            asked = self.api.texts(body)
            expected = self.model._request("text", asked)
            for name in sorted({*body, *expected} - _ENCODING):
                if body.get(name) != expected.get(name):
                    other = f"is of `{name}` {body.get(name)}, not {expected.get(name)}"
                    raise ConfigurationError(f"the job `{job_id}` {other}; leave it out")
            texts += asked
        return texts

    def _read(self, job: Job, texts: Sequence[str]) -> None:
        """Take the vectors of the texts out of a job's answers, and the reason of every failure.

        A line that makes no sense is no answer, and neither is a second one to the same request.
        """
        wanted = set(texts)
        requests = dict(map(self.api.request, self._lines(job.requests)))
        for line in (line for file_id in job.answers for line in self._lines(file_id)):
            asked: list[str] = []
            try:
                number, status, payload = self.api.answer(line)
                asked = self.api.texts(requests[number])
                self._take(asked, status, payload, wanted)
            except EmbedError as error:
                if not isinstance(error, InvalidInputError):
                    self.failures.update(dict.fromkeys(wanted.intersection(asked), error))
            except (AttributeError, LookupError, TypeError, ValueError):
                continue
            del requests[number]
        if job.state != "completed":
            name = self.model.model_name
            reason = ProviderError(
                f"`{name}`: the job {job.id} ended as `{job.state}` ({job.reasons or 'no reason given'}); "
                "its answers are kept, so send the rest again"
            )
            self.failures.update(dict.fromkeys(wanted - self.vectors.keys() - self.failures.keys(), reason))

    def _take(self, asked: Sequence[str], status: int | None, payload: Any, wanted: set[str]) -> None:
        where = self.server.endpoint
        if status is None:
            raise ProviderError(f"`{where.model}`: the job did not do this request ({payload}); send the rest again")
        if status >= 400:
            refused = Refusal.read(status, {}, payload).as_error(where)
            if refused.retryable:  # but the answers of the job stay as they are
                raise ProviderError(f"{refused}; send the rest again", status_code=status)
            raise refused
        found = understood(self.model, payload, where)
        indices = list(found.indices or range(len(found.vectors)))
        if sorted(indices) != list(range(len(asked))):
            msg = f"`{where.model}` answered a request of {len(asked)} inputs with the positions {indices[:10]}"
            raise EmbeddingIntegrityError(msg)
        for position, vector in zip(indices, self.model._finished(found.vectors), strict=True):
            if asked[position] in wanted:
                self.vectors[asked[position]] = vector
        tokens = (found.usage or {}).get("tokens", 0)
        self.model._meter.add(tokens, self.model._count_tokens(asked), share=self.discount)


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers from the results of jobs; only texts that a job refused as inputs are asked for online."""

    run: JobRun

    async def __call__(self, request: Request, onward: Next, io: Any) -> Any:
        vectors, failures = self.run.vectors, self.run.failures
        if all(text in vectors for text in request.inputs):
            return [vectors[text] for text in request.inputs]
        if (reason := next((failures[text] for text in request.inputs if text in failures), None)) is not None:
            raise type(reason)(str(reason))
        return await onward(request)
