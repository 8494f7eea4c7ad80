"""Where `embed index` finds records instead of files, and how it reads them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

import click

if TYPE_CHECKING:
    from embed_core.index import Record, Skipped

Form: TypeAlias = Literal["csv", "json", "jsonl", "sqlite", "tsv"]
F = TypeVar("F", bound=Callable[..., Any])

STDIN = "-"
_OPTIONS = (
    click.option(
        "--from",
        "form",
        type=click.Choice(get_args(Form)),
        help="Index each row of the files as a record; `-` is standard input.",
    ),
    click.option("--id", "id_column", metavar="COLUMN", help="Holds the ids. [default: id, or made from the texts]"),
    click.option(
        "--text",
        "text_columns",
        metavar="COLUMN",
        multiple=True,
        help="Holds the text; repeat it to join several. [default: text, or all but the id]",
    ),
    click.option("--prefix", default="", metavar="TEXT", help="Put before every id."),
    click.option("--sql", metavar="QUERY", help="What to read of a database. [default: its only table]"),
    click.option("--attach", nargs=2, multiple=True, metavar="NAME PATH", help="Another database for the query."),
    click.option("--encoding", metavar="NAME", help="Of the rows, as in `cp1252`. [default: UTF-8]"),
)


def source_options(command: F) -> F:
    """Add what `Sources` is made of."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Sources:
    """The options that say how rows become records."""

    form: Form | None
    id_column: str | None
    text_columns: Sequence[str]
    prefix: str
    sql: str | None
    attach: Sequence[tuple[str, str]]
    encoding: str | None

    def check(self, paths: Sequence[str]) -> None:
        """Refuse options that do not go together.

        Raises:
            UsageError: and which.
        """
        for_records = {
            "id": self.id_column, "text": self.text_columns, "prefix": self.prefix,
            "sql": self.sql, "attach": self.attach, "encoding": self.encoding,
        }  # fmt: skip
        given = [f"`--{name}`" for name, value in for_records.items() if value]
        if self.form is None and given:
            msg = f"{given[0]} goes with `--from`, which makes records of rows"
            raise click.UsageError(msg)
        if self.form != "sqlite" and (self.sql is not None or self.attach):
            msg = f"`--sql` and `--attach` go with `--from sqlite`, not with `--from {self.form}`"
            raise click.UsageError(msg)
        if STDIN in paths and (self.form in {None, "sqlite"} or paths.count(STDIN) > 1):
            msg = "`-`, standard input, goes once with `--from csv`, `json`, `jsonl` or `tsv`"
            raise click.UsageError(msg)

    def records(self, form: Form, path: str) -> Iterator[Record | Skipped]:
        """Yield the records of a file or of standard input."""
        from embed_core.index import read_records

        return read_records(
            sys.stdin.buffer if path == STDIN else Path(path),
            form,
            id_column=self.id_column,
            text_columns=self.text_columns,
            encoding=self.encoding,
            sql=self.sql,
            attach=dict(self.attach),
        )
