"""Where the vectors of an index come from: the model, its provider's batch jobs, or, in a dry run, nowhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from embed_core import BaseEmbedding, Estimate, Request, Vectors, embed, estimate
from embed_core.errors import ConfigurationError, EmbedError, ProviderError, StoreError
from embed_core.index._writer import Embed
from embed_core.kvstore import KVStore, MemoryKVStore, SQLiteKVStore

CHUNKS_PER_JOB = 50_000  # the most that a job of OpenAI's takes


@contextmanager
def cache_for(model: BaseEmbedding, path: Path, *, dry_run: bool) -> Iterator[KVStore]:
    """Lend the model's own cache, or else one in a file, so that a run that is repeated embeds nothing twice.

    The model stays as it is, because other runs may use it meanwhile. A dry run makes no file.
    """
    if model.embeddings_cache is not None:
        yield model.embeddings_cache
        return
    with closing(MemoryKVStore() if dry_run and not path.exists() else SQLiteKVStore(path)) as store:
        yield store


class Direct:
    """Embeds by requests, and counts the texts that the model cut off."""

    def __init__(self, model: BaseEmbedding, cache: KVStore) -> None:
        self._model, self._cache = model, cache
        self._cut: list[int] = []  # in each batch; batches may run in threads

    @property
    def truncated(self) -> int:
        """The number of texts that were cut, of those that were sent."""
        return sum(self._cut)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        places = self._model._places()
        places = replace(places, batch=(*places.batch, self._count))
        return embed(self._model, "text", texts, cache=self._cache, places=places)

    async def _count(self, request: Request, next_: Callable[[Request], Any], _: Any) -> Vectors:
        vectors: Vectors = await next_(request)
        self._cut.append(request.truncated)
        return vectors


class Forecast:
    """Adds up the cost of embedding; nothing is sent."""

    def __init__(self, model: BaseEmbedding, cache: KVStore, *, batch_jobs: bool) -> None:
        """Begin at nothing; a job may cost a share of the price only.

        Raises:
            ConfigurationError: the provider has no jobs.
        """
        self._model, self._cache = model, cache
        self._share = 1.0
        if batch_jobs:
            batch_job_of(model)
            self._share = float(getattr(model, "batch_discount", 1.0))
        self._seen: set[bytes] = set()
        self._total = Estimate()

    def add(self, texts: Sequence[str]) -> Vectors:
        """Count texts that did not come before; return vectors without numbers.

        Raises:
            InvalidInputError: the model would refuse some of them.
        """
        digests = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        new = [row for row, digest in enumerate(digests) if digest not in self._seen]
        try:
            self._total += estimate(self._model, "text", [texts[row] for row in new], cache=self._cache)
        except EmbedError as error:
            error.failed = {new[row]: reason for row, reason in error.failed.items()}
            raise
        self._seen.update(digests)
        return np.empty((len(texts), 0), dtype=np.float32)

    def estimate(self, chunks: int) -> Estimate:
        """Return the cost of a number of chunks, of which those that came again cost nothing."""
        again = chunks - self._total.inputs
        return self._total.at(self._share) + Estimate(inputs=again, cached=again)


def batch_job_of(model: BaseEmbedding) -> Callable[..., Vectors]:
    """Return the model's method `embed_batch_job(texts, *, job_ids, on_submit, cache, show_progress)`.

    A model whose provider has batch jobs has this method, and in `batch_discount` their share of the price.

    Raises:
        ConfigurationError: the model has none.
    """
    method: Callable[..., Vectors] | None = getattr(model, "embed_batch_job", None)
    if method is None:
        provider = model.provider or model.class_name()
        raise ConfigurationError(f"`{provider}` has no batch jobs; leave out `--batch-api` (`batch_jobs=True`)")
    return method


@contextmanager
def by_jobs(model: BaseEmbedding, cache: KVStore, path: Path, scope: str, *, show_progress: bool) -> Iterator[Embed]:
    """Lend a function that embeds by jobs; the jobs of a run that was stopped are asked first.

    Args:
        model: see `batch_job_of`.
        cache: gets the vectors of a job before the next job is looked at.
        path: a file that keeps the ids of jobs until their run is done.
        scope: the sources of the run, so that a run over other sources leaves its jobs alone.
        show_progress: whether to show a bar.
    """
    embed_batch_job = batch_job_of(model)
    noted = JobIds(path, f"{model.fingerprint} {scope}")
    former = noted.ids
    answered: list[str] = []

    def embed(texts: Sequence[str]) -> Vectors:
        # Earlier answers are in the table by now; former jobs may hold texts that are still to come.
        ids = [id_ for id_ in noted.ids if id_ in former or id_ not in answered]
        noted.keep(ids)
        try:
            vectors = embed_batch_job(texts, job_ids=ids, on_submit=noted.add, cache=cache, show_progress=show_progress)
        except ProviderError as error:
            if error.status_code != 404 or not ids:
                raise
            msg = f"{error}: delete `{path}` to send again what the jobs of this index have not answered"
            raise ConfigurationError(msg) from error
        answered[:] = noted.ids
        return vectors

    yield embed
    noted.keep([])


class JobIds:
    """The ids of the jobs of one scope that are not done, in a file."""

    def __init__(self, path: Path, scope: str) -> None:
        self._path, self._scope = path, scope
        self._all: dict[str, list[str]] = {}
        if path.exists():
            try:
                self._all = TypeAdapter(dict[str, list[str]]).validate_json(path.read_bytes())
            except ValueError as error:
                msg = f"`{path}` holds no ids of jobs; delete it to send again what the jobs have not answered"
                raise StoreError(msg) from error

    @property
    def ids(self) -> Sequence[str]:
        """The ids, oldest first."""
        return tuple(self._all.get(self._scope, ()))

    def add(self, job_id: str) -> None:
        """Keep one more id."""
        self.keep([*self.ids, job_id])

    def keep(self, ids: Sequence[str]) -> None:
        """Keep these ids only, and those of other scopes."""
        self._all[self._scope] = list(ids)
        jobs = {scope: noted for scope, noted in self._all.items() if noted}
        if not jobs:
            self._path.unlink(missing_ok=True)
            return
        draft = self._path.with_name(f"{self._path.name}.draft")
        draft.write_text(json.dumps(jobs, indent=1), "utf-8")
        draft.replace(self._path)
