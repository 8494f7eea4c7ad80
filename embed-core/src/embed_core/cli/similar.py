"""`embed similar`."""

from __future__ import annotations

from pathlib import Path

import click

from embed_core.cli._common import count_option, format_option, show_hits


@click.command("similar")
@click.argument("folder", type=click.Path())
@click.argument("item", metavar="ID")
@count_option
@click.option("--source", metavar="PATH", help="Where the record comes from, if several sources have its ID.")
@format_option
def command(folder: str, item: str, count: int, source: str | None, form: str) -> None:
    """Find the neighbours of a record or file in an index.

    ID is a record's id or a file's path. Each result is the nearest chunk of another record or file. No model is
    loaded.
    """
    from embed_core.index import Index

    where = source if source in {None, "-"} else Path(source)
    show_hits(Index(folder).similar(item, count, source=where), form)
