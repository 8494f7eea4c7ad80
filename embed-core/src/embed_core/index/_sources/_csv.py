"""Rows of CSV and TSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import chain

from embed_core.errors import InvalidInputError
from embed_core.index._parsed import EmptySourceError, UnreadableError
from embed_core.index._results import Skipped
from embed_core.index._sources._columns import Row, check_names
from embed_core.index._sources._lines import MOST_CHARACTERS, Lines

DELIMITERS = {"csv": ",;", "tsv": "\t"}
"""By form; the most frequent in the first line counts: where numbers have commas, Excel writes semicolons."""


def csv_rows(stream: io.TextIOWrapper, delimiters: str, source: str) -> Iterator[Row | Skipped]:
    """Yield the rows after the first one, which names the columns, or the reason why a row cannot be read.

    Raises:
        InvalidInputError: there is no first row.
        ConfigurationError: two columns have one name.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MOST_CHARACTERS))  # the process's; 128 KB is no long text
    lines = Lines(stream)
    try:
        first = next(lines, "")
        reader = csv.reader(chain([first], lines), delimiter=max(delimiters, key=first.count), strict=True)
        names = next(reader, [])
    except (UnreadableError, csv.Error) as error:
        raise InvalidInputError(f"line 1 of `{source}` cannot be read ({error}); expected names of columns") from error
    if not first:
        raise EmptySourceError(source)
    if not names:
        raise InvalidInputError(f"`{source}` begins with no names of columns")
    check_names(names, source)
    while True:
        start = lines.number + 1
        try:
            values = next(reader, None)
        except (UnreadableError, csv.Error) as error:
            reason = error if isinstance(error, UnreadableError) else f"is not well-formed ({error})"
            yield Skipped(source, f"{_place(start, lines.number)} {reason}")
            continue
        if values is None:
            return
        if len(values) == len(names):
            if any(values):
                yield Row(_place(start, lines.number), dict(zip(names, values, strict=True)))
        elif any(values):
            counts = f"{len(values)} value{'' if len(values) == 1 else 's'} for {len(names)} columns"
            yield Skipped(source, f"{_place(start, lines.number)} has {counts}")


def _place(first: int, last: int) -> str:
    return f"line {first}" if last <= first else f"lines {first} to {last}"
