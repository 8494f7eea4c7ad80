"""The options of `embed index --from`, which makes each row of a file a record."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

import click

if TYPE_CHECKING:
    from embed_core.index import Record, Skipped

F = TypeVar("F", bound=Callable[..., Any])
Form: TypeAlias = Literal["csv", "json", "jsonl", "sqlite", "tsv"]
STDIN = "-"

_OPTIONS = (
    click.option("--encoding", metavar="NAME", help="Of the rows, as in `cp1252`. [default: UTF-8]"),
    click.option("--attach", nargs=2, multiple=True, metavar="NAME PATH", help="Another database for the query."),
    click.option("--sql", metavar="QUERY", help="Reads a database. [default: all rows of its only table]"),
    click.option("--prefix", default="", metavar="TEXT", help="Put before every id."),
    click.option(
        "--text",
        metavar="COLUMN",
        multiple=True,
        help="Holds the text; repeat it to join several. [default: text, or all but the id]",
    ),
    click.option("--id", metavar="COLUMN", help="Holds the ids. [default: id, or made from the texts]"),
    click.option(
        "--from",
        "form",
        type=click.Choice(get_args(Form)),
        help="Index each row of the files as a record; `-` is standard input.",
    ),
)


def record_options(command: F) -> F:
    """Add `--from`, the parameter `form`, and the options that go with it."""
    for option in _OPTIONS:
        command = option(command)
    return command


def check_options(paths: Sequence[str], form: Form | None, options: Mapping[str, Any]) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: the message names them.
    """
    given = [f"`--{name}`" for name, value in options.items() if value]
    if form is None and given:
        msg = f"{given[0]} goes with `--from`, which makes records of rows"
        raise click.UsageError(msg)
    if form != "sqlite" and {"`--sql`", "`--attach`"} & set(given):
        msg = f"`--sql` and `--attach` go with `--from sqlite`, not with `--from {form}`"
        raise click.UsageError(msg)
    if STDIN in paths and (form in {None, "sqlite"} or paths.count(STDIN) > 1):
        msg = "`-`, standard input, goes once with `--from csv`, `json`, `jsonl` or `tsv`"
        raise click.UsageError(msg)


def read(path: str, form: Form, options: Mapping[str, Any]) -> Iterator[Record | Skipped]:
    """Yield the records of a file or of standard input."""
    from embed_core.index import read_records

    return read_records(
        sys.stdin.buffer if path == STDIN else Path(path),
        form,
        id_column=options["id"],
        text_columns=options["text"],
        encoding=options["encoding"],
        sql=options["sql"],
        attach=dict(options["attach"]),
    )
