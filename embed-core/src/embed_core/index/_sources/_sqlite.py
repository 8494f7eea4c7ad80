"""Rows of an SQLite database, which is only read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from embed_core.errors import InvalidInputError
from embed_core.index._sources._columns import Row, check_names

_TABLES = """
    SELECT name, printf('SELECT * FROM "%w"', name) FROM sqlite_master
    WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name
"""


def sqlite_rows(path: str, sql: str | None, attach: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of a query, or of the one table there is.

    Args:
        path: the file.
        sql: a query; None means all of the only table.
        attach: more files, by the names that the query has for them.

    Raises:
        InvalidInputError: a file is no SQLite database, the query fails or gives no rows, or there are several tables.
        ConfigurationError: two columns have one name.
    """
    try:
        with closing(sqlite3.connect(_uri(path), uri=True)) as database:
            database.text_factory = _text
            for name, file in attach.items():
                database.execute("ATTACH DATABASE ? AS ?", (_uri(file), name))
            database.set_authorizer(_no_more_files)
            found = database.execute(_whole_table(database, path) if sql is None else sql)
            if found.description is None:
                raise InvalidInputError(f"the query `{sql}` gives no rows; expected a `SELECT`")
            names = [column[0] for column in found.description]
            check_names(names, path)
            for number, values in enumerate(found, 1):
                yield Row(f"row {number}", dict(zip(names, values, strict=True)))
    except sqlite3.Error as error:
        raise InvalidInputError(f"SQLite cannot read that from `{path}`: {error}") from error


def _no_more_files(action: int, *_: object) -> int:
    """Forbid `ATTACH`, and so `VACUUM INTO`: they write files, where all that is open is open for reading only."""
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_ATTACH else sqlite3.SQLITE_OK


def _uri(path: str) -> str:
    return f"{Path(path).absolute().as_uri()}?mode=ro"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")  # bytes that are no text are refused later, by their row


def _whole_table(database: sqlite3.Connection, path: str) -> str:
    """Return the query for all of the only table, which SQLite quotes itself."""
    tables = database.execute(_TABLES).fetchall()
    if len(tables) != 1:
        there = f"the tables {', '.join(f'`{name}`' for name, _ in tables)}" if tables else "no table"
        raise InvalidInputError(f"`{path}` has {there}; give a query, as in `--sql 'SELECT …'`")
    return str(tables[0][1])
