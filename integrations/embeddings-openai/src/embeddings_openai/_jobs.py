"""OpenAI's Batch API, one call each, and what stands in its files.

See https://platform.openai.com/docs/guides/batch. A job's own file tells which texts it holds, so that its id is all
it takes to go on after a restart, whatever was done since.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from embed_core import Vectors
from embed_core.errors import ConfigurationError, EmbeddingIntegrityError, EmbedError, InvalidInputError, ProviderError

from embeddings_openai import _wire
from embeddings_openai._errors import Endpoint, Refusal
from embeddings_openai._exchange import Body
from embeddings_openai._models import BATCH_DISCOUNT
from embeddings_openai._usage import Meter

_GOING_ON = {"validating", "in_progress", "finalizing"}
RUNNING = _GOING_ON | {"cancelling"}
_CROWDED = "token_limit_exceeded"
_DIGEST = "embeddings_openai_sha256"
"""The name under which a job keeps the digest of its file: what an answer that was lost would have told."""


@dataclass(slots=True)
class Results:
    """What jobs have answered, by text, until it is placed: a vector, or why there is none.

    Attributes:
        reserved: the tokens set aside for each job that is under way.
    """

    meter: Meter
    vectors: dict[str, Vectors] = field(default_factory=dict)
    failures: dict[str, EmbedError] = field(default_factory=dict)
    reserved: dict[str, float] = field(default_factory=dict)

    def release(self, job_id: str) -> None:
        """Give back what was set aside for a job: it is over, and what it used is charged."""
        self.meter.release(self.reserved.pop(job_id, 0))


@dataclass(frozen=True, slots=True)
class Jobs:
    """The jobs of one model.

    Attributes:
        client: lends the SDK's client.
        plan: groups the positions of texts into requests.
        body: returns the body of a request.
        results: takes what jobs have answered.
    """

    client: Callable[[], AbstractContextManager[Any]]
    where: Endpoint
    plan: Callable[[Sequence[str]], Iterable[Sequence[int]]]
    body: Callable[[list[str]], Body]
    count_tokens: Callable[[Sequence[str]], int]
    results: Results

    def upload(self, texts: Sequence[str]) -> tuple[str, str]:
        """Return the id of a new file that asks for these texts, and the digest of what it holds."""
        digest = sha256()
        with tempfile.TemporaryFile() as file:
            for number, rows in enumerate(self.plan(texts)):
                body = self.body([texts[row] for row in rows])
                asked = {"custom_id": str(number), "method": "POST", "url": "/v1/embeddings", "body": body}
                line = json.dumps(asked).encode() + b"\n"
                digest.update(line)
                file.write(line)
            file.seek(0)
            with self.client() as client:
                name = client.files.create(file=("embeddings.jsonl", file), purpose="batch").id
        return str(name), digest.hexdigest()

    def create(self, file_id: str, digest: str) -> str:
        """Start a job, unless one that asks for the same was started but its id got lost; return the id."""
        with self.client() as client:
            for job in client.batches.list(limit=100).data:
                lost = job.status in _GOING_ON and (job.metadata or {}).get(_DIGEST) == digest
                if lost or job.input_file_id == file_id:
                    return str(job.id)
            job = client.batches.create(
                input_file_id=file_id,
                endpoint="/v1/embeddings",
                completion_window="24h",
                metadata={_DIGEST: digest},
            )
            return str(job.id)

    def retrieve(self, job_id: str) -> Any:
        """Return what is known of a job."""
        with self.client() as client:
            return client.batches.retrieve(job_id)

    def texts_of(self, job_id: str) -> list[str]:
        """Return the texts that a job was asked for.

        Raises:
            ConfigurationError: it was asked for vectors of another model or length.
        """
        expected = self.body([])
        texts: list[str] = []
        for line in self._lines(self.retrieve(job_id).input_file_id):
            body = line["body"]
            for name in ("model", "dimensions"):
                if body.get(name) != expected.get(name):
                    msg = f"the job `{job_id}` is of `{name}` {body.get(name)}, not {expected.get(name)}; leave it out"
                    raise ConfigurationError(msg)
            texts += body["input"]
        return texts

    def read(self, job: Any, texts: Sequence[str]) -> None:
        """Take the vectors of the texts out of a job's answers, and the reason of every failure.

        A line that makes no sense is no answer, and neither is a second one to the same request.
        """
        wanted = set(texts)
        inputs = {line["custom_id"]: line["body"]["input"] for line in self._lines(job.input_file_id)}
        for answer in (*self._lines(job.output_file_id), *self._lines(job.error_file_id)):
            try:
                asked = inputs[answer["custom_id"]]
                self._take(asked, answer, wanted)
            except EmbedError as error:
                if not isinstance(error, InvalidInputError):
                    self.results.failures.update(dict.fromkeys(wanted.intersection(asked), error))
            except (AttributeError, LookupError, TypeError, ValueError):
                continue
            del inputs[answer["custom_id"]]
        missing = wanted - self.results.vectors.keys() - self.results.failures.keys()
        if job.status != "completed":
            self.results.failures.update(dict.fromkeys(missing, self._unfinished(job)))

    def _lines(self, file_id: str | None) -> Iterator[Any]:
        """Yield what the lines of a file hold, where it is JSON."""
        if file_id is not None:
            with self.client() as client:
                content = client.files.content(file_id).content
            for line in content.splitlines():
                try:
                    holds = json.loads(line)
                except ValueError:
                    continue
                yield holds

    def _take(self, asked: Sequence[str], answer: Mapping[str, Any], wanted: set[str]) -> None:
        response = answer.get("response")
        if response is None:
            error = answer.get("error") or {}
            msg = f"`{self.where.model}`: the job did not do this request ({error.get('message')}); send the rest again"
            raise ProviderError(msg)
        if response["status_code"] >= 400:
            refused = Refusal.read(response["status_code"], {}, response["body"]).as_error(self.where)
            if refused.retryable:  # but what the job answered stays as it is
                raise ProviderError(f"{refused}; send the rest again", status_code=response["status_code"])
            raise refused
        found = _wire.read(response["body"], {}, self.where)
        indices = list(found.indices or ())
        if sorted(indices) != list(range(len(asked))):
            msg = f"`{self.where.model}` answered a request of {len(asked)} inputs with the positions {indices[:10]}"
            raise EmbeddingIntegrityError(msg)
        for position, vector in zip(indices, found.vectors, strict=True):
            if asked[position] in wanted:
                self.results.vectors[asked[position]] = vector
        told = (found.usage or {}).get("tokens", 0)
        self.results.meter.add(told, self.count_tokens(asked), share=BATCH_DISCOUNT)

    def _unfinished(self, job: Any) -> ProviderError:
        reasons = "; ".join(f"{one.code}: {one.message}" for one in (job.errors.data or [])) if job.errors else ""
        return ProviderError(
            f"`{self.where.model}`: the job {job.id} ended as `{job.status}` ({reasons or 'no reason given'}); "
            "what it did is kept, so send the rest again"
        )


def is_crowded_out(job: Any) -> bool:
    """Tell whether a job was refused only because too many tokens are waiting already."""
    return job.status == "failed" and any(one.code == _CROWDED for one in (job.errors and job.errors.data) or ())
