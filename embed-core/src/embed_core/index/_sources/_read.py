"""Records from rows of any form."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias, get_args

from embed_core.errors import ConfigurationError, InvalidInputError
from embed_core.index._record import Record
from embed_core.index._results import Skipped
from embed_core.index._sources._columns import Columns, Row
from embed_core.index._sources._csv import DELIMITERS, csv_rows
from embed_core.index._sources._json import json_rows, jsonl_rows
from embed_core.index._sources._lines import decoded
from embed_core.index._sources._sqlite import sqlite_rows
from embed_core.index._walk import canonical

Form: TypeAlias = Literal["csv", "json", "jsonl", "sqlite", "tsv"]
_LOOKED_AT = 1000  # rows
FORMS: Final[Sequence[str]] = get_args(Form)


def read_records(
    source: str | os.PathLike[str] | BinaryIO,
    form: Form,
    *,
    id_column: str | None = None,
    text_columns: Sequence[str] = (),
    encoding: str | None = None,
    sql: str | None = None,
    attach: Mapping[str, str | os.PathLike[str]] | None = None,
) -> Iterator[Record | Skipped]:
    """Yield the records in a file one by one, and a `Skipped` for each row that cannot be read.

    Args:
        source: the path of a file; or a binary stream, except for SQLite.
        form: "csv" or "tsv" with names of columns in the first line, "json" (an array of objects), "jsonl" (one object
            a line) or "sqlite".
        id_column: the column of the ids; by default `id`, and where there is none, ids are made from the texts.
        text_columns: the columns of the text, joined by line breaks; by default `text`, and where there is none, all
            but the id. All other columns are metadata.
        encoding: of the text; by default that of a byte order mark, or else UTF-8.
        sql: for SQLite, a query; by default all of the only table.
        attach: for SQLite, more files, by the names that the query has for them.

    Raises:
        InvalidInputError: nothing can be read.
        ConfigurationError: a column is not there, or an encoding is unknown.
    """
    if form not in FORMS:
        raise ConfigurationError(f"`form` is {form!r}; it must be one of {', '.join(FORMS)}")
    name = canonical(source) if isinstance(source, str | os.PathLike) else "-"
    if form == "sqlite":
        if name == "-":
            raise ConfigurationError("a database cannot be read from a stream; name a file")
        others = {alias: canonical(path) for alias, path in (attach or {}).items()}
        rows: Iterator[Row | Skipped] = sqlite_rows(name, sql, others)
    elif sql is not None or attach:
        raise ConfigurationError(f"`sql` and `attach` are for `sqlite`, not for `{form}`")
    else:
        rows = _text_rows(source, name, form, encoding)
    try:
        first, columns = _choose(rows, form, name, id_column, text_columns)
        for row in chain(first, rows):
            if isinstance(row, Skipped):
                yield row
            elif columns is not None:
                yield columns.record(row)
    except UnicodeError as error:
        raise InvalidInputError(f"`{name}` is no text in its encoding ({error}); convert it to UTF-8") from error


def _choose(
    rows: Iterator[Row | Skipped], form: Form, name: str, id_column: str | None, text_columns: Sequence[str]
) -> tuple[list[Row | Skipped], Columns | None]:
    """Return the columns of the id and the text, with the rows that were read for it; no columns without a row.

    An object of JSON may lack keys that others have, so a column that is named is looked for in many.
    """
    wanted = {*text_columns, *(() if id_column is None else (id_column,))}
    first: list[Row | Skipped] = []
    names: dict[str, None] = {}
    columns: Columns | None = None
    for row in rows:
        first.append(row)
        if isinstance(row, Row):
            names |= dict.fromkeys(row.values)
            columns = columns or Columns.choose(list(names), id_column, text_columns)
            if wanted <= names.keys() or not form.startswith("json"):
                break
        if len(first) == _LOOKED_AT:
            break
    if columns is not None:
        columns.check([*names], name)
    return first, columns


def _text_rows(
    source: str | os.PathLike[str] | BinaryIO, name: str, form: Form, encoding: str | None
) -> Iterator[Row | Skipped]:
    with ExitStack() as stack:
        stream = stack.enter_context(Path(source).open("rb")) if isinstance(source, str | os.PathLike) else source
        text = stack.enter_context(decoded(stream, encoding))
        if form in DELIMITERS:
            yield from csv_rows(text, DELIMITERS[form], name)
        else:
            yield from (json_rows if form == "json" else jsonl_rows)(text, name)
