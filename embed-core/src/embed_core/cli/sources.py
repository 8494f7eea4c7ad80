"""`embed sources`."""

from __future__ import annotations

from dataclasses import asdict

import click

from embed_core.cli._common import format_option, short_path, show


@click.command("sources")
@click.argument("folder", type=click.Path())
@format_option
def command(folder: str, form: str) -> None:
    """List the files and sources of records in an index.

    A file that is gone is marked; `embed remove` takes it out of the index.
    """
    from embed_core.index import Index

    found = [asdict(source) for source in Index(folder).sources()]
    if form == "table":
        found = [row | {"source": short_path(row["source"]), "gone": "gone" if row["gone"] else ""} for row in found]
    show(found, form)
