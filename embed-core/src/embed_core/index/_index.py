"""A folder that can be searched by meaning."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_core import BaseEmbedding, resolve_embed_model
from embed_core._splitting import TextSplitter
from embed_core.errors import ConfigurationError, InvalidInputError
from embed_core.index._lock import only_writer
from embed_core.index._rows import Hit
from embed_core.index._stamp import Stamp
from embed_core.index._store import Store
from embed_core.index._sync import Changes, Sync
from embed_core.index._walk import TABLE_FOLDER, canonical
from embed_core.kvstore import SQLiteKVStore

_CHUNK_SIZE = 800  # characters: some 200 tokens, which the smallest models in use take whole
_CHUNK_OVERLAP = 80
_CACHE, _LOCK = "cache.sqlite", "write.lock"
_OURS = (_CACHE, _LOCK, TABLE_FOLDER)


@dataclass(frozen=True, slots=True)
class Stats:
    """What an index holds.

    Attributes:
        model: the model as a spec, without its options.
        bytes: the room on the disk, a cache in the folder included.
        created: the time in UTC, ISO 8601.
    """

    folder: str
    model: str
    fingerprint: str
    dimension: int
    files: int
    chunks: int
    bytes: int
    created: str


class Index:
    """Files cut into chunks, with a vector for each; one folder, which remembers its model.

    Several processes may search while one writes; a search sees whole files only, old or new.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        model: BaseEmbedding | str | Mapping[str, Any] | None = None,
        *,
        chunk_size: int | None = None,
        chunk_overlap: int | None = None,
    ) -> None:
        """Name a folder; it is made by the first `add`.

        Args:
            folder: an index, or where one is to be.
            model: whatever `resolve_embed_model` takes; None means the one that built the index.
            chunk_size: most characters of a chunk, by default 800; fixed when the index is made.
            chunk_overlap: most characters that a chunk repeats of the one before it, by default 80; fixed as well.
        """
        self.folder = Path(canonical(folder))
        self._given = model
        self._chunks = {"chunk_size": chunk_size, "chunk_overlap": chunk_overlap}
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
        self, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, show_progress: bool = False
    ) -> Changes:
        """Bring the index up to date with files and folders; return what was done.

        Embeds what is new or has changed since the last time, and removes what is gone below the paths. Whatever stops
        it, what is finished is kept, and the next call goes on from there. Files that cannot be read are listed.

        Raises:
            InvalidInputError: a path does not exist.
            SpaceMismatchError: the index was built with another model.
            EmbedError: another process is writing, or the model failed.
        """
        roots = [canonical(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
        self._check_folder()
        splitter, model = self._splitter(), self.model
        self.folder.mkdir(parents=True, exist_ok=True)
        with only_writer(self.folder / _LOCK), _cached(model, self.folder / _CACHE):
            self._opened = None
            sync = Sync(self.folder, self._store(), model, splitter)
            sync.run(roots, show_progress=show_progress)
        self._opened = sync.store
        return sync.changes

    def search(self, question: str, k: int = 5) -> list[Hit]:
        """Return the `k` chunks nearest to a question, the best first; all of them are compared.

        Raises:
            InvalidInputError: the question is blank or `k` is below 1.
            ConfigurationError: there is no index in the folder.
            SpaceMismatchError: the index was built with another model.
        """
        if not question.strip():
            raise InvalidInputError("the question is blank; ask in some words")
        if k < 1:
            raise InvalidInputError(f"`k` is {k}; it must be at least 1")
        store = self._existing()
        return store.search(self.model.embed_queries([question])[0], k)

    def stats(self) -> Stats:
        """Return what the index holds.

        Raises:
            ConfigurationError: there is no index in the folder.
        """
        store = self._existing()
        stamp = store.stamp
        return Stats(
            folder=str(self.folder),
            model=stamp.model_label,
            fingerprint=stamp.fingerprint,
            dimension=stamp.dimension,
            files=store.count_files(),
            chunks=store.count_chunks(),
            bytes=sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file()),
            created=stamp.created,
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
        store = self._store()
        if store is None:
            raise ConfigurationError(self._no_index())
        return store

    def _no_index(self) -> str:
        return f"there is no index in `{self.folder}`; make one with `embed index PATH --into {self.folder}`"

    def _check_folder(self) -> None:
        """Refuse to spread a new index among other things."""
        if self.exists:
            return
        try:
            others = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith((".", *_OURS)))
        except FileNotFoundError:
            return
        except NotADirectoryError as error:
            raise ConfigurationError(f"`{self.folder}` is a file; name a folder for the index") from error
        if others:
            msg = f"`{self.folder}` holds other things, such as `{others[0]}`; name a new or empty folder for the index"
            raise ConfigurationError(msg)

    def _splitter(self) -> TextSplitter:
        store = self._store()
        if store is None:
            size, overlap = self._chunks["chunk_size"], self._chunks["chunk_overlap"]
            size = _CHUNK_SIZE if size is None else size
            return TextSplitter(size, min(_CHUNK_OVERLAP, size // 10) if overlap is None else overlap)
        return _same_splitter(store.stamp, self._chunks)


def _same_splitter(stamp: Stamp, wanted: Mapping[str, int | None]) -> TextSplitter:
    for name, value in wanted.items():
        if value not in {None, built := getattr(stamp, name)}:
            msg = (
                f"`{name}` is {value}, but the index was built with {built}; leave it out, or index into another folder"
            )
            raise ConfigurationError(msg)
    return TextSplitter(stamp.chunk_size, stamp.chunk_overlap)


@contextmanager
def _cached(model: BaseEmbedding, path: Path) -> Iterator[None]:
    """Lend a cache to a model that has none, so that nothing is embedded twice by a run that had to be repeated."""
    if model.embeddings_cache is not None:
        yield
        return
    model.embeddings_cache = store = SQLiteKVStore(path)
    try:
        yield
    finally:
        model.embeddings_cache = None
        store.close()
