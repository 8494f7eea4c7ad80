"""A store in one SQLite file, shared by threads and processes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

from embed_core.errors import ConfigurationError, StoreError
from embed_core.forks import Lock
from embed_core.kvstore._connections import Connections
from embed_core.kvstore._interface import KVStore

_APPLICATION_ID = 0x656D6264  # "embd": marks the files of this store among databases
_KEYS_PER_LOOKUP = 500  # SQLite before 3.32 takes at most 999 variables
_PRUNED_AT_ONCE = 10  # a tenth of the entries: few enough to keep most, enough not to prune at every write

# Measured with vectors of 384 and 1,536 dimensions: at 32 KiB a page the file takes 1.07 times the vectors, at 16 KiB
# or less up to 1.33 times; bigger pages write more to the log for each key. Memory mapping saves a third of a look-up.
_PRAGMAS = ("page_size = 32768", "mmap_size = 1073741824", "synchronous = NORMAL", "journal_mode = WAL")

# Entries lie in `kv` in the order in which they came, and these tables tell the row of each key. Keys are random: in
# one index of all, each new one rewrites a page of its own, 68 KiB for each vector at two million. So new keys go into
# a small index, and on into the next each time that so many more rows have come, in order and many to a page.
_INDEXES = {"recent": 1 << 11, "former": 1 << 16, "settled": 0}


def _each(query: str) -> list[str]:
    return [query.replace("INDEX", index) for index in _INDEXES]


_TABLES = "SELECT count(*) FROM sqlite_master WHERE type = 'table'"
_IDS = ", ".join(reversed(_each("(SELECT id FROM INDEX WHERE k = asked.k)")))
_LOCATE = "WITH asked (k) AS (VALUES KEYS) SELECT coalesce(IDS) AS id, k FROM asked WHERE id IS NOT NULL"
# The key comes from the row, because damage can lead an index to another row, and change the type of a value.
_LOOK_UP = """
WITH asked (k) AS (VALUES KEYS)
SELECT kv.k, v FROM asked CROSS JOIN kv ON kv.rowid = coalesce(IDS) WHERE typeof(v) = 'blob'
"""


class SQLiteKVStore(KVStore):
    """Keeps entries in a SQLite file: entries that `put_many` has written survive the process, however it ends.

    Several threads and processes may use one file at once, on a local disk: SQLite's log needs memory that they share.
    A pickle of the store is its path.
    """

    def __init__(self, path: str | PathLike[str], *, max_bytes: int | None = None, timeout: float = 30.0) -> None:
        """Name the file, which is made, with its folders, on first use.

        Args:
            path: the file, of this store alone; `~` is the user's home.
            max_bytes: most bytes of entries; the oldest entries are dropped for new ones. None means without limit.
            timeout: seconds to wait for another process that writes.

        Raises:
            ConfigurationError: `path` is no path of a file, or `max_bytes` is not positive.
        """
        if str(path) in {"", ":memory:"} or str(path).startswith("file:"):
            msg = f"`path` is {str(path)!r}, which is no path of a file; for a store in memory use `MemoryKVStore`"
            raise ConfigurationError(msg)
        if max_bytes is not None and max_bytes < 1:
            msg = f"`max_bytes` is {max_bytes}; it must be at least 1, or None for no limit"
            raise ConfigurationError(msg)
        self.path = Path(path).expanduser().absolute()
        self.max_bytes = max_bytes
        self.timeout = timeout
        self._connections = Connections(partial(_connect, self.path, timeout), timeout=timeout)
        self._waited_in_vain = 0
        self._writing = Lock()  # fairer and faster than SQLite's own waiting, within the process

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        with self._reading() as db:
            return dict(_ask(db, _LOOK_UP, keys))

    def put_many(self, items: Mapping[bytes, bytes]) -> None:
        with self._transaction() as db:
            _put(db, items, step=1)
            self._make_room(db)

    def keep_many(self, items: Mapping[bytes, bytes]) -> None:
        with self._transaction() as db:
            _put(db, items, step=-1)

    def delete_many(self, keys: Sequence[bytes]) -> None:
        with self._transaction() as db:
            _delete(db, keys)

    def clear(self) -> None:
        with self._transaction() as db:
            for query in ("DELETE FROM kv", *_each("DELETE FROM INDEX")):
                db.execute(query)
        # Where another process reads, the file keeps its size, and later entries fill it.
        with suppress(StoreError), self._reading() as db:
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def __len__(self) -> int:
        with self._reading() as db:
            return sum(_number(db, query) for query in _each("SELECT count(*) FROM INDEX"))

    def size_in_bytes(self) -> int:
        with self._reading() as db:
            return _used(db)

    def close(self) -> None:
        self._connections.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), max_bytes=self.max_bytes, timeout=self.timeout), (str(self.path),)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._connections.use() as db:
                yield db
        except (sqlite3.Error, OSError) as error:
            msg = f"the store `{self.path}` cannot be used ({error}); {_remedy(error)}"
            raise StoreError(msg) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        waited = self._waited_in_vain
        with self._reading() as db, self._writing:
            self._begin(db, waited)
            yield db
            db.execute("COMMIT")

    def _begin(self, db: sqlite3.Connection, waited: int) -> None:
        if waited != self._waited_in_vain:  # not one wait after the other for all the threads that queue here
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            self._waited_in_vain += 1
            raise

    def _make_room(self, db: sqlite3.Connection) -> None:
        if self.max_bytes is None:
            return
        while _used(db) > self.max_bytes and (first := _number(db, "SELECT min(rowid) FROM kv WHERE rowid > 0")):
            last = first + (_number(db, "SELECT max(rowid) FROM kv") - first) // _PRUNED_AT_ONCE
            for query in (
                "DELETE FROM kv WHERE rowid BETWEEN ? AND ?",
                *_each("DELETE FROM INDEX WHERE id BETWEEN ? AND ?"),
            ):
                db.execute(query, (first, last))


def _connect(path: Path, timeout: float) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout
    while True:
        db = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        try:
            _prepare(db, path)
        except BaseException as error:
            db.close()
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)  # where processes open a new file at once, SQLite itself does not wait
        else:
            return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    tables = _number(db, _TABLES)
    if _number(db, "PRAGMA application_id") != _APPLICATION_ID and tables:
        msg = f"`{path}` is another program's database; name a file of its own for the store"
        raise StoreError(msg)
    for pragma in _PRAGMAS:
        db.execute(f"PRAGMA {pragma}")
    if tables <= len(_INDEXES):
        db.execute("BEGIN IMMEDIATE")
        if _number(db, _TABLES) <= len(_INDEXES):  # no other process was faster
            db.execute("CREATE TABLE IF NOT EXISTS kv (k BLOB, v BLOB)")
            for query in _each("CREATE TABLE INDEX (k BLOB PRIMARY KEY, id INTEGER) WITHOUT ROWID"):
                db.execute(query)
            db.execute("INSERT OR IGNORE INTO settled SELECT k, rowid FROM kv")  # an older file had an index of its own
            db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        db.execute("COMMIT")


def _put(db: sqlite3.Connection, items: Mapping[bytes, bytes], *, step: int) -> None:
    """Store items in rows after the last one, or, with a step of -1, before the first, where no room is made."""
    entries = list(items.items())
    _delete(db, [key for key, _ in entries])
    end = _number(db, "SELECT max(rowid) FROM kv" if step > 0 else "SELECT min(rowid) FROM kv")
    before = max(step * end, 0)
    after = before + len(entries)
    rows = range(step * (before + 1), step * (after + 1), step)
    values = [(row, key, value) for row, (key, value) in zip(rows, entries, strict=True)]
    db.executemany("INSERT OR REPLACE INTO kv (rowid, k, v) VALUES (?, ?, ?)", values)
    db.executemany("INSERT OR REPLACE INTO recent VALUES (?, ?)", [(key, row) for row, key, _ in values])
    for (index, size), (following, _) in pairwise(_INDEXES.items()):
        if before // size != after // size:
            db.execute(
                "INSERT OR REPLACE INTO NEXT SELECT * FROM INDEX".replace("NEXT", following).replace("INDEX", index)
            )
            db.execute("DELETE FROM INDEX".replace("INDEX", index))


def _delete(db: sqlite3.Connection, keys: Sequence[bytes]) -> None:
    if found := _ask(db, _LOCATE, keys):
        db.executemany("DELETE FROM kv WHERE rowid = ?", [(row,) for row, _ in found])
        for query in _each("DELETE FROM INDEX WHERE k = ?"):
            db.executemany(query, [(key,) for _, key in found])


def _ask(db: sqlite3.Connection, query: str, keys: Sequence[bytes]) -> list[tuple[Any, Any]]:
    """Return the answers to a query about keys."""
    found = []
    for start in range(0, len(keys), _KEYS_PER_LOOKUP):
        batch = keys[start : start + _KEYS_PER_LOOKUP]
        values = ",".join(["(?)"] * len(batch))
        found += db.execute(query.replace("IDS", _IDS).replace("KEYS", values), batch).fetchall()
    return found


def _used(db: sqlite3.Connection) -> int:
    pages = _number(db, "PRAGMA page_count") - _number(db, "PRAGMA freelist_count")
    return pages * _number(db, "PRAGMA page_size")


def _number(db: sqlite3.Connection, query: str) -> int:
    (number,) = db.execute(query).fetchone()
    return int(number or 0)


def _remedy(error: Exception) -> str:
    match _code(error):
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return "the file is damaged or no such store: move it away or name another file"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "another process keeps it locked: end that process, or set a longer `timeout`"
        case _:
            return "check the path, its permissions and the free space on the disk"


def _code(error: BaseException) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF  # the primary code, without the detail above it
