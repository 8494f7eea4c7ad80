"""A folder that can be searched by meaning."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from embed_core import BaseEmbedding, resolve_embed_model
from embed_core._splitting import TextSplitter
from embed_core.errors import ConfigurationError, InvalidInputError
from embed_core.index._changes import Changes
from embed_core.index._folder import CACHE, LOCK, cached, check_new
from embed_core.index._jobs import JobWriter
from embed_core.index._lock import only_writer
from embed_core.index._record import Record
from embed_core.index._record_sync import RecordSync
from embed_core.index._rows import Hit
from embed_core.index._similar import similar
from embed_core.index._stamp import Stamp
from embed_core.index._stats import Stats
from embed_core.index._store import Store
from embed_core.index._sync import Sync
from embed_core.index._walk import Skipped, canonical
from embed_core.index._weigher import Weigher
from embed_core.index._writer import Writer

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
            folder: an index, or where one is to be.
            model: whatever `resolve_embed_model` takes; None means the one that built the index.
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
            store = self._store()
            if store is None and self._given is None:
                raise ConfigurationError(self._no_index())
            model = resolve_embed_model(self._given if store is None or self._given is not None else store.stamp.model)
            if store is not None:
                store.stamp.check(model, self.folder)
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
        """Bring the index up to date with files and folders; return what was done.

        Embeds what is new or has changed since the last time, and removes what is gone below the paths. Whatever stops
        it, what is finished is kept, and the next call goes on from there. Files that cannot be read are listed.

        Args:
            paths: files and folders.
            show_progress: whether to show a bar.
            dry_run: only return what would be done, with an estimate of what it takes; nothing is sent or written.
            batch_jobs: embed by the jobs of the model's provider, which are cheaper and take up to a day; a run that
                was stopped goes on with the jobs that it has sent.

        Raises:
            InvalidInputError: a path does not exist.
            SpaceMismatchError: the index was built with another model.
            EmbedError: another process is writing, or the model failed.
        """
        roots = [canonical(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
        jobs = partial(JobWriter, scope=os.pathsep.join(sorted(roots)), show_progress=show_progress)
        with self._writer(jobs if batch_jobs else None, dry_run=dry_run) as writer:
            Sync(self.folder, writer, self._splitter()).run(roots, show_progress=show_progress)
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
        """Bring the index up to date with all records of a source; return what was done.

        A record is known by its source and its id. What is new or has another text is embedded; where only metadata
        have changed, they are kept without embedding. Records that an earlier call found in the same source under the
        same prefix, and this one does not, are removed. Of each record only its id and a hash are held in memory.

        Args:
            records: see `read_records`; a `Skipped` stands for a row that cannot be read, and while there is one,
                nothing is removed.
            source: what the records come from: a name, or the path of a file.
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
        jobs = partial(JobWriter, scope=f"{name} {prefix}", show_progress=show_progress)
        with self._writer(jobs if batch_jobs else None, dry_run=dry_run) as writer:
            RecordSync(writer, self._splitter(), name, prefix).run(records, show_progress=show_progress)
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

        What is compared is the mean of its vectors, weighted by length. It itself is left out; its equals are not.
        No model is needed.

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
        """Return what the index holds.

        Raises:
            ConfigurationError: there is no index in the folder.
        """
        return Stats.of(self.folder, self._existing())

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
        store = self._store()
        if store is None:
            raise ConfigurationError(self._no_index())
        return store

    def _no_index(self) -> str:
        return f"there is no index in `{self.folder}`; make one with `embed index PATH --into {self.folder}`"

    @contextmanager
    def _writer(self, jobs: Callable[..., JobWriter] | None, *, dry_run: bool) -> Iterator[Writer]:
        """Lend what a run writes with, while no other run writes; `jobs` makes it where there are to be jobs."""
        if not self.exists:
            check_new(self.folder)
        self._splitter()
        model, cache = self.model, self.folder / CACHE
        if dry_run:
            with cached(model, cache if cache.exists() else None) as lent:
                yield Weigher(self.folder, self._store(), lent, self._new_stamp, batch_jobs=jobs is not None)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with only_writer(self.folder / LOCK), cached(model, cache) as lent:
            self._opened = None
            if (store := self._store()) is not None:  # another process may have made it just now
                store.stamp.check(model, self.folder)
            writer = (jobs or Writer)(self.folder, store, lent, self._new_stamp)
            yield writer
        self._opened = writer.store

    def _new_stamp(self, dimension: int) -> Stamp:
        return Stamp.of(self.model, dimension, self._splitter(), store_text=self._fixed["store_text"] is not False)

    def _splitter(self) -> TextSplitter:
        """Return what cuts texts: as in the index, where there is one."""
        store = self._store()
        if store is None:
            size, overlap = self._fixed["chunk_size"], self._fixed["chunk_overlap"]
            size = _CHUNK_SIZE if size is None else size
            return TextSplitter(size, min(_CHUNK_OVERLAP, size // 10) if overlap is None else overlap)
        _check_fixed(store.stamp, self._fixed)
        return TextSplitter(store.stamp.chunk_size, store.stamp.chunk_overlap)


def _check_fixed(stamp: Stamp, wanted: Mapping[str, int | None]) -> None:
    for name, value in wanted.items():
        if value not in {None, built := getattr(stamp, name)}:
            msg = (
                f"`{name}` is {value}, but the index was built with {built}; leave it out, or index into another folder"
            )
            raise ConfigurationError(msg)


def _check_count(k: object) -> None:
    if not isinstance(k, int) or k < 1:
        raise InvalidInputError(f"`k` is {k!r}; it must be a number from 1 on")
