"""The table of an index: one row per chunk, in LanceDB; every change is one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from embed_core import Vectors
from embed_core.errors import EmbedError, StoreError
from embed_core.index._arrow import HIT_COLUMNS, ITEM, ITEM_COLUMNS, KEY, chunk_rows, hit, schema, with_items
from embed_core.index._extra import extra, is_crash
from embed_core.index._folder import TABLE, check_own
from embed_core.index._header import Header
from embed_core.index._item import ChunkedItem, Item
from embed_core.index._results import Hit

T = TypeVar("T")


@contextmanager
def ours(place: str) -> Iterator[None]:
    """Turn a failure of the disk or of LanceDB into an error of the package."""
    try:
        yield
    except EmbedError:
        raise
    except BaseException as error:
        if not is_crash(error):
            raise
        msg = f"{place} cannot be read or written ({type(error).__name__}: {str(error)[:_SHOWN]})"
        remedy = "make room on the disk or correct its permissions, or delete a damaged index and index again"
        raise StoreError(f"{msg}; {remedy}") from error


_IN_TABLE = "the table of the index"
_SHOWN = 200  # characters of an error

_TABLE = TABLE.removesuffix(".lance")
_ROWS_AT_ONCE = 10_000
_REFRESHED_AT_ONCE = 2048
_CACHE_BYTES = 32_000_000
_FEW = 32
_AT_ONCE = timedelta(milliseconds=1)  # zero would warn about searches under way, which try again
_LAST = "\U0010ffff"  # sorts behind every character in use


class Store:
    """The chunks of an index, with the files and records they come from."""

    def __init__(self, table: Any, header: Header) -> None:
        self._table = table
        self.header = header

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Return the store in a folder, or None where there is none.

        Raises:
            StoreError: there is one that is damaged or of another format.
            ConfigurationError: a name of the index is a link.
        """
        check_own(folder)
        if not (folder / TABLE).is_dir():  # LanceDB would make it
            return None
        try:
            table = _connect(folder).open_table(_TABLE)
            header = table.schema.metadata[b"embed_core"]
        except ValueError:  # begun and not finished
            return None
        except BaseException as error:
            if not is_crash(error):
                raise
            msg = f"the index in `{folder}` is damaged ({str(error)[:_SHOWN]}); delete the folder and index again"
            raise StoreError(msg) from error
        return cls(table, Header.from_json(header, folder))

    @classmethod
    @ours(_IN_TABLE)
    def create(cls, folder: Path, header: Header) -> Self:
        """Make an empty store."""
        table = _connect(folder).create_table(_TABLE, schema=schema(header.dimension, header.to_json()))
        return cls(table, header)

    def files(self) -> dict[str, Item]:
        """Return the files by name."""
        return {item.source: item for item in self._items(_equal("id", ""))}

    def records(self, source: str) -> Iterator[Item]:
        """Yield the records of a source."""
        return self._items(_equal("source", source) & ~_equal("id", ""))

    @ours(_IN_TABLE)
    def sources(self) -> list[tuple[str, int, int]]:
        """Return the name of each file and source of records, with the numbers of its records and chunks."""
        pa, pc = extra("pyarrow"), extra("pyarrow.compute")
        rows = self._table.search().select([*KEY, "note"]).limit(None).to_arrow()
        is_record, is_first = pc.not_equal(rows["id"], ""), pc.equal(rows["number"], 0)
        counts = {"records": pc.and_(is_record, is_first), "chunks": pc.is_null(rows["note"])}
        columns = {name: pc.cast(column, pa.int64()) for name, column in counts.items()}
        table = pa.table({"source": rows["source"], "is_record": is_record, **columns})
        sums = table.group_by(["source", "is_record"]).aggregate([(name, "sum") for name in columns])
        listed = sums.select(["source", "records_sum", "chunks_sum"]).to_pylist()
        return sorted(tuple(row.values()) for row in listed)

    def find(self, id_: str) -> list[Item]:
        """Return the records with this id, which are of different sources."""
        return _again(lambda: list(self._items(_equal("id", id_))))

    def ids(self, source: str | None) -> Iterator[str]:
        """Yield the ids of the records, of one source or of all."""
        of_source = ~_equal("id", "") if source is None else ~_equal("id", "") & _equal("source", source)
        return (row["id"] for row in self._first_rows(of_source, ["id"]))

    def _items(self, condition: Any) -> Iterator[Item]:
        return (Item(**row) for row in self._first_rows(condition, ITEM_COLUMNS))

    def _first_rows(self, condition: Any, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        with ours(_IN_TABLE):
            search = self._table.search().where(_equal("number", 0) & condition).select(columns).limit(None)
            for batch in search.to_batches(_ROWS_AT_ONCE):
                yield from batch.to_pylist()

    @ours(_IN_TABLE)
    def write(self, items: Sequence[ChunkedItem], vectors: Mapping[str, Vectors]) -> None:
        """Store items with the vectors of their chunks, by text: new ones in one commit, and changed ones in another.

        The items are files, or records of one source.
        """
        new, held = ([one for one in items if one.held is is_held] for is_held in (False, True))
        if new:
            self._table.add(self._rows(new, vectors), on_bad_vectors="null")
        if held:
            writing = self._table.merge_insert(KEY).when_matched_update_all().when_not_matched_insert_all()
            writing = writing.when_not_matched_by_source_delete(_one_of([one.item for one in held]))
            writing.execute(self._rows(held, vectors), on_bad_vectors="null")

    def _rows(self, items: Sequence[ChunkedItem], vectors: Mapping[str, Vectors]) -> Any:
        return chunk_rows(items, vectors, self._table.schema, with_text=self.header.store_text)

    @ours(_IN_TABLE)
    def refresh(self, items: Sequence[Item]) -> None:
        """Write new data of items whose content is the same: times, metadata."""
        new = {(item.source, item.id): item for item in items}
        for some in portions(self._numbers(items), _REFRESHED_AT_ONCE):
            # Whole rows: given only some columns, LanceDB would read the whole table.
            rows = with_items(self._table.take_row_ids(some).to_arrow(), new)
            self._table.merge_insert(KEY).when_matched_update_all().execute(rows, on_bad_vectors="null")

    @ours(_IN_TABLE)
    def remove(self, items: Sequence[Item]) -> None:
        """Remove some files, or some records of one source."""
        for some in portions(self._numbers(items), _ROWS_AT_ONCE):
            self._table.delete(f"_rowid IN ({', '.join(map(str, some))})")

    def _numbers(self, items: Sequence[Item]) -> list[int]:
        """Return the row numbers of some files, or some records of one source; far faster than a long condition."""
        pa, pc = extra("pyarrow"), extra("pyarrow.compute")
        rows = self._table.search().select(ITEM).with_row_id(True).limit(None).to_arrow()
        among = (pc.is_in(rows[name], pa.array({getattr(item, name) for item in items})) for name in ITEM)
        numbers: list[int] = rows.filter(pc.and_(*among))["_rowid"].to_pylist()
        return numbers

    @ours(_IN_TABLE)
    def search(self, vector: Vectors, k: int, prefix: str = "") -> list[Hit]:
        """Return the `k` nearest chunks by the cosine of all of them, the best first; equal ones by name and place.

        With a prefix, only chunks of records whose id begins with it.
        """
        rows = _again(lambda: self._nearest(vector, k, prefix))
        return sorted(map(hit, rows), key=lambda hit: (-hit.score, hit.source, hit.id or "", hit.start))

    def _nearest(self, vector: Vectors, k: int, prefix: str) -> Sequence[Mapping[str, Any]]:
        if not (count := int(self._table.count_rows())):
            return []
        search = self._table.search(vector, vector_column_name="vector").distance_type("cosine").bypass_vector_index()
        if prefix:
            search = search.where(_column("id").gte(prefix) & _column("id").lt(prefix + _LAST))
        rows: list[Mapping[str, Any]] = search.select([*HIT_COLUMNS, "_distance"]).limit(min(k, count)).to_list()
        return rows

    @ours(_IN_TABLE)
    def mean(self, item: Item) -> Vectors | None:
        """Return the mean of an item's vectors, weighted by length, of shape (dimension,); None where it has none."""
        search = self._table.search().where(_one_of([item])).select(["start", "end", "vector"]).limit(None)
        rows = _again(search.to_arrow)
        rows = rows.filter(rows["vector"].is_valid())
        if not len(rows):
            return None
        lengths = rows["end"].to_numpy() - rows["start"].to_numpy()
        vectors = rows["vector"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
        mean: Vectors = np.average(vectors, axis=0, weights=lengths).astype(np.float32)
        return mean

    @ours(_IN_TABLE)
    def counts(self) -> dict[str, int]:
        """Return the numbers of files with text, of records with text and of chunks."""
        conditions = {"files": " AND number = 0 AND id = ''", "records": " AND number = 0 AND id <> ''", "chunks": ""}
        return {name: int(self._table.count_rows(f"note IS NULL{rest}")) for name, rest in conditions.items()}

    @ours(_IN_TABLE)
    def tidy(self) -> None:
        """Merge the parts that many commits leave behind, and delete the rest of earlier versions and killed runs.

        This may write the whole table again, so it waits for some commits.
        """
        if len(self._table.list_versions()) > _FEW:
            self._table.optimize(cleanup_older_than=_AT_ONCE, delete_unverified=True)


def portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one shorter."""
    rest = iter(items)
    return iter(lambda: list(islice(rest, size)), [])


def _connect(folder: Path) -> Any:
    lancedb = extra("lancedb")
    # By default it keeps its knowledge of former versions, half a gigabyte after a thousand commits.
    session = lancedb.Session(index_cache_size_bytes=_CACHE_BYTES, metadata_cache_size_bytes=_CACHE_BYTES)
    # Without the interval, a table stays at the version it was opened at, although other processes write.
    return lancedb.connect(folder, read_consistency_interval=timedelta(0), session=session)


def _again(read: Callable[[], T]) -> T:
    try:
        return read()
    except (RuntimeError, StoreError):  # a writer has deleted the version that this began with
        return read()


def _column(name: str) -> Any:
    """Return a column to make conditions of; no name or id is ever part of SQL text."""
    return extra("lancedb.expr").col(name)


def _equal(name: str, value: str | int) -> Any:
    return _column(name).eq(value)


def _one_of(items: Sequence[Item]) -> Any:
    """Return the condition that a row belongs to one of some files, or some records of one source."""
    sources, ids = {item.source for item in items}, {item.id for item in items}
    return _column("source").isin(sorted(sources)) & _column("id").isin(sorted(ids))
