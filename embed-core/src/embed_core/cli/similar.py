"""`embed similar`."""

from __future__ import annotations

from pathlib import Path

import click

from embed_core.cli._common import count_option, format_option
from embed_core.cli._hits import show_hits


@click.command("similar")
@click.argument("folder", type=click.Path())
@click.argument("item", metavar="ID")
@count_option
@click.option("--source", metavar="PATH", help="Where the record comes from, if several sources have its ID.")
@format_option
def command(folder: str, item: str, count: int, source: str | None, form: str) -> None:
    """Find what is nearest to a record or file that an index holds.

    ID is a record's id or a file's path. Each result is another record or file, by the chunk of it that is nearest. No
    model is loaded.
    """
    from embed_core.index import Index

    where = source if source in {None, "-"} else Path(source)
    show_hits(Index(folder).similar(item, count, source=where), form)
