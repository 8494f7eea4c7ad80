"""`embed remove`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("remove")
@click.argument("folder", type=click.Path())
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--source", metavar="PATH", help="Remove the records of PATH that have the ids NAME...")
def command(folder: str, names: tuple[str, ...], source: str | None) -> None:
    """Remove files or records from an index.

    NAME is a file, a folder with all that was in it, or a source of records as `embed sources` lists it, of which `-`
    is standard input. Only the index changes. No model is loaded.
    """
    from embed_core.index import Index

    where = source if source in {None, "-"} else Path(source)
    removed = Index(folder).remove(names, source=where).removed
    click.echo(f"{removed} removed")
