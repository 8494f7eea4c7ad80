"""The table of an index: one row per chunk, in LanceDB; every change is one commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from embed_core._types import Vectors
from embed_core.errors import StoreError
from embed_core.index._entry import Entry, File
from embed_core.index._extra import extra
from embed_core.index._rows import FILE_COLUMNS, HIT_COLUMNS, KEY, Hit, chunk_rows, file_rows, hit, schema
from embed_core.index._stamp import Stamp
from embed_core.index._walk import TABLE_FOLDER

_TABLE = TABLE_FOLDER.removesuffix(".lance")
_NAMES_AT_ONCE = 500
_FEW = 32
_AT_ONCE = timedelta(milliseconds=1)  # zero would warn about searches under way, which try again


class Store:
    """The chunks of an index, with the files they come from."""

    def __init__(self, table: Any, stamp: Stamp) -> None:
        self._table = table
        self.stamp = stamp

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Return the store in a folder, or None where there is none.

        Raises:
            StoreError: there is one that is damaged or newer than this version.
        """
        if not (folder / TABLE_FOLDER).is_dir():  # LanceDB would make it
            return None
        try:
            table = _connect(folder).open_table(_TABLE)
            stamp = table.schema.metadata[b"embed_core"]
        except ValueError:  # begun and not finished
            return None
        except (RuntimeError, OSError, KeyError, TypeError) as error:
            msg = f"the index in `{folder}` is damaged ({str(error)[:200]}); delete the folder and index again"
            raise StoreError(msg) from error
        return cls(table, Stamp.from_json(stamp, folder))

    @classmethod
    def create(cls, folder: Path, stamp: Stamp) -> Self:
        """Make an empty store."""
        table = _connect(folder).create_table(_TABLE, schema=schema(stamp.dimension, stamp.to_json()))
        return cls(table, stamp)

    def files(self) -> dict[str, File]:
        """Return the files by name."""
        rows = self._table.search().where("number = 0").select(FILE_COLUMNS).limit(None).to_arrow()
        return {row["source"]: File(**row) for batch in rows.to_batches(10_000) for row in batch.to_pylist()}

    def add(self, entries: Sequence[Entry], vectors: Vectors) -> None:
        """Store files that the table does not hold, in one commit."""
        self._table.add(chunk_rows(entries, vectors, self._table.schema), on_bad_vectors="null")

    def replace(self, entries: Sequence[Entry], vectors: Vectors) -> None:
        """Put new rows in the place of all that the table holds of some files, in one commit."""
        rows = chunk_rows(entries, vectors, self._table.schema)
        writing = self._table.merge_insert(KEY).when_matched_update_all().when_not_matched_insert_all()
        writing = writing.when_not_matched_by_source_delete(_one_of(entry.file.source for entry in entries))
        writing.execute(rows, on_bad_vectors="null")

    def refresh(self, files: Sequence[File]) -> None:
        """Note the new times of files whose content is the same."""
        for some in _portions(files):
            self._table.merge_insert(KEY).when_matched_update_all().execute(file_rows(some, self._table.schema))

    def remove(self, sources: Sequence[str]) -> None:
        """Forget some files."""
        for some in _portions(sources):
            self._table.delete(_one_of(some))

    def search(self, vector: Vectors, k: int) -> list[Hit]:
        """Return the `k` nearest chunks by the cosine of all of them, the best first; equal ones by name and place."""
        try:
            rows = self._nearest(vector, k)
        except RuntimeError:  # a writer has deleted the version that this search began with
            rows = self._nearest(vector, k)
        return sorted(map(hit, rows), key=lambda hit: (-hit.score, hit.source, hit.start))

    def _nearest(self, vector: Vectors, k: int) -> Sequence[Mapping[str, Any]]:
        if not (count := self.count_rows()):
            return []
        search = self._table.search(vector, vector_column_name="vector").distance_type("cosine").bypass_vector_index()
        rows: list[Mapping[str, Any]] = search.select([*HIT_COLUMNS, "_distance"]).limit(min(k, count)).to_list()
        return rows

    def count_rows(self) -> int:
        """Return the number of rows: the chunks, and the files without text."""
        return int(self._table.count_rows())

    def count_chunks(self) -> int:
        """Return the number of chunks."""
        return int(self._table.count_rows("note IS NULL"))

    def count_files(self) -> int:
        """Return the number of files with text."""
        return int(self._table.count_rows("number = 0 AND note IS NULL"))

    def tidy(self) -> None:
        """Merge the parts that many commits leave behind, and delete what earlier versions and killed runs left.

        This may write the whole table again, so it waits for some commits.
        """
        if len(self._table.list_versions()) > _FEW:
            self._table.optimize(cleanup_older_than=_AT_ONCE, delete_unverified=True)


def _connect(folder: Path) -> Any:
    # Without the interval, a table stays at the version it was opened at, whatever other processes write.
    return extra("lancedb").connect(folder, read_consistency_interval=timedelta(0))


def _portions(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[start : start + _NAMES_AT_ONCE] for start in range(0, len(items), _NAMES_AT_ONCE))


def _one_of(sources: Iterable[str]) -> Any:
    """Return the condition that a row belongs to one of some files; no name is ever part of SQL text."""
    return extra("lancedb.expr").col("source").isin(list(sources))
