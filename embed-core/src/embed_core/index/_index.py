"""A folder that can be searched by meaning."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from embed_core import BaseEmbedding, TextSplitter, block_size, resolve_embed_model
from embed_core.errors import ConfigurationError
from embed_core.index._embedding import CHUNKS_PER_JOB, Direct, Forecast, by_jobs, cache_for
from embed_core.index._files import FileRun
from embed_core.index._folder import CACHE, JOBS, check_new, only_writer
from embed_core.index._header import Header, splitter_of
from embed_core.index._held import remove, sources, stats
from embed_core.index._record import Record
from embed_core.index._records import RecordRun
from embed_core.index._results import Changes, Hit, Skipped, Source, Stats
from embed_core.index._similar import check_count, check_question, similar
from embed_core.index._store import Store, ours
from embed_core.index._walk import canonical
from embed_core.index._writer import CHUNKS_PER_COMMIT, Embed, Writer


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
        prune: bool = False,
        show_progress: bool = False,
        dry_run: bool = False,
        batch_jobs: bool = False,
    ) -> Changes:
        """Bring the index up to date with files and folders; return the changes.

        Embeds new and changed text, and removes files that are gone below the paths. When the run is stopped, its
        finished work is kept, and the next call goes on from there. Files that cannot be read are listed.

        Args:
            paths: files and folders.
            prune: remove all files that are gone, even where a path is not there or a folder holds no file, as with a
                disk that is not mounted; without it, such files stay and are listed.
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
        with self._run(
            os.pathsep.join(sorted(roots)), show_progress=show_progress, dry_run=dry_run, batch_jobs=batch_jobs
        ) as writer:
            store = self._store()
            known = {} if store is None else store.files()
            run = FileRun(self.folder, self._splitter(), known, writer)
            run.run(roots, prune=prune, show_progress=show_progress)
        return writer.changes

    def add_records(
        self,
        records: Iterable[Record | Skipped],
        source: str | os.PathLike[str],
        *,
        prefix: str = "",
        prune: bool = False,
        show_progress: bool = False,
        dry_run: bool = False,
        batch_jobs: bool = False,
    ) -> Changes:
        """Bring the index up to date with all records of a source; return the changes.

        A record is known by its source and its id. New and changed texts are embedded; where only metadata have
        changed, they are kept without embedding. Records that an earlier call found in the same source under the same
        prefix, and this one does not, are removed, but for those of a source without rows and of `"-"`, which is
        standard input. Of each record only its id and a hash are held in memory.

        Args:
            records: see `read_records`; a `Skipped` stands for a row that cannot be read, and while there is one,
                nothing is removed.
            source: the source of the records: a name, or the path of a file.
            prefix: put before every id.
            prune: remove all records that are gone, even where there are no rows or the source is standard input.
            show_progress: whether to show a bar.
            dry_run: see `add`.
            batch_jobs: see `add`.

        Raises:
            InvalidInputError: there are rows, and none of them can be read.
            SpaceMismatchError: the index was built with another model.
            EmbedError: another process is writing, or the model failed.
        """
        name = _name(source)
        with self._run(
            f"{name} {prefix}", show_progress=show_progress, dry_run=dry_run, batch_jobs=batch_jobs
        ) as writer:
            store = self._store()
            known = () if store is None else store.records(name)
            run = RecordRun(name, prefix, self._splitter(), known, writer)
            run.run(records, prune=prune, show_progress=show_progress)
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
        check_question(question)
        check_count(k)
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
        return similar(self._existing(), item, k, None if source is None else _name(source))

    def remove(
        self,
        names: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        source: str | os.PathLike[str] | None = None,
    ) -> Changes:
        """Remove files, whole folders or sources of records from the index; nothing else is touched.

        Args:
            names: paths, and names of sources; or with `source`, ids of its records.
            source: a source of records, of which only some are removed.

        Raises:
            InvalidInputError: the index holds nothing of a name; nothing is removed.
            ConfigurationError: there is no index in the folder.
            EmbedError: another process is writing.
        """
        store, where = self._existing(), None if source is None else _name(source)
        with only_writer(self.folder):
            removed = remove(store, [names] if isinstance(names, str | os.PathLike) else names, where)
        return Changes(removed=removed)

    def sources(self) -> list[Source]:
        """Return the files and the sources of records that the index holds, by name.

        Raises:
            ConfigurationError: there is no index in the folder.
        """
        return sources(self._existing())

    def stats(self) -> Stats:
        """Return the numbers of files, records and chunks, the model, and the room on the disk.

        Raises:
            ConfigurationError: there is no index in the folder.
        """
        return stats(self._existing(), self.folder)

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
        with ours(f"`{self.folder}`"):
            self.folder.mkdir(parents=True, exist_ok=True)
        with only_writer(self.folder), cache_for(model, path, dry_run=False) as cache:
            self._opened = None
            if (store := self._store()) is not None:  # another process may have made it just now
                store.header.check(model, self.folder)
            make: AbstractContextManager[Embed] = nullcontext(direct := Direct(model, cache))
            at_once = min(block_size(model), CHUNKS_PER_COMMIT)
            if batch_jobs:
                make = by_jobs(model, cache, self.folder / JOBS, scope, show_progress=show_progress)
                at_once = CHUNKS_PER_JOB
            with make as embed_:
                writer = Writer(embed_, store, self._create, at_once=at_once)
                yield writer
            writer.finish()
            writer.changes.truncated = direct.truncated

    def _create(self, dimension: int) -> Store:
        store_text = self._fixed["store_text"] is not False
        return Store.create(self.folder, Header.of(self.model, dimension, self._splitter(), store_text=store_text))

    def _splitter(self) -> TextSplitter:
        """Return the splitter of texts: as in the index, where there is one."""
        if (store := self._store()) is not None:
            store.header.check_fixed(**self._fixed)
            return TextSplitter(store.header.chunk_size, store.header.chunk_overlap)
        return splitter_of(self._fixed["chunk_size"], self._fixed["chunk_overlap"])


def _name(source: str | os.PathLike[str]) -> str:
    return source if isinstance(source, str) else canonical(source)
