"""A store in one SQLite file, shared by threads and processes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
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

_LOOK_UP = "SELECT k, v FROM kv WHERE k IN (KEYS) AND typeof(v) = 'blob'"  # damage can change a value's type


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
        found: dict[bytes, bytes] = {}
        with self._reading() as db:
            for start in range(0, len(keys), _KEYS_PER_LOOKUP):
                batch = keys[start : start + _KEYS_PER_LOOKUP]
                found.update(db.execute(_LOOK_UP.replace("KEYS", ",".join("?" * len(batch))), batch).fetchall())
        return found

    def put_many(self, items: Mapping[bytes, bytes]) -> None:
        with self._transaction() as db:
            db.executemany("INSERT INTO kv VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v", items.items())
            self._make_room(db)

    def delete_many(self, keys: Sequence[bytes]) -> None:
        with self._transaction() as db:
            db.executemany("DELETE FROM kv WHERE k = ?", ((key,) for key in keys))

    def clear(self) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM kv")
        # Where another process reads, the file keeps its size, and later entries fill it.
        with suppress(StoreError), self._reading() as db:
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def __len__(self) -> int:
        with self._reading() as db:
            return _number(db, "SELECT count(*) FROM kv")

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
        while _used(db) > self.max_bytes and (count := _number(db, "SELECT count(*) FROM kv")):
            oldest = (count // _PRUNED_AT_ONCE + 1,)
            db.execute("DELETE FROM kv WHERE rowid IN (SELECT rowid FROM kv ORDER BY rowid LIMIT ?)", oldest)


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
    tables = _number(db, "SELECT count(*) FROM sqlite_master")
    if _number(db, "PRAGMA application_id") != _APPLICATION_ID and tables:
        msg = f"`{path}` is another program's database; name a file of its own for the store"
        raise StoreError(msg)
    for pragma in _PRAGMAS:
        db.execute(f"PRAGMA {pragma}")
    if not tables:
        db.execute("BEGIN IMMEDIATE")
        db.execute("CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB)")
        db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        db.execute("COMMIT")


def _used(db: sqlite3.Connection) -> int:
    pages = _number(db, "PRAGMA page_count") - _number(db, "PRAGMA freelist_count")
    return pages * _number(db, "PRAGMA page_size")


def _number(db: sqlite3.Connection, query: str) -> int:
    (number,) = db.execute(query).fetchone()
    return int(number)


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
