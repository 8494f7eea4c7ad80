"""A folder that can be searched by meaning."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from embed_core import BaseEmbedding, TextSplitter, block_size, embed, resolve_embed_model
from embed_core.errors import ConfigurationError, InvalidInputError
from embed_core.index._embedding import CHUNKS_PER_JOB, Forecast, by_jobs, cache_for
from embed_core.index._files import FileRun
from embed_core.index._folder import CACHE, JOBS, check_new, only_writer
from embed_core.index._header import Header
from embed_core.index._record import Record
from embed_core.index._records import RecordRun
from embed_core.index._results import Changes, Hit, Skipped, Stats
from embed_core.index._similar import similar
from embed_core.index._store import Store
from embed_core.index._walk import canonical
from embed_core.index._writer import CHUNKS_PER_COMMIT, Embed, Writer

_CHUNK_SIZE = 800  # characters: some 200 tokens, which the smallest models in use take whole
_CHUNK_OVERLAP = 80


class Index:
    """Files and records cut into chunks, with a vector for each; one folder, which remembers its model.

    Several processes may search while one writes; a search sees whole files and records only, old or new.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        model: BaseEmbedding | str | Mapping[str, Any] | None = None,
        *,
        chunk_size: int | None = None,
        chunk_overlap: int | None = None,
        store_text: bool | None = None,
    ) -> None:
        """Name a folder; it is made by the first `add`.

        Args:
            folder: an index, or the place for a new one.
            model: a model, or a spec or saved configuration for `resolve_embed_model`; None means the model that
                built the index.
            chunk_size: most characters of a chunk, by default 800; fixed when the index is made.
            chunk_overlap: most characters that a chunk repeats of the one before it, by default 80; fixed as well.
            store_text: whether the texts are kept beside their vectors, by default True; fixed as well.
        """
        self.folder = Path(canonical(folder))
        self._given = model
        self._fixed = {"chunk_size": chunk_size, "chunk_overlap": chunk_overlap, "store_text": store_text}
        self._model: BaseEmbedding | None = None
        self._opened: Store | None = None

    @property
    def model(self) -> BaseEmbedding:
        """The model: the given one, or the one that built the index.

        Raises:
            SpaceMismatchError: its vectors may not be compared with those in the index.
            ConfigurationError: there is neither a model nor an index.
        """
        if self._model is None:
            model = resolve_embed_model(self._existing().header.model if self._given is None else self._given)
            if (store := self._store()) is not None:
                store.header.check(model, self.folder)
            self._model = model
        return self._model

    def add(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        show_progress: bool = False,
        dry_run: bool = False,
        batch_jobs: bool = False,
    ) -> Changes:
        """Bring the index up to date with files and folders; return the changes.

        Embeds new and changed text, and removes files that are gone below the paths. When the run is stopped, its
        finished work is kept, and the next call goes on from there. Files that cannot be read are listed.

        Args:
            paths: files and folders.
            show_progress: whether to show a bar.
            dry_run: only return the changes that there would be, with an estimate of their cost; nothing is sent or
                written.
            batch_jobs: embed by the jobs of the model's provider, which are cheaper and take up to a day; a run that
                was stopped goes on with the jobs that it has sent.

        Raises:
            InvalidInputError: a path does not exist.
            SpaceMismatchError: the index was built with another model.
            EmbedError: another process is writing, or the model failed.
        """
        roots = [canonical(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
        scope = os.pathsep.join(sorted(roots))
        with self._run(scope, show_progress=show_progress, dry_run=dry_run, batch_jobs=batch_jobs) as writer:
            store = self._store()
            known = {} if store is None else store.files()
            FileRun(self.folder, self._splitter(), known, writer).run(roots, show_progress=show_progress)
        return writer.changes

    def add_records(
        self,
        records: Iterable[Record | Skipped],
        source: str | os.PathLike[str],
        *,
        prefix: str = "",
        show_progress: bool = False,
        dry_run: bool = False,
        batch_jobs: bool = False,
    ) -> Changes:
        """Bring the index up to date with all records of a source; return the changes.

        A record is known by its source and its id. New and changed texts are embedded; where only metadata have
        changed, they are kept without embedding. Records that an earlier call found in the same source under the same
        prefix, and this one does not, are removed. Of each record only its id and a hash are held in memory.

        Args:
            records: see `read_records`; a `Skipped` stands for a row that cannot be read, and while there is one,
                nothing is removed.
            source: the source of the records: a name, or the path of a file.
            prefix: put before every id.
            show_progress: whether to show a bar.
            dry_run: see `add`.
            batch_jobs: see `add`.

        Raises:
            InvalidInputError: there are rows, and none of them can be read.
            SpaceMismatchError: the index was built with another model.
            EmbedError: another process is writing, or the model failed.
        """
        name = source if isinstance(source, str) else canonical(source)
        scope = f"{name} {prefix}"
        with self._run(scope, show_progress=show_progress, dry_run=dry_run, batch_jobs=batch_jobs) as writer:
            store = self._store()
            known = () if store is None else store.records(name)
            RecordRun(name, prefix, self._splitter(), known, writer).run(records, show_progress=show_progress)
        return writer.changes

    def search(self, question: str, k: int = 5, *, prefix: str = "") -> list[Hit]:
        """Return the `k` chunks nearest to a question, the best first; all of them are compared.

        Args:
            question: some words.
            k: most chunks to return.
            prefix: if given, only records whose id begins with it are compared.

        Raises:
            InvalidInputError: the question is blank or `k` is below 1.
            ConfigurationError: there is no index in the folder.
            SpaceMismatchError: the index was built with another model.
        """
        if not isinstance(question, str):
            raise InvalidInputError(f"the question is a `{type(question).__name__}`, not a `str`")
        if not question.strip():
            raise InvalidInputError("the question is blank; ask in some words")
        _check_count(k)
        store = self._existing()
        return store.search(self.model.embed_queries([question])[0], k, prefix)

    def similar(self, item: str, k: int = 5, *, source: str | os.PathLike[str] | None = None) -> list[Hit]:
        """Return the nearest chunk of each of the `k` files and records nearest to one, the best first.

        Chunks are compared with the mean of the item's vectors, weighted by length. The item itself is left out; its
        equals are not. No model is needed.

        Args:
            item: the id of a record, or else the path of a file.
            k: most files and records to return.
            source: tells records apart that have one id in several sources.

        Raises:
            InvalidInputError: nothing, or more than one record, has this id; or `k` is below 1.
            ConfigurationError: there is no index in the folder.
        """
        _check_count(k)
        name = source if source is None or isinstance(source, str) else canonical(source)
        return similar(self._existing(), item, k, name)

    def stats(self) -> Stats:
        """Return the numbers of files, records and chunks, the model, and the room on the disk.

        Raises:
            ConfigurationError: there is no index in the folder.
        """
        store = self._existing()
        header = store.header
        return Stats(
            folder=str(self.folder),
            model=header.model_label,
            fingerprint=header.fingerprint,
            dimension=header.dimension,
            bytes=sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file()),
            created=header.created,
            **store.counts(),
        )

    @property
    def exists(self) -> bool:
        """Whether there is an index in the folder."""
        return self._store() is not None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    def _store(self) -> Store | None:
        if self._opened is None:
            self._opened = Store.open(self.folder)
        return self._opened

    def _existing(self) -> Store:
        if (store := self._store()) is None:
            msg = f"there is no index in `{self.folder}`; make one with `embed index PATH --into {self.folder}`"
            raise ConfigurationError(msg)
        return store

    def _run(
        self, scope: str, *, show_progress: bool, dry_run: bool, batch_jobs: bool
    ) -> AbstractContextManager[Writer]:
        """Return the run, real or dry, that lends a writer."""
        if not self.exists:
            check_new(self.folder)
        self._splitter()
        if dry_run:
            return self._dry_run(batch_jobs=batch_jobs)
        return self._real_run(scope, batch_jobs=batch_jobs, show_progress=show_progress)

    @contextmanager
    def _dry_run(self, *, batch_jobs: bool) -> Iterator[Writer]:
        with cache_for(self.model, self.folder / CACHE, dry_run=True) as cache:
            forecast = Forecast(self.model, cache, batch_jobs=batch_jobs)
            writer = Writer(forecast.add, None, self._create, at_once=CHUNKS_PER_COMMIT)
            yield writer
        writer.changes.estimate = forecast.estimate(writer.changes.chunks)

    @contextmanager
    def _real_run(self, scope: str, *, batch_jobs: bool, show_progress: bool) -> Iterator[Writer]:
        """Lend a writer while no other run writes."""
        model, path = self.model, self.folder / CACHE
        self.folder.mkdir(parents=True, exist_ok=True)
        with only_writer(self.folder), cache_for(model, path, dry_run=False) as cache:
            self._opened = None
            if (store := self._store()) is not None:  # another process may have made it just now
                store.header.check(model, self.folder)
            make: AbstractContextManager[Embed] = nullcontext(partial(embed, model, "text", cache=cache))
            at_once = min(block_size(model), CHUNKS_PER_COMMIT)
            if batch_jobs:
                make = by_jobs(model, cache, self.folder / JOBS, scope, show_progress=show_progress)
                at_once = CHUNKS_PER_JOB
            with make as embed_:
                writer = Writer(embed_, store, self._create, at_once=at_once)
                yield writer
            writer.finish()

    def _create(self, dimension: int) -> Store:
        store_text = self._fixed["store_text"] is not False
        return Store.create(self.folder, Header.of(self.model, dimension, self._splitter(), store_text=store_text))

    def _splitter(self) -> TextSplitter:
        """Return the splitter of texts: as in the index, where there is one."""
        if (store := self._store()) is not None:
            store.header.check_fixed(**self._fixed)
            return TextSplitter(store.header.chunk_size, store.header.chunk_overlap)
        size, overlap = self._fixed["chunk_size"], self._fixed["chunk_overlap"]
        size = _CHUNK_SIZE if size is None else size
        return TextSplitter(size, min(_CHUNK_OVERLAP, size // 10) if overlap is None else overlap)


def _check_count(k: object) -> None:
    if not isinstance(k, int) or k < 1:
        raise InvalidInputError(f"`k` is {k!r}; it must be a number from 1 on")
