"""Texts embedded by a provider's batch jobs, which go on when the process dies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from embed_core import BaseEmbedding
from embed_core._types import Vectors
from embed_core.errors import ConfigurationError, EmbedError, ProviderError
from embed_core.index._embedding import Advance, is_refusal
from embed_core.index._folder import JOBS
from embed_core.index._item import Entry
from embed_core.index._portions import windows
from embed_core.index._writer import Writer


@runtime_checkable
class TakingJobs(Protocol):
    """A model whose provider does jobs."""

    def embed_batch_job(
        self,
        texts: Iterable[str],
        *,
        job_ids: Sequence[str] = (),
        on_submit: Callable[[str], object] | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Return the vectors of texts, by jobs; tell the ids of new jobs, and go on with those of some ids."""
        ...


def jobs_of(model: BaseEmbedding) -> TakingJobs:
    """Return the model as one that takes jobs.

    Raises:
        ConfigurationError: it does not.
    """
    if not isinstance(model, TakingJobs):
        provider = model.provider or model.class_name()
        raise ConfigurationError(f"`{provider}` has no batch jobs; leave out `--batch-api` (`batch_jobs=True`)")
    return model


class JobWriter(Writer):
    """Lets jobs make the vectors, and stores them then.

    The ids of jobs that are not done stand in a file beside the table, by the scope of the run: what it is about. So
    the next run about the same goes on with them, and another one leaves them alone.
    """

    chunks_at_once = 50_000  # what a job of OpenAI's takes

    def __init__(self, *args: Any, scope: str, show_progress: bool = False) -> None:
        super().__init__(*args)
        self._jobs = jobs_of(self._cached.model)
        self._show_progress = show_progress
        self._notes = Notes(self._folder / JOBS, f"{self._cached.model.fingerprint} {scope}")

    def put(self, entries: Sequence[Entry], advance: Advance) -> None:
        """Send the texts and wait for their vectors; then store new and changed items."""
        before = list(self._notes.ids)
        self._made = self._send([piece.text for entry in entries for piece in entry.pieces])
        for some, _ in windows(entries, Writer.chunks_at_once):
            super().put(some, advance)
        self._notes.keep(before)  # those of earlier runs may hold what is still to come

    def finish(self) -> None:
        """Forget the jobs, and tidy up."""
        self._notes.keep([])
        super().finish()

    def _send(self, texts: Sequence[str]) -> Mapping[str, Vectors]:
        """Return the vectors of the texts, but for those that are refused: they are asked for online and listed."""
        made, refused = self._cached.known(texts), set[str]()
        while missing := [text for text in dict.fromkeys(texts) if text not in made and text not in refused]:
            try:
                fresh = dict(zip(missing, self._embed(missing), strict=True))
            except EmbedError as error:
                fresh = {missing[index]: vector for index, vector in error.completed.items()}
                if not is_refusal(error):
                    self._cached.keep(fresh)
                    raise
                refused |= {missing[index] for index in error.failed}
            self._cached.keep(fresh)
            made |= fresh
        return made

    def _embed(self, texts: Sequence[str]) -> Vectors:
        ids = list(self._notes.ids)
        try:
            vectors: Vectors = self._jobs.embed_batch_job(
                texts, job_ids=ids, on_submit=self._notes.add, show_progress=self._show_progress
            )
        except ProviderError as error:
            if error.status_code != 404 or not ids:
                raise
            msg = f"{error}: delete `{self._notes.path}` to send again what the jobs of this index have not answered"
            raise ConfigurationError(msg) from error
        return vectors


class Notes:
    """The ids of the jobs of one scope that are not done."""

    def __init__(self, path: Path, scope: str) -> None:
        self.path, self._scope = path, scope
        self._all: dict[str, list[str]] = json.loads(path.read_text("utf-8")) if path.exists() else {}

    @property
    def ids(self) -> Sequence[str]:
        """The jobs, oldest first."""
        return self._all.get(self._scope, ())

    def add(self, job_id: str) -> None:
        """Note a job."""
        self.keep([*self.ids, job_id])

    def keep(self, ids: Sequence[str]) -> None:
        """Forget all other jobs of this scope."""
        self._all[self._scope] = list(ids)
        jobs = {scope: noted for scope, noted in self._all.items() if noted}
        if not jobs:
            self.path.unlink(missing_ok=True)
            return
        draft = self.path.with_name(f"{self.path.name}.draft")
        draft.write_text(json.dumps(jobs, indent=1), "utf-8")
        draft.replace(self.path)
